//! When publications are due. The schedule is open: it does not wait for answers, so what a stall delays counts with the
//! whole of its delay.

/// Even distances from a beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    begin: u64,
    /// 0: each is due at once.
    per_second: f64,
}

impl Schedule {
    /// Begins at a time in nanoseconds; `per_second` 0 means as fast as answers come.
    pub(crate) fn new(begin: u64, per_second: f64) -> Self {
        Self { begin, per_second }
    }

    /// When the given one should leave, in nanoseconds; `None` where nothing but answers hold it back.
    pub(crate) fn due(&self, number: u64) -> Option<u64> {
        (self.per_second > 0.0).then(|| self.begin + (number as f64 * 1e9 / self.per_second) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_does_not_depend_on_what_was_sent() {
        let schedule = Schedule::new(1_000, 50.0);
        assert_eq!(schedule.due(0), Some(1_000));
        assert_eq!(schedule.due(3), Some(60_001_000));
        assert_eq!(Schedule::new(1_000, 0.0).due(3), None);
    }
}
