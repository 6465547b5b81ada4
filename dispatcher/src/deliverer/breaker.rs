//! Breaker: whether a lane may be tried at all. Closed until too much fails; then open, when nothing is tried; then half
//! open, when one attempt alone asks whether it works again.

use std::time::Duration;

use carillon_domain::{Fault, Outcome, Timestamp};

use super::config::BreakerConfig;

/// Attempts that the failure rate looks back on.
const WINDOW: u32 = 32;

/// Longer than any channel's patience.
const LONGEST_PROBE: Duration = Duration::from_secs(3_600);

/// One lane's breaker. Time and randomness come in by argument.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    state: State,
    /// Goes up with each change of state; what began in an earlier one has nothing to say any more.
    turn: u64,
    /// How often it opened since the last success.
    openings: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        in_a_row: u32,
        /// The last attempts, newest lowest; a set bit is a failure.
        window: u32,
        /// How many attempts `window` holds.
        seen: u32,
    },
    Open {
        until: Timestamp,
    },
    HalfOpen {
        /// Until when the one attempt that is under way must have ended.
        probe: Option<Timestamp>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed {
            in_a_row: 0,
            window: 0,
            seen: 0,
        }
    }
}

/// What may be tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    /// As much as there is room for.
    All,
    /// One attempt alone.
    One,
    /// Nothing; look again then.
    Nothing(Timestamp),
}

/// Ties an attempt to the state that it began in; goes to [`Breaker::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass(u64);

/// What an attempt says about its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The far end answered and is well, whatever it answered.
    Well,
    /// The provider or the host is in trouble; what it asked for.
    Ill(Option<Duration>),
    /// Nothing: it was not sent, or its process ended.
    Unknown,
}

impl Verdict {
    /// What an outcome says about its lane. Only the provider's own faults count against it.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Retry {
                after,
                fault: Fault::Provider,
                ..
            } => Self::Ill(*after),
            Outcome::Skipped { .. } => Self::Unknown,
            Outcome::Delivered { .. }
            | Outcome::Accepted { .. }
            | Outcome::Gone { .. }
            | Outcome::Rejected { .. }
            | Outcome::Retry {
                fault: Fault::Address,
                ..
            } => Self::Well,
        }
    }
}

/// How a breaker stands, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Attempts are made; so many failed in a row.
    Closed { failures: u32 },
    /// None are made until then.
    Open { until: Timestamp },
    /// One is made, or is under way.
    HalfOpen,
}

impl Standing {
    /// As written on the wire and in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Breaker {
    /// What may be tried at `now`. Changes nothing.
    pub(crate) fn admits(&self, config: &BreakerConfig, now: Timestamp) -> Admits {
        match self.state {
            State::Closed { .. } => Admits::All,
            State::Open { until } if waits(until, now, config.longest.duration()) => Admits::Nothing(until),
            State::HalfOpen { probe: Some(until) } if waits(until, now, LONGEST_PROBE) => {
                Admits::Nothing(until)
            }
            State::Open { .. } | State::HalfOpen { .. } => Admits::One,
        }
    }

    /// An attempt that [`Self::admits`] allows begins and ends by `deadline`, or counts as lost.
    pub(crate) fn begin(&mut self, deadline: Timestamp) -> Pass {
        match self.state {
            State::Closed { .. } => {}
            State::Open { .. } | State::HalfOpen { .. } => {
                self.turn += 1;
                self.state = State::HalfOpen {
                    probe: Some(deadline),
                };
            }
        }
        Pass(self.turn)
    }

    /// An attempt ended. `random`, from 0 to 1, draws how long the lane is left alone, should it be.
    pub(crate) fn end(
        &mut self,
        config: &BreakerConfig,
        pass: Pass,
        verdict: Verdict,
        now: Timestamp,
        random: f64,
    ) {
        if pass.0 != self.turn {
            return;
        }
        match (&mut self.state, verdict) {
            // The one attempt said nothing: another may ask.
            (State::HalfOpen { probe }, Verdict::Unknown) => *probe = None,
            (_, Verdict::Unknown) | (State::Open { .. }, _) => {}
            (State::HalfOpen { .. }, Verdict::Well) => {
                self.turn += 1;
                self.openings = 0;
                self.state = State::default();
            }
            (State::HalfOpen { .. }, Verdict::Ill(after)) => self.open(config, after, now, random),
            (
                State::Closed {
                    in_a_row,
                    window,
                    seen,
                },
                verdict,
            ) => {
                let ill = matches!(verdict, Verdict::Ill(_));
                *in_a_row = if ill { in_a_row.saturating_add(1) } else { 0 };
                *window = *window << 1 | u32::from(ill);
                *seen = (*seen + 1).min(WINDOW);
                let often = *seen == WINDOW && window.count_ones() * 100 >= config.failure_percent * WINDOW;
                if let Verdict::Ill(after) = verdict
                    && (*in_a_row >= config.failures || often)
                {
                    self.open(config, after, now, random);
                }
            }
        }
    }

