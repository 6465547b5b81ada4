use std::collections::HashMap;

use async_trait::async_trait;
use carillon_domain::{
    Address, ChannelKind, ExternalUserId, SegmentName, TenantId, Timestamp, UserId,
    ports::{Audience, AudiencePage, Directory, Profile, Unavailable},
};

use crate::{Users, store::Active};

#[async_trait]
impl Directory for Users {
    async fn resolve(&self, tenant: &TenantId, users: &[ExternalUserId]) -> Result<Vec<UserId>, Unavailable> {
        let mut known = HashMap::with_capacity(users.len());
        let mut absent = self.remembered(tenant, users, &mut known).await;
        if !absent.is_empty() {
            let found = self.store.find(tenant, &absent).await?;
            self.remember(tenant, found, &mut known).await;
            absent.retain(|user| !known.contains_key(user));
        }
        if !absent.is_empty() {
            let now = self.clock.now();
            let new: Vec<_> = absent.into_iter().map(|user| (user, UserId::at(now))).collect();
            let made = self.store.make(tenant, &new, now).await?;
            self.remember(tenant, made, &mut known).await;
        }
        let ids: Option<Vec<UserId>> = users.iter().map(|user| known.get(user).copied()).collect();
        ids.ok_or_else(|| Unavailable::new("resolving users", "the store lost one that it just made"))
    }

    async fn find(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserId>, Unavailable> {
        let users = std::slice::from_ref(user);
        let mut known = HashMap::new();
        if !self.remembered(tenant, users, &mut known).await.is_empty() {
            let found = self.store.find(tenant, users).await?;
            self.remember(tenant, found, &mut known).await;
        }
        Ok(known.remove(user))
    }

    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Option<ExternalUserId>>, Unavailable> {
        let names: HashMap<UserId, ExternalUserId> =
            self.store.names(tenant, users).await?.into_iter().collect();
        Ok(users.iter().map(|user| names.get(user).cloned()).collect())
    }

    async fn profiles(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Profile>, Unavailable> {
        let mut profiles = self.read_profiles(tenant, users).await?;
        let mut active: HashMap<UserId, Vec<Active>> = HashMap::new();
        for one in self.store.active(tenant, users, self.clock.now()).await? {
            active.entry(one.user).or_default().push(one);
        }
        for (user, profile) in users.iter().zip(&mut profiles) {
            mark_active(profile, active.get(user).map(Vec::as_slice).unwrap_or_default());
        }
        Ok(profiles)
    }

    async fn audience(
        &self,
        tenant: &TenantId,
        audiences: &[Audience],
        after: Option<UserId>,
        born_before: Timestamp,
        limit: usize,
    ) -> Result<AudiencePage, Unavailable> {
        self.read_audience(tenant, audiences, after, born_before, limit)
            .await
    }

    async fn has_segment(&self, tenant: &TenantId, segment: &SegmentName) -> Result<bool, Unavailable> {
        Ok(self.store.segment(tenant, segment).await?.is_some())
    }

    async fn retire(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        reason: &str,
    ) -> Result<(), Unavailable> {
        self.retire_address(tenant, channel, address, reason).await
    }
}

impl Users {
    /// Puts those that are remembered into `known`; answers the others, each once.
    async fn remembered(
        &self,
        tenant: &TenantId,
        users: &[ExternalUserId],
        known: &mut HashMap<ExternalUserId, UserId>,
    ) -> Vec<ExternalUserId> {
        let mut absent = Vec::new();
        for user in users {
            match self.ids.get(&(tenant.clone(), user.clone())).await {
                Some(id) => {
                    known.insert(user.clone(), id);
                }
                None => absent.push(user.clone()),
            }
        }
        absent.sort_unstable();
        absent.dedup();
        absent
    }

    async fn remember(
        &self,
        tenant: &TenantId,
        pairs: Vec<(ExternalUserId, UserId)>,
        known: &mut HashMap<ExternalUserId, UserId>,
    ) {
        for (user, id) in pairs {
            self.ids.insert((tenant.clone(), user.clone()), id).await;
            known.insert(user, id);
        }
    }
}

/// Activity is never kept in memory: what another node was told counts at once.
fn mark_active(profile: &mut Profile, active: &[Active]) {
    profile.active_until = active.iter().map(|active| active.until).max();
    for device in &mut profile.devices {
        let own = active.iter().filter(|active| active.device == Some(device.id));
        device.active_until = own.map(|active| active.until).max();
    }
}
