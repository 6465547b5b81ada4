use std::sync::Arc;

use carillon_domain::{NotificationId, PlainAddress, TenantId, Timestamp, UserId};

use crate::store::records::{NotificationRow, RecipientPhase, RecipientState};

/// Which recipient.
pub(crate) type RecipientKey = (TenantId, NotificationId, UserId);

/// A row of `climbs`, new or with another time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClimbRow {
    pub(crate) key: RecipientKey,
    pub(crate) due_at: Timestamp,
}

/// A climb that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClimbLease {
    pub(crate) key: RecipientKey,
    /// Fences: only the last one handed out may climb.
    pub(crate) token: i64,
}

/// What an open recipient's row says from now on.
#[derive(Debug, Clone)]
pub(crate) struct RecipientMove {
    pub(crate) key: RecipientKey,
    pub(crate) phase: RecipientPhase,
    /// The step that it stands in, and since when; none before the first.
    pub(crate) step: Option<(u32, Timestamp)>,
    /// Whether it took its place in the frequency caps.
    pub(crate) counted: bool,
}

/// A row of `decisions`, new. Its number is given when it is written.
#[derive(Debug, Clone)]
pub(crate) struct DecisionRow {
    pub(crate) key: RecipientKey,
    pub(crate) at: Timestamp,
    pub(crate) kind: &'static str,
    pub(crate) step: Option<u32>,
    /// The decision as JSON.
    pub(crate) body: String,
}

/// What was decided about a recipient beside plainly sending.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Decision {
    /// The step waits.
    Held {
        /// `active`, `quiet_hours`, `throttle`, `digest`.
        reason: String,
        until: Timestamp,
    },
    /// What it waited for is over; it is decided anew.
    Released {
        /// As in `held`.
        reason: String,
    },
    /// Its condition did not hold: the next step has its turn.
    Passed {
        /// `unseen`, `inactive`, `reachable`.
        condition: String,
    },
    /// The step before came to its end unanswered.
    Escalated {
        /// `deadline`, `inactive`: nobody was there; `failed`: nothing of it arrived.
        reason: String,
    },
    /// Nothing of the step is sent.
    Skipped { reason: String },
    /// A frequency cap left no room for it.
    Capped { reason: String },
    /// The recipient came to its end.
    Ended { state: RecipientState, reason: String },
}

impl Decision {
    /// Its word, as it is stored.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::Passed { .. } => "passed",
            Self::Escalated { .. } => "escalated",
            Self::Skipped { .. } => "skipped",
            Self::Capped { .. } => "capped",
            Self::Ended { .. } => "ended",
        }
    }
}

/// A row of `decisions` as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct DecisionDetail {
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    pub(crate) step: Option<u32>,
    /// JSON.
    pub(crate) body: String,
}

/// How many recipients of a notification stand where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecipientCount {
    pub(crate) state: RecipientState,
    pub(crate) phase: Option<RecipientPhase>,
    pub(crate) count: u64,
}

/// What is read of a climb before its transaction.
#[derive(Debug, Clone)]
pub(crate) struct Climbing {
    pub(crate) lease: ClimbLease,
    pub(crate) notification: Arc<NotificationRow>,
    /// The plain address that it is.
    pub(crate) plain: Option<PlainAddress>,
}

/// What was read of leased climbs.
#[derive(Debug, Default)]
pub(crate) struct LoadedClimbs {
    pub(crate) climbing: Vec<Climbing>,
    /// Those whose recipient is open no longer.
    pub(crate) gone: Vec<ClimbLease>,
}
