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
        self.ids.resolve(tenant, users).await
    }

    async fn find(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserId>, Unavailable> {
        self.ids.find(tenant, user).await
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

/// Activity is never kept in memory: what another node was told counts at once.
fn mark_active(profile: &mut Profile, active: &[Active]) {
    profile.active_until = active.iter().map(|active| active.until).max();
    for device in &mut profile.devices {
        let own = active.iter().filter(|active| active.device == Some(device.id));
        device.active_until = own.map(|active| active.until).max();
    }
}
