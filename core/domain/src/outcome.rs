//! What one attempt to deliver said. Data, never an error path.

use std::time::Duration;

/// What one attempt said. Only the delivery's retry policy decides what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The far end took it.
    Accepted {
        /// The far end's own id for it, if it gave one.
        provider_id: Option<String>,
    },
    /// It may work later.
    Retry {
        /// What the far end asked for.
        after: Option<Duration>,
        /// Why, for people.
        reason: String,
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
