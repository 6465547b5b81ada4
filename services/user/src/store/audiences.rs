use async_trait::async_trait;
use carillon_domain::{DeviceId, TenantId, Timestamp, TopicName, UserId};
use carillon_sql::StoreError;

use super::{corrupt, user_id};

/// Who is active, and who belongs to what. Each method is one transaction.
#[async_trait]
pub(crate) trait AudienceStore: Send + Sync + 'static {
    /// Which devices of `users` somebody is in front of at `now`.
    async fn active(
        &self,
        tenant: &TenantId,
        users: &[UserId],
        now: Timestamp,
    ) -> Result<Vec<Active>, StoreError>;

    /// Who is subscribed to a topic and since when, behind `after`, by internal id.
    async fn subscribers(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, StoreError>;
}

/// A device that somebody is in front of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) user: UserId,
    /// None: nothing is registered under the name that the heartbeat gave.
    pub(crate) device: Option<DeviceId>,
    pub(crate) until: Timestamp,
}

/// user_id, the device's id, active_until
pub(super) type ActiveRow = (String, Option<String>, i64);

pub(super) fn active((user, device, until): ActiveRow) -> Result<Active, StoreError> {
    Ok(Active {
        user: user_id(&user)?,
        device: device
            .map(|id| id.parse().map_err(|_| corrupt("a device's id")))
            .transpose()?,
        until: Timestamp::from_micros(until),
    })
}

/// user_id, created_at
pub(super) type SubscriberRow = (String, i64);

pub(super) fn subscriber((user, at): SubscriberRow) -> Result<(UserId, Timestamp), StoreError> {
    Ok((user_id(&user)?, Timestamp::from_micros(at)))
}

/// What a list begins behind, as text: nothing sorts before the empty text.
pub(super) fn behind(after: Option<UserId>) -> String {
    after.map(|user| user.to_string()).unwrap_or_default()
}

/// A limit as the databases take it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
