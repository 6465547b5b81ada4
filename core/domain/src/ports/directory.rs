use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::Unavailable;
use crate::{
    Address, ChannelKind, DeviceId, DeviceKind, ExternalUserId, SegmentName, TenantId, Timestamp, TopicName,
    UserId,
};

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

    /// What planning needs of `users`, in their order; who is active now is read anew each time. Batch, hot.
    async fn profiles(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Profile>, Unavailable>;

    /// A page of everybody whom any of `audiences` holds, behind `after`. A user or a subscription that is newer than
    /// `born_before` is out; whom a segment holds is judged now. A segment that does not exist holds nobody.
    async fn audience(
        &self,
        tenant: &TenantId,
        audiences: &[Audience],
        after: Option<UserId>,
        born_before: Timestamp,
        limit: usize,
    ) -> Result<AudiencePage, Unavailable>;

    /// Whether a segment exists, so that a request that names another can be refused.
    async fn has_segment(&self, tenant: &TenantId, segment: &SegmentName) -> Result<bool, Unavailable>;

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
    /// An IANA time zone.
    pub zone: Option<Arc<str>>,
    /// What the tenant says of the user; a JSON object, at most 16 KiB. May be empty.
    pub attributes: Arc<Map<String, Value>>,
    /// Addresses in use. Devices without an address outside the inbox are not among them.
    pub devices: Vec<ProfileDevice>,
    /// Until when somebody is in front of one of the user's devices, also of one that has no address: the end of the latest
    /// focused heartbeat's life. Always in the future when it was read; nobody is active without.
    pub active_until: Option<Timestamp>,
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
    /// What it is.
    pub kind: DeviceKind,
    /// What it runs on, as its app calls it: `ios`, `android`, `firefox`.
    pub platform: Option<Arc<str>>,
    /// Its own language, where it differs from the user's.
    pub locale: Option<Arc<str>>,
    /// Until when somebody is in front of it; as [`Profile::active_until`].
    pub active_until: Option<Timestamp>,
}

/// Many users under one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// Those who are subscribed to a topic for good, connected or not.
    Topic(TopicName),
    /// Those whom a saved filter holds.
    Segment(SegmentName),
}

/// A part of an audience, by internal id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AudiencePage {
    /// Ascending, each once, at most as many as were asked for. May be fewer, even none, while `next` says that there is
    /// more: a look at many users ends after so many rows.
    pub users: Vec<UserId>,
    /// What to go on after; none at the end.
    pub next: Option<UserId>,
}

/// A room that holds a person's data and can forget it. Erasing twice is erasing once.
#[async_trait]
pub trait Erase: Send + Sync + 'static {
    /// Removes everything that names or describes the user; what must be counted keeps its numbers alone.
    async fn erase(&self, tenant: &TenantId, user: UserId) -> Result<(), Unavailable>;
}
