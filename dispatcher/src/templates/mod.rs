//! Templates: what a tenant wrote once and notifications say many times. The engine behind the port checks and renders;
//! here are the versions, and which language is whose.

mod own_values;
mod template;

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Clock, TemplateName, TenantId,
    ports::{Rendered, TemplateFault, TemplateSource, Templates, Unavailable},
};
use moka::future::Cache;

use crate::store::{
    Store,
    catalog::{TemplateRow, TemplateWrite},
};

pub(crate) use own_values::OwnValues;
pub(crate) use template::{Template, TemplateError, is_locale};

/// The most templates of a tenant.
pub(crate) const MOST: u64 = 1_000;
/// Versions of a template that are kept whether or not a notification needs them.
pub(crate) const KEPT_VERSIONS: u64 = 100;
/// How long another node's newer version may go unnoticed.
const NEWEST_LIFE: Duration = Duration::from_secs(5);
/// A version never changes, so only memory bounds how long it stays.
const VERSION_LIFE: Duration = Duration::from_secs(3_600);
/// Bytes of templates that are kept in memory.
const BYTES: u64 = 32 * 1_024 * 1_024;
/// Names whose newest version is kept in memory.
const NAMES: u64 = 10_000;

/// Every tenant's templates.
pub(crate) struct TemplateBook {
    engine: Option<Arc<dyn Templates>>,
    newest: Cache<(TenantId, TemplateName), Option<u64>>,
    versions: Cache<(TenantId, TemplateName, u64), Arc<Template>>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl TemplateBook {
    pub(crate) fn new(
        engine: Option<Arc<dyn Templates>>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            engine,
            newest: Cache::builder()
                .max_capacity(NAMES)
                .time_to_live(NEWEST_LIFE)
                .build(),
            versions: Cache::builder()
                .weigher(|_, template: &Arc<Template>| u32::try_from(template.bytes()).unwrap_or(u32::MAX))
                .max_capacity(BYTES)
                .time_to_live(VERSION_LIFE)
                .build(),
            store,
            clock,
        }
    }

    /// The newest version, or the one that is named; none when there is no such template.
    pub(crate) async fn get(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        version: Option<u64>,
    ) -> Result<Option<Arc<Template>>, TemplateError> {
        let newest = (tenant.clone(), name.clone());
        let known = match version {
            Some(version) => Some(version),
            None => match self.newest.get(&newest).await {
                Some(None) => return Ok(None),
                Some(known) => known,
                None => None,
            },
        };
        if let Some(version) = known
            && let Some(template) = self.versions.get(&(tenant.clone(), name.clone(), version)).await
        {
            return Ok(Some(template));
        }
        let row = self.store.template(tenant, name, version).await?;
        if version.is_none() {
            self.newest
                .insert(newest, row.as_ref().map(|row| row.version))
                .await;
        }
        let Some(row) = row else { return Ok(None) };
        let key = (tenant.clone(), name.clone(), row.version);
        let template = Arc::new(Template::read(row)?);
        self.versions.insert(key, Arc::clone(&template)).await;
        Ok(Some(template))
    }

    /// What is wrong with one locale of a template.
    pub(crate) fn check(&self, source: &TemplateSource) -> Result<Vec<TemplateFault>, TemplateError> {
        let engine = self.engine.as_ref().ok_or(TemplateError::NoEngine)?;
        Ok(engine.check(source).err().unwrap_or_default())
    }

    /// Renders in the language that fits `locale` best.
    pub(crate) fn render(
        &self,
        template: &Template,
        locale: Option<&str>,
        data: &serde_json::Value,
        own: OwnValues<'_>,
    ) -> Result<Rendered, TemplateError> {
        let engine = self.engine.as_ref().ok_or(TemplateError::NoEngine)?;
        let (_, source) = template.choose(locale).ok_or(TemplateError::NoLocale)?;
        Ok(engine.render(source, &own.beside(data.clone()))?)
    }

    /// Writes the next version. None: the tenant has too many templates.
    pub(crate) async fn put(
        &self,
        tenant: &TenantId,
        write: &TemplateWrite,
    ) -> Result<Option<u64>, TemplateError> {
        let put = self
            .store
            .put_template(self.clock.now(), tenant, write, MOST, KEPT_VERSIONS)
            .await?;
        self.newest
            .invalidate(&(tenant.clone(), write.name.clone()))
            .await;
        Ok(put)
    }

    /// Deletes one; answers whether there was one.
    pub(crate) async fn delete(&self, tenant: &TenantId, name: &TemplateName) -> Result<bool, TemplateError> {
        let deleted = self.store.delete_template(self.clock.now(), tenant, name).await?;
        self.newest.invalidate(&(tenant.clone(), name.clone())).await;
        Ok(deleted)
    }

    /// A page of them by name.
    pub(crate) async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&TemplateName>,
        limit: u32,
    ) -> Result<Vec<TemplateRow>, TemplateError> {
        Ok(self.store.templates(tenant, after, limit).await?)
    }

    /// The versions that are kept of one, newest first.
    pub(crate) async fn versions(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
    ) -> Result<Vec<u64>, Unavailable> {
        let limit = u32::try_from(KEPT_VERSIONS).unwrap_or(u32::MAX);
        Ok(self.store.template_versions(tenant, name, limit).await?)
    }
}
