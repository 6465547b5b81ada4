//! What the dispatcher decides, as functions of their arguments: when somebody may be alerted, over which channels, in
//! which order, and why not.
//!
//! **Invariant**: everything here is pure. The time is an argument ([`carillon_domain::Timestamp`]), nothing is read and
//! nothing is written. The same arguments give the same answer, on every node and at every retry.
//!
//! Two rules hold for times throughout. Dates follow the wall clock of a [`Zone`]; durations follow elapsed time. A local
//! time that daylight saving skips means the instant after the gap; one that comes twice means its first pass for a start
//! and its last for an end.

mod cap;
mod cron;
mod decide;
mod digest;
mod ladder;
mod plan;
mod preference;
mod quiet;
mod reason;
mod zone;

pub use cap::{Cap, Full, MOST_COUNTED, Throttle, full};
pub use cron::{Cron, CronError};
pub use decide::{AddressFacts, Alert, Decider, Facts, InApp, Verdict};
pub use digest::{
    DigestChoice, DigestName, DigestPeriod, DigestWindow, FixedWindow, Joining, OpenDigest, SlidingWindow,
};
pub use ladder::{Came, End, Move, Stand, Start, StepStand, climb};
pub use plan::{
    AcknowledgedBy, Condition, LONGEST_DEADLINE, MOST_CHANNELS, MOST_STEPS, PUSH_CHANNELS, Plan, Step,
};
pub use preference::{CategoryPolicy, DecidedBy, Preference, Resolved, TenantPolicy, resolve};
pub use quiet::{LONGEST_QUIET, MOST_WINDOWS, QuietHours, QuietWindow, TimeOfDay, Weekday};
pub use reason::Reason;
pub use zone::Zone;

/// What is wrong with something that somebody wrote, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFault {
    /// A JSON pointer (RFC 6901) into the checked value, empty for the whole of it.
    pub pointer: String,
    /// What is expected there, fit to show to a caller.
    pub detail: String,
}

impl PolicyFault {
    /// One at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    /// The same one, of something that stands at `pointer` in what holds it.
    #[must_use]
    pub fn under(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }
}
