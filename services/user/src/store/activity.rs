use async_trait::async_trait;
use carillon_domain::{DeviceId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

use super::{corrupt, user_id};
use crate::activity::Beat;

/// Who is in front of which device. Each method is one transaction.
#[async_trait]
pub(crate) trait ActivityStore: Send + Sync + 'static {
    /// Keeps heartbeats, one of each device, unless a later one is kept; those of users who do not exist are dropped.
    async fn keep_beats(&self, beats: &[Beat]) -> Result<(), StoreError>;

    /// Which devices of `users` somebody is in front of at `now`.
    async fn active(
        &self,
        tenant: &TenantId,
        users: &[UserId],
        now: Timestamp,
    ) -> Result<Vec<Active>, StoreError>;

    /// Removes at most [`super::PURGE_BATCH`] heartbeats whose life is over; answers how many.
    async fn purge_activity(&self, now: Timestamp) -> Result<i64, StoreError>;
}

/// A device that somebody is in front of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) user: UserId,
    /// None: nothing is registered under the name that the heartbeat gave.
    pub(crate) device: Option<DeviceId>,
    pub(crate) until: Timestamp,
}

/// The devices of a user that are kept at the most: what names ever new ones is not remembered.
pub(super) const MAX_ACTIVE: i64 = 64;

/// A heartbeat to be written, as JSON that both databases take apart.
#[derive(serde::Serialize)]
struct BeatJson<'a> {
    tenant: &'a TenantId,
    user_id: UserId,
    device: &'a str,
    at: i64,
    active_until: i64,
}

/// The heartbeats as a JSON list.
pub(super) fn to_json(beats: &[Beat]) -> Result<String, StoreError> {
    let rows: Vec<_> = beats
        .iter()
        .map(|beat| BeatJson {
            tenant: &beat.tenant,
            user_id: beat.user,
            device: beat.device.as_str(),
            at: beat.at.as_micros(),
            active_until: beat.until.as_micros(),
        })
        .collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Corrupt(error.to_string()))
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
