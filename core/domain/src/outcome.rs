//! What one attempt to deliver said. Data, never an error path.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one attempt said. Only the delivery's retry policy decides what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The far end is the receiver itself, and has it.
    Delivered {
        /// The far end's own id for it, if it gave one.
        provider_id: Option<String>,
    },
    /// A provider took it and will pass it on.
    Accepted {
        /// The provider's own id for it, if it gave one.
        provider_id: Option<String>,
    },
    /// It may work later.
    Retry {
        /// What the far end asked for.
        after: Option<Duration>,
        /// Why, for people.
        reason: String,
        /// Whose trouble it is: only the provider's counts for its breaker.
        fault: Fault,
    },
    /// The address is dead: retire it.
    Gone {
        /// Why, for people.
        reason: String,
    },
    /// The far end will never take this one: ours to fix.
    Rejected {
        /// Why, for people.
        reason: String,
    },
    /// Not sent, and no failure: no device, a preference, quiet hours.
    Skipped {
        /// Why, for people.
        reason: String,
    },
}

/// Whose trouble a failed attempt tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The provider's or the host's: unreachable, slow, broken, throttling. Others there will fail as well.
    Provider,
    /// This address's alone: greylisted, a full mailbox.
    Address,
}

impl Outcome {
    /// As written in attempts and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Accepted { .. } => "accepted",
            Self::Retry { .. } => "retry",
            Self::Gone { .. } => "gone",
            Self::Rejected { .. } => "rejected",
            Self::Skipped { .. } => "skipped",
        }
    }
}
