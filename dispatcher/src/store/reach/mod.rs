//! What went to devices and what came back: rows that fade, and how far each tenant's deliveries are counted.

use std::collections::BTreeMap;

use async_trait::async_trait;
use carillon_domain::{Address, ChannelKind, DeliveryId, DeviceId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

use super::{
    outside::far_receipts,
    rows::{number, word},
};
use crate::reach::{FADING, Fading, Reach};

/// Which deliveries are counted.
pub(crate) struct Probes<'a> {
    /// Over these channels.
    pub(crate) channels: &'a [ChannelKind],
    /// Made before then.
    pub(crate) until: Timestamp,
    pub(crate) fading: Fading,
    /// At the most.
    pub(crate) limit: usize,
}

/// How well an address has proved to be within reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReachRow {
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    pub(crate) user: UserId,
    pub(crate) device: Option<DeviceId>,
    pub(crate) reach: Reach,
    /// Whether anything ever came back over the tenant's channel: else silence says nothing.
    pub(crate) proved: bool,
}

impl ReachRow {
    /// From 0, out of reach, to 100; none while too little is known.
    pub(crate) fn score(&self, now: Timestamp) -> Option<u8> {
        if self.proved {
            self.reach.score(now, FADING)
        } else {
            None
        }
    }
}

/// What is durable of it.
#[async_trait]
pub(crate) trait ReachStore: Send + Sync + 'static {
    /// The next tenant with deliveries outside the inbox.
    async fn next_probed(&self, after: Option<&TenantId>) -> Result<Option<TenantId>, StoreError>;

    /// Counts a tenant's deliveries that were not counted before, each once; answers how many were looked at.
    async fn count_probes(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        probes: &Probes<'_>,
    ) -> Result<usize, StoreError>;

    /// Something came back of these deliveries: of those that were counted already it counts now.
    async fn came_back(
        &self,
        now: Timestamp,
        deliveries: &[(TenantId, DeliveryId)],
        fading: Fading,
    ) -> Result<(), StoreError>;

    /// A user's addresses as far as something is known of them, at most 200.
    async fn reach_of(&self, tenant: &TenantId, user: UserId) -> Result<Vec<ReachRow>, StoreError>;

    /// Forgets up to `limit` addresses that nothing went to since `cutoff`; answers how many.
    async fn forget_reach(&self, cutoff: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// Addresses that one user's list has at the most.
pub(super) const MOST_ADDRESSES: i64 = 200;

/// The smallest id that a delivery made then, or later, has.
pub(super) fn from_then(at: Timestamp) -> String {
    let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    DeliveryId::from_bytes(bytes).to_string()
}

/// A delivery's id, channel, address, user, device, state, receipts.
pub(super) type ProbeColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
);

/// Channel and address.
pub(super) type ReachKey = (String, String);

/// What is counted of one address: whose it is, which device's, and whether each probe came back, in order.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) user: String,
    pub(super) device: Option<String>,
    pub(super) came: Vec<bool>,
}

/// What these deliveries say, by their addresses.
pub(super) fn counted(
    rows: &[ProbeColumns],
    channels: &[ChannelKind],
) -> Result<BTreeMap<ReachKey, Counted>, StoreError> {
    let mut all: BTreeMap<ReachKey, Counted> = BTreeMap::new();
    for (_, channel, address, user, device, state, receipts) in rows {
        let probes = channels.iter().any(|kind| kind.as_str() == channel);
        if !probes || user.is_empty() {
            continue;
        }
        let came = far_receipts(receipts.as_deref())?
            .iter()
            .any(|receipt| receipt.kind != "failed");
        // What was not sent says nothing, and of what was taken back only that it came.
        if !came && !matches!(state.as_str(), "accepted" | "delivered") {
            continue;
        }
        let one = all.entry((channel.clone(), address.clone())).or_default();
        (one.user, one.device) = (user.clone(), device.clone());
        one.came.push(came);
    }
    Ok(all)
}

/// Sent, came, at, when something came last.
pub(super) type ReachColumns = (i64, i64, i64, Option<i64>);

pub(super) fn reach((sent, came, at, came_at): ReachColumns) -> Result<Reach, StoreError> {
    Ok(Reach {
        sent: number(sent)?,
        came: number(came)?,
        at: Timestamp::from_micros(at),
        came_at: came_at.map(Timestamp::from_micros),
    })
}

/// Channel, address, user, device, then [`ReachColumns`], then whether anything ever came back over the channel.
pub(super) type ReachRowColumns = (
    String,
    String,
    String,
    Option<String>,
    i64,
    i64,
    i64,
    Option<i64>,
    i64,
);

/// The columns of [`reach_row`], of a row `r`.
pub(super) const REACH_ROW: &str = "r.channel, r.address, r.user_id, r.device, r.sent, r.came, r.at, r.came_at, \
    CAST(CASE WHEN EXISTS (SELECT 1 FROM reachability p WHERE p.tenant = r.tenant AND p.channel = r.channel \
    AND p.came_at IS NOT NULL) THEN 1 ELSE 0 END AS BIGINT)";

pub(super) fn reach_row(row: ReachRowColumns) -> Result<ReachRow, StoreError> {
    let (channel, address, user, device, sent, came, at, came_at, proved) = row;
    Ok(ReachRow {
        channel: word(&channel)?,
        address: word(&address)?,
        user: word(&user)?,
        device: device.as_deref().map(word).transpose()?,
        reach: reach((sent, came, at, came_at))?,
        proved: proved != 0,
    })
}

/// The same with the tenant before it.
pub(super) type ReachOfColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    i64,
    i64,
    i64,
    Option<i64>,
    i64,
);

pub(super) fn with_tenant(row: ReachOfColumns) -> (String, ReachRowColumns) {
    let (tenant, channel, address, user, device, sent, came, at, came_at, proved) = row;
    (
        tenant,
        (channel, address, user, device, sent, came, at, came_at, proved),
    )
}
