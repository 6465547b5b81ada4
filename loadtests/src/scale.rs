//! How much of a scenario is run.

use std::time::Duration;

/// A trial shows that everything runs and counts right; its figures mean nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) is_trial: bool,
}

impl Scale {
    /// So many connections or requests.
    pub(crate) fn count(self, full: usize) -> usize {
        if self.is_trial {
            (full / 50).clamp(1, 200)
        } else {
            full
        }
    }

    /// So long.
    pub(crate) fn time(self, full: Duration) -> Duration {
        if self.is_trial { full / 25 } else { full }
    }
}
