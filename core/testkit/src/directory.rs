use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use carillon_domain::{
    Address, ChannelKind, Clock as _, ExternalUserId, SystemClock, TenantId, UserId,
    ports::{Directory, Profile, Unavailable},
};

/// A directory in memory: the port's in-process version, for rooms that are tested without the service.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    ids: Mutex<HashMap<(TenantId, ExternalUserId), UserId>>,
    profiles: Mutex<HashMap<(TenantId, UserId), Profile>>,
}

impl MemoryDirectory {
    /// Cuts a name off, as an erasure does: its next mention makes somebody else.
    pub fn forget(&self, tenant: &TenantId, user: &ExternalUserId) {
        self.lock().remove(&(tenant.clone(), user.clone()));
    }

    /// Gives a user a language and addresses.
    pub fn describe(&self, tenant: &TenantId, user: UserId, profile: Profile) {
        self.profiles().insert((tenant.clone(), user), profile);
    }

    fn profiles(&self) -> MutexGuard<'_, HashMap<(TenantId, UserId), Profile>> {
        self.profiles.lock().unwrap_or_else(PoisonError::into_inner)
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

    async fn profiles(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Profile>, Unavailable> {
        let profiles = self.profiles();
        let profile = |user: &UserId| {
            profiles
                .get(&(tenant.clone(), *user))
                .cloned()
                .unwrap_or_default()
        };
        Ok(users.iter().map(profile).collect())
    }

    async fn retire(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        _reason: &str,
    ) -> Result<(), Unavailable> {
        let mut profiles = self.profiles();
        for ((of, _), profile) in profiles.iter_mut() {
            if of == tenant {
                profile
                    .devices
                    .retain(|device| (&device.channel, &device.address) != (channel, address));
            }
        }
        Ok(())
    }
}
