use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use carillon_domain::{
    Address, ChannelKind, Clock as _, ExternalUserId, SegmentName, SystemClock, TenantId, Timestamp, UserId,
    ports::{Audience, AudiencePage, Directory, Profile, Unavailable},
};

/// Who belongs to an audience, and since when.
type Members = BTreeMap<UserId, Timestamp>;

/// A directory in memory: the port's in-process version, for rooms that are tested without the service.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    ids: Mutex<HashMap<(TenantId, ExternalUserId), UserId>>,
    profiles: Mutex<HashMap<(TenantId, UserId), Profile>>,
    audiences: Mutex<HashMap<(TenantId, Audience), Members>>,
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

    /// Puts a user into an audience, which exists from then on.
    pub fn join(&self, tenant: &TenantId, audience: Audience, user: UserId, since: Timestamp) {
        let mut audiences = self.audiences();
        let members = audiences.entry((tenant.clone(), audience)).or_default();
        members.entry(user).or_insert(since);
    }

    /// Takes a user out of an audience, which goes on to exist.
    pub fn leave(&self, tenant: &TenantId, audience: Audience, user: UserId) {
        let mut audiences = self.audiences();
        audiences
            .entry((tenant.clone(), audience))
            .or_default()
            .remove(&user);
    }

    fn audiences(&self) -> MutexGuard<'_, HashMap<(TenantId, Audience), Members>> {
        self.audiences.lock().unwrap_or_else(PoisonError::into_inner)
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

    async fn audience(
        &self,
        tenant: &TenantId,
        audiences: &[Audience],
        after: Option<UserId>,
        born_before: Timestamp,
        limit: usize,
    ) -> Result<AudiencePage, Unavailable> {
        let known = self.audiences();
        let all: BTreeSet<UserId> = audiences
            .iter()
            .filter_map(|audience| known.get(&(tenant.clone(), audience.clone())))
            .flatten()
            .filter(|(user, since)| after.is_none_or(|after| **user > after) && **since <= born_before)
            .map(|(user, _)| *user)
            .collect();
        let users: Vec<UserId> = all.iter().copied().take(limit).collect();
        let next = users.last().copied().filter(|_| all.len() > users.len());
        Ok(AudiencePage { users, next })
    }

    async fn has_segment(&self, tenant: &TenantId, segment: &SegmentName) -> Result<bool, Unavailable> {
        let audience = Audience::Segment(segment.clone());
        Ok(self.audiences().contains_key(&(tenant.clone(), audience)))
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
