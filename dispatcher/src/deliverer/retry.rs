//! Whether there is another attempt, and when.

use std::time::Duration;

use carillon_domain::Timestamp;

use super::config::RetryConfig;

/// No attempt follows its predecessor closer than this, whatever was drawn.
const LEAST: Duration = Duration::from_millis(100);

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another attempt, before the delivery expires.
    At(Timestamp),
    /// None: it would come too late.
    Dead,
}

/// What follows attempt `number` (from 1), which failed at `now` in a way that may pass.
///
/// The wait is drawn between nothing and a bound that grows exponentially (full jitter: those that failed together do
/// not come back together). `random` is that draw, from 0 (inclusive) to 1 (exclusive).
///
/// `after` is what the far end asked for: nothing is tried earlier, and what it sends away together is spread over at
/// least a tenth more. Should it ask for more time than the delivery has, one last attempt is made shortly before
/// `expires_at`, so that nobody can kill a delivery by a word; then it is dead.
pub(crate) fn next(
    config: &RetryConfig,
    now: Timestamp,
    expires_at: Timestamp,
    number: u32,
    after: Option<Duration>,
    random: f64,
) -> Next {
    let bound = bound(config, number);
    let floor = after.unwrap_or_default().max(LEAST);
    let ceiling = bound.max(floor.saturating_add(floor / 10));
    let drawn = floor.saturating_add((ceiling.saturating_sub(floor)).mul_f64(random.clamp(0.0, 1.0)));
    let at = now.after(drawn);
    if at < expires_at {
        return Next::At(at);
    }
    let left = expires_at.since(now);
    let last = left - left / 20;
    // Only where the far end's wish is what does not fit; as the bound grows, this ends by itself.
    if floor >= left && last > bound && !last.is_zero() {
        return Next::At(now.after(last));
    }
    Next::Dead
}

/// The longest wait of our own after attempt `number`.
fn bound(config: &RetryConfig, number: u32) -> Duration {
    let growth = config.factor.saturating_pow(number.saturating_sub(1).min(32));
    config
        .first
        .duration()
        .saturating_mul(growth)
        .min(config.longest.duration())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_323_045);

    fn config() -> RetryConfig {
        RetryConfig::default()
    }

    fn wait(next: Next) -> Duration {
        match next {
            Next::At(at) => at.since(NOW),
            Next::Dead => panic!("expected another attempt"),
        }
    }

    #[test]
    fn the_bound_grows_and_stops_growing() {
        let far = NOW.after(Duration::from_secs(30 * 86_400));
        let longest = |number| {
            wait(next(&config(), NOW, far, number, None, 0.999_999_999))
                .as_secs_f64()
                .round()
        };
        assert_eq!(
            [1, 2, 3, 4, 8, 1_000].map(longest),
            [5.0, 20.0, 80.0, 320.0, 21_600.0, 21_600.0]
        );
        assert_eq!(wait(next(&config(), NOW, far, 8, None, 0.0)), LEAST);
    }

    #[test]
    fn what_would_come_too_late_is_dead() {
        let soon = NOW.after(Duration::from_secs(2));
        assert_eq!(next(&config(), NOW, soon, 1, None, 0.9), Next::Dead);
        assert_eq!(wait(next(&config(), NOW, soon, 1, None, 0.1)).as_secs(), 0);
        assert_eq!(next(&config(), NOW, NOW, 1, None, 0.0), Next::Dead);
    }

    #[test]
    fn a_retry_after_is_waited_for_and_spread() {
        let far = NOW.after(Duration::from_secs(86_400));
        let asked = Some(Duration::from_secs(600));
        assert_eq!(wait(next(&config(), NOW, far, 1, asked, 0.0)).as_secs(), 600);
        assert_eq!(
            wait(next(&config(), NOW, far, 1, asked, 0.999_999)).as_secs(),
            659
        );
    }

    #[test]
    fn a_retry_after_beyond_the_time_to_live_leaves_one_last_attempt() {
        let end = NOW.after(Duration::from_secs(3_600));
        let year = Some(Duration::from_secs(365 * 86_400));
        assert_eq!(wait(next(&config(), NOW, end, 1, year, 0.5)).as_secs(), 3_420);
        // What is left then is less than the bound.
        let last = NOW.after(Duration::from_secs(3_420));
        assert_eq!(next(&config(), last, end, 4, year, 0.5), Next::Dead);
    }

    proptest! {
        #[test]
        fn another_attempt_is_never_too_early_and_never_too_late(
            first in 1_u64..100_000, factor in 1_u32..100, grow in 0_u64..100_000_000,
            number in 0_u32..=u32::MAX, life in 0_u64..3_000_000_000, asked in proptest::option::of(0..=u64::MAX),
            random in 0.0_f64..1.0,
        ) {
            let config = RetryConfig {
                first: carillon_runtime::config::Span::from_millis(first),
                factor,
                longest: carillon_runtime::config::Span::from_millis(first + grow),
            };
            let end = NOW.after(Duration::from_millis(life));
            let asked = asked.map(Duration::from_millis);
            match next(&config, NOW, end, number, asked, random) {
                Next::At(at) => {
                    prop_assert!(at > NOW && at < end);
                    if let Some(asked) = asked.filter(|asked| NOW.after(*asked) < end) {
                        prop_assert!(at >= NOW.after(asked));
                    }
                }
                Next::Dead => prop_assert!(
                    life < 100 + config.longest.duration().as_millis() as u64 || asked.is_some()
                ),
            }
        }

        #[test]
        fn attempts_end(life in 0_u64..2_592_000, asked in proptest::option::of(0_u64..100_000_000), seed in any::<u64>()) {
            let end = NOW.after(Duration::from_secs(life));
            let (mut now, mut number, mut state) = (NOW, 1_u32, seed);
            loop {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let random = (state >> 11) as f64 / (1_u64 << 53) as f64;
                match next(&config(), now, end, number, asked.map(Duration::from_secs), random) {
                    Next::At(at) => now = at,
                    Next::Dead => break,
                }
                number += 1;
                prop_assert!(number < 1_000, "30 days at a mean of 3 hours are about 240 attempts");
            }
        }
    }
}
