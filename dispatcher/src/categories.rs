//! Categories: where notifications go that name no channels.

use std::{collections::HashMap, sync::Arc, time::Duration};

use carillon_domain::{Category, ChannelKind, Clock, TenantId, ports::Unavailable};
use carillon_policy::Plan;
use moka::future::Cache;

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
    cache: Cache<TenantId, Arc<Defaults>>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

/// What the categories of a tenant say.
pub(crate) type Defaults = HashMap<Category, CategoryDefaults>;

/// What a category says where a notification does not.
#[derive(Debug, Clone)]
pub(crate) struct CategoryDefaults {
    /// Where it goes, unless there is a plan.
    pub(crate) channels: Arc<[ChannelKind]>,
    pub(crate) plan: Option<Plan>,
    /// Whether its notifications pass preferences, quiet hours, holds and caps.
    pub(crate) critical: bool,
}

impl Categories {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            cache: Cache::builder().max_capacity(TENANTS).time_to_live(LIFE).build(),
            store,
            clock,
        }
    }

    /// The default channels of all of a tenant's categories.
    pub(crate) async fn defaults(&self, tenant: &TenantId) -> Result<Arc<Defaults>, Unavailable> {
        if let Some(defaults) = self.cache.get(tenant).await {
            return Ok(defaults);
        }
        let rows = self
            .store
            .categories(tenant, None, u32::try_from(MOST).unwrap_or(u32::MAX))
            .await?;
        let defaults: Arc<Defaults> = Arc::new(
            rows.into_iter()
                .map(|row| {
                    let defaults = CategoryDefaults {
                        channels: Arc::from(row.channels),
                        plan: None,
                        critical: false,
                    };
                    (row.name, defaults)
                })
                .collect(),
        );
        self.cache.insert(tenant.clone(), Arc::clone(&defaults)).await;
        Ok(defaults)
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
