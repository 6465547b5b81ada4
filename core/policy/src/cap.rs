//! How many alerts somebody gets: caps, beyond which there are none, and throttles, beyond which they wait.
//!
//! What is counted is a user's alerts, over all sources: one per notification, at the time of its first alert.

use std::time::Duration;

use carillon_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::PolicyFault;

/// The most alerts that a cap or a throttle may allow, and so the most past ones that anybody has to read.
pub const MOST_COUNTED: u32 = 1_000;
/// From a second to 31 days.
const PERIOD: std::ops::RangeInclusive<u32> = 1..=31 * 24 * 60 * 60;

/// At most so many alerts within any such stretch of time; the next one is not sent at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// How many: 1 to 1,000.
    pub max: u32,
    /// In how long, in seconds: up to 31 days.
    pub per: u32,
}

/// At most so many alerts within any such stretch of time; the next one waits until there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// How many: 1 to 1,000.
    pub max: u32,
    /// In how long, in seconds: up to 31 days.
    pub per: u32,
}

/// A cap without room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Which one.
    pub cap: Cap,
    /// When there is room again, if nothing more is taken.
    pub free_at: Timestamp,
}

impl Cap {
    /// What is wrong with it.
    pub fn check(&self) -> Vec<PolicyFault> {
        check(self.max, self.per)
    }

    /// The stretch of time.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.per.into())
    }
}

impl Throttle {
    /// What is wrong with it.
    pub fn check(&self) -> Vec<PolicyFault> {
        check(self.max, self.per)
    }

    /// The stretch of time.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.per.into())
    }

    /// When the next alert may go out, if not now. `taken` is when the earlier ones did, in any order.
    pub fn free_at(&self, taken: &[Timestamp], now: Timestamp) -> Option<Timestamp> {
        free_at(self.max, self.window(), taken, now)
    }
}

/// The first of `caps` that has no room at `now`. `taken` is when the earlier alerts began, in any order.
pub fn full(caps: &[Cap], taken: &[Timestamp], now: Timestamp) -> Option<Full> {
    caps.iter().find_map(|cap| {
        let free_at = free_at(cap.max, cap.window(), taken, now)?;
        Some(Full { cap: *cap, free_at })
    })
}

fn check(max: u32, per: u32) -> Vec<PolicyFault> {
    let mut faults = Vec::new();
    if !(1..=MOST_COUNTED).contains(&max) {
        faults.push(PolicyFault::new(
            "/max",
            format!("must be from 1 to {MOST_COUNTED}"),
        ));
    }
    if !PERIOD.contains(&per) {
        faults.push(PolicyFault::new("/per", "must be from 1 second to 31 days"));
    }
    faults
}

/// What was taken less than `window` ago counts, and what is later than `now` too: a clock that was put back gives nothing
/// away. So no stretch of `window` has more than `max`, whatever order the clock puts them in.
fn free_at(max: u32, window: Duration, taken: &[Timestamp], now: Timestamp) -> Option<Timestamp> {
    let since = now.before(window);
    let mut counted: Vec<Timestamp> = taken.iter().copied().filter(|at| *at > since).collect();
    let max = usize::try_from(max.max(1)).unwrap_or(usize::MAX);
    if counted.len() < max {
        return None;
    }
    // There is room as soon as the max-th newest is no longer counted.
    let (_, oldest, _) = counted.select_nth_unstable_by(max - 1, |a, b| b.cmp(a));
    Some(oldest.after(window))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn an_alert_counts_until_the_window_has_passed() {
        let caps = [Cap { max: 2, per: 10 }, Cap { max: 3, per: 100 }];
        assert_eq!(full(&caps, &[at(1)], at(5)), None);
        let hit = full(&caps, &[at(4), at(1)], at(5)).expect("full");
        assert_eq!((hit.cap, hit.free_at), (caps[0], at(11)));
        assert_eq!(full(&caps, &[at(4), at(1)], at(11)), None);
        let hit = full(&caps, &[at(1), at(4), at(11)], at(50)).expect("full");
        assert_eq!((hit.cap, hit.free_at), (caps[1], at(101)));
        assert_eq!(full(&[], &[at(1), at(4), at(11)], at(11)), None);
    }

    #[test]
    fn a_clock_put_back_gives_no_room() {
        let throttle = Throttle { max: 1, per: 10 };
        assert_eq!(throttle.free_at(&[at(100)], at(50)), Some(at(110)));
        assert_eq!(throttle.free_at(&[at(100)], at(110)), None);
    }

    #[test]
    fn limits_have_bounds() {
        assert!(Cap { max: 1, per: 1 }.check().is_empty());
        let faults = Throttle {
            max: 1_001,
            per: 2_678_401,
        }
        .check();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(pointers, ["/max", "/per"]);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_the_cap_even_when_the_clock_jumps(
            caps in prop::collection::vec((1u32..5, 1u32..60), 1..4),
            nows in prop::collection::vec(0i64..200, 0..80),
        ) {
            let caps: Vec<Cap> = caps.into_iter().map(|(max, per)| Cap { max, per }).collect();
            let mut taken = Vec::new();
            for now in nows {
                if full(&caps, &taken, at(now)).is_none() {
                    taken.push(at(now));
                }
            }
            for cap in &caps {
                for start in &taken {
                    let end = start.after(cap.window());
                    let within = taken.iter().filter(|at| *start <= **at && **at < end).count();
                    prop_assert!(within <= cap.max as usize, "{within} within {cap:?}");
                }
            }
        }

        #[test]
        fn a_throttle_is_free_when_it_said_and_not_before(
            max in 1u32..5, per in 1u32..60,
            taken in prop::collection::vec(0i64..100, 0..20),
            now in 0i64..150,
        ) {
            let throttle = Throttle { max, per };
            let taken: Vec<_> = taken.into_iter().map(at).collect();
            match throttle.free_at(&taken, at(now)) {
                None => {}
                Some(free) => {
                    prop_assert!(free > at(now));
                    prop_assert_eq!(throttle.free_at(&taken, free), None);
                    prop_assert_eq!(
                        throttle.free_at(&taken, free.before(Duration::from_micros(1))), Some(free)
                    );
                }
            }
        }
    }
}
