use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use carillon_domain::{Clock, Timestamp};

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// A clock that shows `at`.
    pub fn at(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.as_micros()))
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(
            i64::try_from(by.as_micros()).expect("a test's duration"),
            Ordering::SeqCst,
        );
    }
}

impl Default for FixedClock {
    /// Shows 2026-01-02T03:04:05Z.
    fn default() -> Self {
        Self::at(Timestamp::from_seconds(1_767_323_045))
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