    /// How it stands at `now`.
    pub(crate) fn standing(&self, config: &BreakerConfig, now: Timestamp) -> Standing {
        match self.state {
            State::Closed { in_a_row, .. } => Standing::Closed { failures: in_a_row },
            State::Open { until } if waits(until, now, config.longest.duration()) => Standing::Open { until },
            State::Open { .. } | State::HalfOpen { .. } => Standing::HalfOpen,
        }
    }

    /// Whether attempts are made as ever.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether forgetting it loses nothing.
    pub(crate) fn is_untroubled(&self) -> bool {
        matches!(self.state, State::Closed { window: 0, .. })
    }

    fn open(&mut self, config: &BreakerConfig, after: Option<Duration>, now: Timestamp, random: f64) {
        let longest = config.longest.duration();
        let bound = config
            .first
            .duration()
            .saturating_mul(2_u32.saturating_pow(self.openings.min(20)))
            .min(longest);
        // Half of it is drawn: nodes that share a provider do not ask at the same moment.
        let drawn = bound / 2 + (bound / 2).mul_f64(random.clamp(0.0, 1.0));
        let wait = drawn.max(after.unwrap_or_default()).min(longest);
        self.turn += 1;
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open {
            until: now.after(wait),
        };
    }
}

/// Whether `until` is still to come. What lies further off than it can have been set means that the wall clock was set
/// back, and is not waited for.
fn waits(until: Timestamp, now: Timestamp, longest: Duration) -> bool {
    until > now && until.since(now) <= longest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_323_045);
    const PATIENCE: Duration = Duration::from_secs(15);

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn fail(breaker: &mut Breaker, now: Timestamp) {
        let pass = breaker.begin(now.after(PATIENCE));
        breaker.end(&BreakerConfig::default(), pass, Verdict::Ill(None), now, 1.0);
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            fail(&mut breaker, NOW);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_asks_with_one_attempt() {
        let config = BreakerConfig::default();
        let mut breaker = Breaker::default();
        for failures in 0..5 {
            assert_eq!(breaker.standing(&config, NOW), Standing::Closed { failures });
            assert_eq!(breaker.admits(&config, NOW), Admits::All);
            fail(&mut breaker, NOW);
        }
        assert_eq!(
            breaker.standing(&config, NOW),
            Standing::Open { until: later(10) }
        );
        assert_eq!(breaker.admits(&config, NOW), Admits::Nothing(later(10)));
        assert_eq!(breaker.admits(&config, later(10)), Admits::One);
        let pass = breaker.begin(later(25));
        assert_eq!(breaker.admits(&config, later(11)), Admits::Nothing(later(25)));
        breaker.end(&config, pass, Verdict::Well, later(11), 1.0);
        assert_eq!(breaker.admits(&config, later(11)), Admits::All);
        assert!(breaker.is_untroubled());
    }

    #[test]
    fn it_waits_longer_each_time_up_to_a_bound() {
        let config = BreakerConfig::default();
        let mut breaker = opened();
        let (mut now, mut waits) = (NOW, Vec::new());
        for _ in 0..7 {
            let Standing::Open { until } = breaker.standing(&config, now) else {
                panic!("open");
            };
            waits.push(until.since(now).as_secs());
            now = until;
            fail(&mut breaker, now);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed_unless_most_fail() {
        let config = BreakerConfig::default();
        let mut breaker = Breaker::default();
        // Every second one fails.
        for round in 0..200 {
            let pass = breaker.begin(later(15));
            let verdict = if round % 2 == 0 {
                Verdict::Ill(None)
            } else {
                Verdict::Well
            };
            breaker.end(&config, pass, verdict, NOW, 1.0);
        }
        assert_eq!(breaker.standing(&config, NOW).as_str(), "closed");
        // Three of four.
        for round in 0..64 {
            if breaker.admits(&config, NOW) != Admits::All {
                break;
            }
            let pass = breaker.begin(later(15));
            let verdict = if round % 4 == 0 {
                Verdict::Well
            } else {
                Verdict::Ill(None)
            };
            breaker.end(&config, pass, verdict, NOW, 1.0);
        }
        assert_eq!(breaker.standing(&config, NOW).as_str(), "open");
    }

    #[test]
    fn what_began_before_it_opened_has_nothing_to_say() {
        let config = BreakerConfig::default();
        let mut breaker = Breaker::default();
        let late = breaker.begin(later(15));
        for _ in 0..5 {
            fail(&mut breaker, NOW);
        }
        breaker.end(&config, late, Verdict::Well, later(1), 1.0);
        assert_eq!(breaker.standing(&config, later(1)).as_str(), "open");
        let probe = breaker.begin(later(25));
        breaker.end(&config, late, Verdict::Ill(None), later(11), 1.0);
        breaker.end(&config, probe, Verdict::Well, later(12), 1.0);
        assert_eq!(
            breaker.standing(&config, later(12)),
            Standing::Closed { failures: 0 }
        );
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let config = BreakerConfig::default();
        let mut breaker = opened();
        let lost = breaker.begin(later(25));
        assert_eq!(breaker.admits(&config, later(25)), Admits::One);
        let probe = breaker.begin(later(40));
        // Should the lost one turn up nevertheless, it is not the one that is asked.
        breaker.end(&config, lost, Verdict::Well, later(26), 1.0);
        assert_eq!(breaker.admits(&config, later(26)), Admits::Nothing(later(40)));
        breaker.end(&config, probe, Verdict::Unknown, later(27), 1.0);
        assert_eq!(breaker.admits(&config, later(27)), Admits::One);
    }

    #[test]
    fn a_retry_after_keeps_it_open_but_not_beyond_the_bound() {
        let config = BreakerConfig::default();
        for (asked, waits) in [(60, 60), (1, 10), (86_400, 300)] {
            let mut breaker = Breaker::default();
            for _ in 0..5 {
                let pass = breaker.begin(later(15));
                let asked = Some(Duration::from_secs(asked));
                breaker.end(&config, pass, Verdict::Ill(asked), NOW, 1.0);
            }
            assert_eq!(
                breaker.standing(&config, NOW),
                Standing::Open { until: later(waits) }
            );
        }
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let config = BreakerConfig::default();
        let before = NOW.before(Duration::from_secs(365 * 86_400));
        assert_eq!(opened().admits(&config, before), Admits::One);
    }

    #[test]
    fn only_the_providers_own_faults_count() {
        let reason = || String::from("why");
        let retry = |fault| Outcome::Retry {
            after: None,
            reason: reason(),
            fault,
        };
        assert_eq!(Verdict::of(&retry(Fault::Provider)), Verdict::Ill(None));
        for outcome in [
            retry(Fault::Address),
            Outcome::Gone { reason: reason() },
            Outcome::Rejected { reason: reason() },
            Outcome::Delivered { provider_id: None },
            Outcome::Accepted { provider_id: None },
        ] {
            assert_eq!(Verdict::of(&outcome), Verdict::Well);
        }
        assert_eq!(
            Verdict::of(&Outcome::Skipped { reason: reason() }),
            Verdict::Unknown
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64),
        Begin,
        End { which: usize, verdict: u8, asked: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u64..400).prop_map(Step::Wait),
            Just(Step::Begin),
            Just(Step::Begin),
            (any::<usize>(), 0_u8..6, 0_u64..1_000).prop_map(|(which, verdict, asked)| Step::End {
                which,
                verdict,
                asked
            }),
            (any::<usize>(), 0_u8..6, 0_u64..1_000).prop_map(|(which, verdict, asked)| Step::End {
                which,
                verdict,
                asked
            }),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn one_probe_at_a_time_and_never_open_for_ever(steps in steps(), random in 0.0_f64..1.0) {
            let config = BreakerConfig::default();
            let mut breaker = Breaker::default();
            let mut now = NOW;
            // Attempts under way: pass, deadline, whether it is a probe.
            let mut running: Vec<(Pass, Timestamp, bool)> = Vec::new();
            let mut in_a_row = 0;
            for step in steps {
                match step {
                    Step::Wait(seconds) => {
                        now = now.after(Duration::from_secs(seconds));
                        // An attempt ends by its deadline, by contract.
                        running.retain(|(_, deadline, _)| *deadline > now);
                    }
                    Step::Begin => match breaker.admits(&config, now) {
                        Admits::All => running.push((breaker.begin(now.after(PATIENCE)), now.after(PATIENCE), false)),
                        Admits::One => {
                            prop_assert!(running.iter().all(|(_, _, probe)| !probe), "a second probe");
                            running.push((breaker.begin(now.after(PATIENCE)), now.after(PATIENCE), true));
                        }
                        Admits::Nothing(until) => {
                            prop_assert!(until > now);
                            prop_assert!(until.since(now) <= config.longest.duration(), "open for ever");
                        }
                    },
                    Step::End { which, verdict, asked } => {
                        if running.is_empty() {
                            continue;
                        }
                        let (pass, _, _) = running.swap_remove(which % running.len());
                        let verdict = match verdict {
                            0 => Verdict::Unknown,
                            1 | 2 => Verdict::Well,
                            3 => Verdict::Ill(Some(Duration::from_secs(asked))),
                            _ => Verdict::Ill(None),
                        };
                        let counted = pass.0 == breaker.turn && matches!(breaker.state, State::Closed { .. });
                        breaker.end(&config, pass, verdict, now, random);
                        if counted {
                            in_a_row = match verdict {
                                Verdict::Ill(_) => in_a_row + 1,
                                Verdict::Well => 0,
                                Verdict::Unknown => in_a_row,
                            };
                            if in_a_row >= 5 {
                                prop_assert_eq!(breaker.standing(&config, now).as_str(), "open");
                            }
                        }
                        if !matches!(breaker.state, State::Closed { .. }) {
                            in_a_row = 0;
                        }
                    }
                }
            }
            // Whatever happened, after the longest wait it asks again.
            let end = now.after(config.longest.duration());
            prop_assert!(!matches!(breaker.admits(&config, end), Admits::Nothing(_)));
        }
    }
}
