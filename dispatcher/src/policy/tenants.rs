//! What holds for all of a tenant's users.

use std::{sync::Arc, time::Duration};

use carillon_domain::{Clock, TenantId, ports::Unavailable};
use carillon_policy::TenantPolicy;
use carillon_sql::StoreError;
use moka::future::Cache;

use crate::store::Store;

/// How long another node's change may go unnoticed.
const LIFE: Duration = Duration::from_secs(5);
/// Tenants whose policy is kept in memory.
const TENANTS: u64 = 10_000;

/// Tenants' policies, kept briefly in memory.
pub(crate) struct TenantPolicies {
    cache: Cache<TenantId, Arc<TenantPolicy>>,
    quiet: Cache<TenantId, bool>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl TenantPolicies {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            cache: Cache::builder().max_capacity(TENANTS).time_to_live(LIFE).build(),
            quiet: Cache::builder().max_capacity(TENANTS).time_to_live(LIFE).build(),
            store,
            clock,
        }
    }

    /// A tenant's; the default one where none was written.
    pub(crate) async fn get(&self, tenant: &TenantId) -> Result<Arc<TenantPolicy>, Unavailable> {
        if let Some(policy) = self.cache.get(tenant).await {
            return Ok(policy);
        }
        let stored = self.store.tenant_policy(tenant).await?;
        let read = stored.as_deref().map(serde_json::from_str).transpose();
        let read = read.map_err(|error| StoreError::Corrupt(format!("a tenant's policy: {error}")))?;
        let policy: Arc<TenantPolicy> = Arc::new(read.unwrap_or_default());
        self.cache.insert(tenant.clone(), Arc::clone(&policy)).await;
        Ok(policy)
    }

    /// Whether any of a tenant's users may have quiet hours: otherwise nobody's time zone is asked for.
    pub(crate) async fn anybody_is_quiet(&self, tenant: &TenantId) -> Result<bool, Unavailable> {
        if let Some(quiet) = self.quiet.get(tenant).await {
            return Ok(quiet);
        }
        let quiet = self.store.has_user_policies(tenant).await?;
        self.quiet.insert(tenant.clone(), quiet).await;
        Ok(quiet)
    }

    /// A user of a tenant has quiet hours from now on.
    pub(crate) async fn somebody_is_quiet(&self, tenant: &TenantId) {
        self.quiet.insert(tenant.clone(), true).await;
    }

    /// Replaces a tenant's.
    pub(crate) async fn put(&self, tenant: &TenantId, policy: &TenantPolicy) -> Result<(), Unavailable> {
        let body = serde_json::to_string(policy)
            .map_err(|error| StoreError::Corrupt(format!("a tenant's policy: {error}")))?;
        self.store
            .put_tenant_policy(self.clock.now(), tenant, &body)
            .await?;
        self.cache.invalidate(tenant).await;
        Ok(())
    }
}
