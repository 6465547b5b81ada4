//! Since when an endpoint answers with nothing but failures.

use std::time::Duration;

use carillon_domain::Timestamp;

/// Failures of an endpoint that are further apart are not one that goes on.
const FAILURES_APART: Duration = Duration::from_secs(36 * 60 * 60);
/// How exactly the last one is written down: an endpoint that is ill costs no write for each attempt.
const FAILURES_NOTED: Duration = Duration::from_secs(60 * 60);

/// Nothing but failures came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Failing {
    pub(in crate::store) since: Timestamp,
    /// Not written for each of them.
    pub(in crate::store) last: Timestamp,
}

impl Failing {
    /// With a failure more. What was long ago counts no more: nobody knows how it was in between.
    pub(super) fn once_more(before: Option<Self>, now: Timestamp) -> Self {
        match before {
            Some(before) if now < before.last.after(FAILURES_APART) => Self {
                since: before.since,
                last: if now < before.last.after(FAILURES_NOTED) {
                    before.last
                } else {
                    now
                },
            },
            _ => Self {
                since: now,
                last: now,
            },
        }
    }
}
