//! What the store takes and gives for broadcasts, the same for every backend.

use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};

/// Which page of a broadcast a job plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BroadcastStep {
    /// Users and subscriptions from then on are out. The first one stays.
    pub(crate) started_at: Timestamp,
    pub(crate) page: BroadcastPage,
    /// Until when whoever writes this page has the next one leased; none where it becomes due at once.
    pub(crate) held: Option<Timestamp>,
}

/// How much of a broadcast is planned after a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BroadcastPage {
    /// More of the same page follows.
    Piece,
    /// Everybody up to this user.
    Through(UserId),
    /// Everybody.
    Last,
}

/// Where a broadcast stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BroadcastState {
    /// Pages follow, unless its notification ended meanwhile.
    Running,
    /// Everybody is planned.
    Done,
    /// Its time to live ended before everybody was.
    Expired,
}

impl BroadcastState {
    /// As stored.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Expired => "expired",
        }
    }
}

/// A row of `broadcasts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BroadcastRow {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    pub(crate) state: BroadcastState,
    pub(crate) started_at: Timestamp,
    /// Users up to this one are planned.
    pub(crate) cursor: Option<UserId>,
    /// How many recipients there are so far.
    pub(crate) planned: u64,
    pub(crate) updated_at: Timestamp,
}

/// A page to write down.
#[derive(Debug)]
pub(in crate::store) struct BroadcastWrite {
    pub(in crate::store) tenant: TenantId,
    pub(in crate::store) notification: NotificationId,
    pub(in crate::store) state: BroadcastState,
    pub(in crate::store) started_at: Timestamp,
    /// None where the cursor stays.
    pub(in crate::store) cursor: Option<UserId>,
    /// How many recipients are new.
    pub(in crate::store) planned: u64,
    /// When the next page becomes due, should somebody have it; else at once, behind what waits.
    pub(in crate::store) held: Option<Timestamp>,
}

impl BroadcastWrite {
    /// Whether the next page becomes due.
    pub(in crate::store) fn goes_on(&self) -> bool {
        self.state == BroadcastState::Running && self.cursor.is_some()
    }
}
