use async_trait::async_trait;

use super::Unavailable;
use std::sync::Arc;

use crate::{Address, ChannelKind, DeviceId, ExternalUserId, TenantId, UserId};

/// Who is who: a tenant's own user ids and our internal ones.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The internal ids of `users`, in their order; a user exists from the first mention. Batch, hot, cached.
    async fn resolve(&self, tenant: &TenantId, users: &[ExternalUserId]) -> Result<Vec<UserId>, Unavailable>;

    /// The internal id of a user that was mentioned before.
    async fn find(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserId>, Unavailable>;

    /// The tenant's own ids of `users`, in their order; `None` for an erased one.
    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Option<ExternalUserId>>, Unavailable>;

    /// Language and addresses of `users`, in their order. Batch, hot.
    async fn profiles(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Profile>, Unavailable>;

    /// An address is dead: it is not used again until somebody registers it anew. Retiring twice is retiring once.
    async fn retire(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        reason: &str,
    ) -> Result<(), Unavailable>;
}

/// What planning needs to know of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// BCP 47.
    pub locale: Option<Arc<str>>,
    /// Addresses in use.
    pub devices: Vec<ProfileDevice>,
}

/// One address of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileDevice {
    /// Which device.
    pub id: DeviceId,
    /// Over which channel.
    pub channel: ChannelKind,
    /// Where, in the channel's canonical spelling.
    pub address: Address,
    /// Whether its owner confirmed it, or the tenant vouched for it.
    pub verified: bool,
}

/// A room that holds a person's data and can forget it. Erasing twice is erasing once.
#[async_trait]
pub trait Erase: Send + Sync + 'static {
    /// Removes everything that names or describes the user; what must be counted keeps its numbers alone.
    async fn erase(&self, tenant: &TenantId, user: UserId) -> Result<(), Unavailable>;
}
