use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use carillon_domain::{
    Clock as _, ExternalUserId, SystemClock, TenantId, UserId,
    ports::{Directory, Unavailable},
};

/// A directory in memory: the port's in-process version, for rooms that are tested without the service.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    ids: Mutex<HashMap<(TenantId, ExternalUserId), UserId>>,
}

impl MemoryDirectory {
    /// Cuts a name off, as an erasure does: its next mention makes somebody else.
    pub fn forget(&self, tenant: &TenantId, user: &ExternalUserId) {
        self.lock().remove(&(tenant.clone(), user.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TenantId, ExternalUserId), UserId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Directory for MemoryDirectory {
    async fn resolve(&self, tenant: &TenantId, users: &[ExternalUserId]) -> Result<Vec<UserId>, Unavailable> {
        let mut ids = self.lock();
        let resolve = |user: &ExternalUserId| {
            *ids.entry((tenant.clone(), user.clone()))
                .or_insert_with(|| UserId::at(SystemClock.now()))
        };
        Ok(users.iter().map(resolve).collect())
    }

    async fn find(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserId>, Unavailable> {
        Ok(self.lock().get(&(tenant.clone(), user.clone())).copied())
    }

    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Option<ExternalUserId>>, Unavailable> {
        let ids = self.lock();
        let name = |user: &UserId| {
            ids.iter()
                .find(|((of, _), id)| of == tenant && *id == user)
                .map(|((_, name), _)| name.clone())
        };
        Ok(users.iter().map(name).collect())
    }
}
