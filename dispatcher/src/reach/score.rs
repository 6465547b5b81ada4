use std::time::Duration;

use carillon_domain::Timestamp;

/// One probe.
const ONE: u64 = 1_000_000;
/// So many probes, as they count now, must be out before their silence says something.
const ENOUGH: u64 = 3 * ONE;

/// How fast what was sent and what came back fade: after so long they count half.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fading(pub(crate) Duration);

/// Three days: who was away for a weekend is tried again on Monday.
pub(crate) const FADING: Fading = Fading(Duration::from_secs(3 * 24 * 60 * 60));

/// What went to an address, and what came back: in millionths, as they counted at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) sent: u64,
    pub(crate) came: u64,
    pub(crate) at: Timestamp,
    /// When something came back last.
    pub(crate) came_at: Option<Timestamp>,
}

impl Reach {
    /// Of an address that nothing is known of.
    pub(crate) const fn unknown(at: Timestamp) -> Self {
        Self {
            sent: 0,
            came: 0,
            at,
            came_at: None,
        }
    }

    /// As it counts now.
    pub(crate) fn faded(self, now: Timestamp, fading: Fading) -> Self {
        if now <= self.at || fading.0.is_zero() {
            return self;
        }
        let lives = now.since(self.at).as_secs_f64() / fading.0.as_secs_f64();
        let left = 0.5_f64.powf(lives);
        let part = |count: u64| (count as f64 * left).round() as u64;
        Self {
            sent: part(self.sent),
            came: part(self.came),
            at: now,
            came_at: self.came_at,
        }
    }

    /// After one more probe, whether it came back or not.
    pub(crate) fn probed(self, now: Timestamp, came: bool, fading: Fading) -> Self {
        let faded = self.faded(now, fading);
        let probed = Self {
            sent: faded.sent.saturating_add(ONE),
            ..faded
        };
        if came {
            probed.came_back(now, fading)
        } else {
            probed
        }
    }

    /// After something came back that was counted as a probe before.
    pub(crate) fn came_back(self, now: Timestamp, fading: Fading) -> Self {
        let faded = self.faded(now, fading);
        Self {
            came: faded.came.saturating_add(ONE).min(faded.sent),
            came_at: Some(now),
            ..faded
        }
    }

    /// From 0, out of reach, to 100; none while too little is known. What was once within reach is never quite out of it
    /// before that has faded.
    pub(crate) fn score(self, now: Timestamp, fading: Fading) -> Option<u8> {
        let faded = self.faded(now, fading);
        let percent = (faded.came.saturating_mul(100) + faded.sent / 2).checked_div(faded.sent)?;
        if percent == 0 {
            return (faded.sent >= ENOUGH).then_some(0);
        }
        u8::try_from(percent.min(100)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> Timestamp {
        Timestamp::from_micros(0).after(Duration::from_secs(days * 86_400))
    }

    fn silent(probes: u32) -> Reach {
        (0..probes).fold(Reach::unknown(at(0)), |reach, _| {
            reach.probed(at(0), false, FADING)
        })
    }

    #[test]
    fn silence_says_something_once_enough_went_out() {
        assert_eq!(Reach::unknown(at(0)).score(at(0), FADING), None);
        assert_eq!(silent(2).score(at(0), FADING), None);
        assert_eq!(silent(3).score(at(0), FADING), Some(0));
    }

    #[test]
    fn what_is_out_of_reach_is_tried_again_later_the_surer_it_was() {
        assert_eq!(silent(3).score(at(1), FADING), None);
        assert_eq!(silent(12).score(at(5), FADING), Some(0));
        assert_eq!(silent(12).score(at(7), FADING), None);
    }

    #[test]
    fn the_score_is_the_part_that_came_back_the_latest_counting_most() {
        let mut reach = silent(1);
        reach = reach.probed(at(0), true, FADING);
        assert_eq!(reach.score(at(0), FADING), Some(50));
        assert_eq!(
            reach.score(at(30), FADING),
            Some(50),
            "silence alone changes nothing"
        );
        reach = reach.probed(at(6), true, FADING);
        assert_eq!(reach.score(at(6), FADING), Some(83));
        reach = reach.probed(at(6), false, FADING).came_back(at(6), FADING);
        assert_eq!(reach.score(at(6), FADING), Some(90));
        assert_eq!(reach.came_at, Some(at(6)));
        for _ in 0..9 {
            reach = reach.came_back(at(6), FADING);
        }
        assert_eq!(reach.score(at(6), FADING), Some(100), "never more came than went");
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let reach = Reach {
            at: at(2),
            ..silent(3)
        };
        assert_eq!(reach.score(at(0), FADING), Some(0));
    }
}
