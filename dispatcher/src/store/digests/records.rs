use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use carillon_domain::{
    Category, ChannelKind, DeliveryId, NotificationId, PlainAddress, TenantId, Timestamp, UserId,
};
use carillon_policy::{Joining, OpenDigest};

use crate::store::{
    ladder::RecipientKey,
    records::{NewNotification, NotificationRow},
};

/// The most members of a digest. Those beyond go out with another one.
pub(crate) const MOST_MEMBERS: usize = 1_000;

/// One digest of a user at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DigestKey {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) category: Category,
    pub(crate) channel: ChannelKind,
    /// The period's.
    pub(crate) name: Arc<str>,
    /// The notifications' digest key; empty without one.
    pub(crate) key: Arc<str>,
}

/// Since when a digest is open, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DigestRow {
    pub(crate) opened_at: Timestamp,
    /// When its latest member joined.
    pub(crate) last_at: Timestamp,
    pub(crate) closes_at: Timestamp,
    /// When it closes at the latest: one of its members lives no longer.
    pub(crate) closes_by: Timestamp,
}

impl DigestRow {
    /// As one decides by it.
    pub(crate) const fn open(&self) -> OpenDigest {
        OpenDigest {
            opened_at: self.opened_at,
            closes_at: self.closes_at,
            closes_by: self.closes_by,
        }
    }

    /// With one more member. One that is due goes on closing: its latest member goes with it.
    pub(crate) fn joined(before: Option<&Self>, now: Timestamp, joining: Joining) -> Self {
        Self {
            opened_at: before.map_or(now, |before| before.opened_at),
            last_at: now,
            closes_at: match before {
                Some(before) if before.closes_at <= now => before.closes_at,
                _ => joining.closes_at,
            },
            closes_by: joining.closes_by,
        }
    }
}

/// Digests that are open.
pub(crate) type OpenDigests = HashMap<DigestKey, DigestRow>;

/// A delivery that waits in a digest, new.
#[derive(Debug, Clone)]
pub(crate) struct DigestMember {
    pub(crate) key: DigestKey,
    pub(crate) notification: NotificationId,
    pub(crate) delivery: DeliveryId,
}

/// What a transaction writes of digests.
#[derive(Debug, Default)]
pub(crate) struct DigestWrites {
    pub(crate) open: BTreeMap<DigestKey, DigestRow>,
    pub(crate) members: Vec<DigestMember>,
    /// Recipients of digests that ended without arriving: members look for their next step.
    pub(crate) failed: Vec<RecipientKey>,
}

/// A digest that is due, handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DigestLease {
    pub(crate) key: DigestKey,
    pub(crate) opened_at: Timestamp,
    /// Fences: only the last one handed out may close it.
    pub(crate) token: i64,
}

/// Digests that were handed out.
#[derive(Debug, Default)]
pub(crate) struct LeasedDigests {
    pub(crate) leases: Vec<DigestLease>,
    /// The tenant to go on after; none where all had their turn.
    pub(crate) after: Option<TenantId>,
}

/// What a digest that is due holds.
#[derive(Debug, Clone)]
pub(crate) struct DueDigest {
    pub(crate) lease: DigestLease,
    /// The plain address that its recipient is.
    pub(crate) plain: Option<PlainAddress>,
    /// Those that are still open, in the order in which they came; up to [`MOST_MEMBERS`].
    pub(crate) members: Vec<NotificationId>,
    /// What the first of them say.
    pub(crate) first: Vec<Arc<NotificationRow>>,
    /// When the last of their times to live ends.
    pub(crate) expires_at: Timestamp,
}

/// How many members a [`DueDigest`] brings along.
pub(crate) const FIRST_MEMBERS: usize = 20;

/// What is sent in the place of a digest's members.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    pub(crate) lease: DigestLease,
    /// As they were read; empty where nothing is sent.
    pub(crate) members: Vec<NotificationId>,
    /// None where nothing is sent, and what waits ends.
    pub(crate) notification: Option<NewNotification>,
}

impl Closing {
    /// Whether the row that is there, with when it opened, when it closes and its lease, is the one that was read, and
    /// still due.
    pub(in crate::store) fn is_of(&self, row: Option<(i64, i64, i64)>, now: Timestamp) -> bool {
        row.is_some_and(|(opened, closes, lease)| {
            opened == self.lease.opened_at.as_micros()
                && closes <= now.as_micros()
                && lease == self.lease.token
        })
    }

    /// Whether something may be left in it that another one holds.
    pub(in crate::store) fn leaves_some(&self) -> bool {
        self.notification.is_some() && self.members.len() >= MOST_MEMBERS
    }
}
