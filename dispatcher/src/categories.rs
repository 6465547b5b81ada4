//! Categories: where notifications go that name no channels, what their users may choose, and what holds until they do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use carillon_domain::{Category, ChannelKind, Clock, TenantId, ports::Unavailable};
use carillon_policy::{CategoryPolicy, Plan};
use carillon_sql::StoreError;
use moka::future::Cache;
use serde::{Deserialize, Serialize};

use crate::store::{
    Store,
    catalog::{CategoryRow, CategoryWrite, Put},
};

/// The most categories of a tenant.
pub(crate) const MOST: u64 = 1_000;
/// How long another node's change may go unnoticed.
const LIFE: Duration = Duration::from_secs(5);
/// Tenants whose categories are kept in memory.
const TENANTS: u64 = 10_000;

/// Categories, kept briefly in memory.
pub(crate) struct Categories {
    cache: Cache<TenantId, Arc<AllSettings>>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

/// What a tenant's categories say.
pub(crate) type AllSettings = HashMap<Category, Arc<CategorySettings>>;

/// What one category says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CategorySettings {
    /// What people call it.
    pub(crate) title: Option<String>,
    /// Where its notifications go that name no channels.
    pub(crate) channels: Arc<[ChannelKind]>,
    pub(crate) rules: CategoryRules,
}

/// What a category says beside its channels, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CategoryRules {
    /// What holds for users who did not choose.
    pub(crate) policy: Arc<CategoryPolicy>,
    /// Whether its notifications pass over preferences, quiet hours, holds and caps.
    pub(crate) critical: bool,
    /// The plan of its notifications that name neither channels nor a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
}

impl CategoryRules {
    /// From what is stored.
    pub(crate) fn read(stored: Option<&str>) -> Result<Self, StoreError> {
        let read = stored.map(serde_json::from_str).transpose();
        let rules = read.map_err(|error| StoreError::Corrupt(format!("a category's policy: {error}")))?;
        Ok(rules.unwrap_or_default())
    }

    /// As it is stored.
    pub(crate) fn write(&self) -> Result<String, Unavailable> {
        let written = serde_json::to_string(self);
        Ok(written.map_err(|error| StoreError::Corrupt(format!("a category's policy: {error}")))?)
    }
}

impl Categories {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            cache: Cache::builder().max_capacity(TENANTS).time_to_live(LIFE).build(),
            store,
            clock,
        }
    }

    /// What all of a tenant's categories say.
    pub(crate) async fn settings(&self, tenant: &TenantId) -> Result<Arc<AllSettings>, Unavailable> {
        if let Some(settings) = self.cache.get(tenant).await {
            return Ok(settings);
        }
        let rows = self
            .store
            .categories(tenant, None, u32::try_from(MOST).unwrap_or(u32::MAX))
            .await?;
        let mut settings = AllSettings::with_capacity(rows.len());
        for row in rows {
            let of_one = CategorySettings {
                title: row.title,
                channels: Arc::from(row.channels),
                rules: CategoryRules::read(row.policy.as_deref())?,
            };
            settings.insert(row.name, Arc::new(of_one));
        }
        let settings = Arc::new(settings);
        self.cache.insert(tenant.clone(), Arc::clone(&settings)).await;
        Ok(settings)
    }

    /// Makes or replaces one.
    pub(crate) async fn put(&self, tenant: &TenantId, category: &CategoryWrite) -> Result<Put, Unavailable> {
        let put = self
            .store
            .put_category(self.clock.now(), tenant, category, MOST)
            .await?;
        self.cache.invalidate(tenant).await;
        Ok(put)
    }

    /// Removes one; answers whether there was one.
    pub(crate) async fn delete(&self, tenant: &TenantId, name: &Category) -> Result<bool, Unavailable> {
        let deleted = self.store.delete_category(tenant, name).await?;
        self.cache.invalidate(tenant).await;
        Ok(deleted)
    }

    /// One of them, as the store has it.
    pub(crate) async fn get(
        &self,
        tenant: &TenantId,
        name: &Category,
    ) -> Result<Option<CategoryRow>, Unavailable> {
        Ok(self.store.category(tenant, name).await?)
    }

    /// A page of them by name, as the store has them.
    pub(crate) async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&Category>,
        limit: u32,
    ) -> Result<Vec<CategoryRow>, Unavailable> {
        Ok(self.store.categories(tenant, after, limit).await?)
    }
}
