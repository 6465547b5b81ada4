use std::{borrow::Cow, sync::Arc};

use carillon_domain::{ChannelKind, EntryId, NotificationId, PlainAddress, TenantId, Timestamp, UserId};
use carillon_policy::Reason;

use crate::store::records::{NotificationRow, RecipientPhase, RecipientState};

/// Which recipient.
pub(crate) type RecipientKey = (TenantId, NotificationId, UserId);

/// When something is due of an open recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClimbRow {
    pub(crate) key: RecipientKey,
    pub(crate) due_at: Timestamp,
    /// Of a climb that was handed out: nothing is changed where something fell due meanwhile. None of a new one.
    pub(crate) token: Option<i64>,
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
    /// The entry that shows it and its change, where it is shown from now on.
    pub(crate) entry: Option<(EntryId, u64)>,
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

/// What was decided about a recipient beside plainly sending: `kind`, `reason` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Decision {
    /// The step waits.
    Held(Why),
    /// What it waited for is over, and it starts.
    Released(Why),
    /// Its condition did not hold: the next step has its turn.
    Passed(Why),
    /// The step before came to its end unanswered.
    Escalated(Escalation),
    /// Nothing of the step is sent, or nothing of it over a channel.
    Skipped(Skip),
    /// A frequency cap left no room for it.
    Capped(Why),
    /// An alert waits in a digest.
    Gathered(Gathered),
    /// The alert went out with a digest.
    Digested(Digested),
    /// The recipient came to its end.
    Ended(Ending),
}

/// The digest in which an alert waits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Gathered {
    pub(crate) channel: ChannelKind,
    /// The period's.
    pub(crate) name: Arc<str>,
    /// The notification's digest key; empty without one.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(crate) key: Arc<str>,
    /// When it closes, unless others that join move that on.
    pub(crate) until: Timestamp,
}

/// The digest with which an alert went out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Digested {
    pub(crate) channel: ChannelKind,
    /// The period's.
    pub(crate) name: Arc<str>,
    /// The notification that it is.
    pub(crate) digest: NotificationId,
}

/// Why, typed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Why {
    #[serde(flatten)]
    pub(crate) reason: Reason,
}

/// What is skipped of a step, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Skip {
    #[serde(flatten)]
    pub(crate) reason: Reason,
    /// Nothing over this channel; the rest of the step has its turn. None where the step is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<ChannelKind>,
}

/// Why the next step has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(crate) enum Escalation {
    /// Its time was over.
    Deadline,
    /// Nobody is there whose answer in the app could be waited for.
    Inactive,
    /// Nothing of it arrived, and nothing will.
    Failed,
}

/// How a recipient ended, in words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ending {
    pub(crate) state: Cow<'static, str>,
    pub(crate) reason: Cow<'static, str>,
}

impl Decision {
    /// Its word, as it is stored.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Released(_) => "released",
            Self::Passed(_) => "passed",
            Self::Escalated(_) => "escalated",
            Self::Skipped(_) => "skipped",
            Self::Capped(_) => "capped",
            Self::Gathered(_) => "gathered",
            Self::Digested(_) => "digested",
            Self::Ended(_) => "ended",
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
