//! A user with several notifications, whose time goes on: what is sent, arrives, fails, is seen and acknowledged as it comes.

use proptest::prelude::*;

use super::*;

/// What happens to the user or to one of the notifications, beside what was planned.
#[derive(Debug, Clone)]
enum Event {
    /// Heartbeats for so many seconds, of the device behind an address or of another one.
    Active(Option<usize>, u64),
    Seen(usize),
    Acknowledged(usize),
    Cancelled(usize),
    /// An address is suppressed, or is no longer.
    Suppressed(usize, bool),
}

/// A delivery and what becomes of it.
#[derive(Debug, Clone)]
struct Sent {
    step: usize,
    settles_at: Timestamp,
    arrives: bool,
    dead: bool,
    settled: bool,
}

/// One notification of the user.
#[derive(Debug, Clone)]
struct Climber {
    plan: Plan,
    critical: bool,
    starts_at: Timestamp,
    closes_at: Timestamp,
    stand: Stand,
    sent: Vec<Sent>,
    /// What the latest answer waits for; the notification's end at the latest.
    due: Timestamp,
    started: Vec<usize>,
    passed: Vec<usize>,
    end: Option<End>,
}

impl Climber {
    fn came(&self, step: usize) -> Came {
        let of_step = || self.sent.iter().filter(move |sent| sent.step == step);
        let entry = self.stand.in_app && self.plan.steps[step].has_in_app();
        if entry || of_step().any(|sent| sent.settled && sent.arrives) {
            Came::Arrived
        } else if of_step().any(|sent| !sent.settled) {
            Came::Open
        } else {
            Came::Failed
        }
    }

    fn refresh(&mut self) {
        self.stand.arrived = self.sent.iter().any(|sent| sent.settled && sent.arrives);
        self.stand.open = self.sent.iter().any(|sent| !sent.settled);
        self.stand.dead = self.sent.iter().any(|sent| sent.settled && sent.dead);
        if let Some(mut step) = self.stand.step {
            step.came = self.came(step.index);
            self.stand.step = Some(step);
        }
    }

    /// Settles what is due; answers whether that was the last hope of the step in which it stands.
    fn settle(&mut self, now: Timestamp) -> bool {
        let mut failed = false;
        for sent in self
            .sent
            .iter_mut()
            .filter(|sent| !sent.settled && sent.settles_at <= now)
        {
            sent.settled = true;
            failed |= !sent.arrives;
        }
        self.refresh();
        failed && self.stand.step.is_some_and(|step| step.came == Came::Failed)
    }

    /// When anything happens to it by itself.
    fn next(&self) -> Option<Timestamp> {
        let settling = self.sent.iter().filter(|sent| !sent.settled);
        let next = settling.map(|sent| sent.settles_at).chain([self.due]).min();
        next.filter(|_| self.end.is_none())
    }
}

struct World {
    known: Known,
    climbers: Vec<Climber>,
    /// What becomes of the deliveries, one after the other: after how many seconds, and how.
    fates: std::iter::Cycle<std::vec::IntoIter<(u64, u8)>>,
}

impl World {
    fn ask(&mut self, index: usize, now: Timestamp) {
        let climber = &mut self.climbers[index];
        if climber.end.is_some() || now < climber.starts_at {
            return;
        }
        climber.refresh();
        self.known.critical = climber.critical;
        self.known.closes_at = climber.closes_at;
        let moves = self.known.climb(&climber.plan, &climber.stand, now);
        let again = self.known.climb(&climber.plan, &climber.stand, now);
        assert_eq!(moves, again, "the same arguments give the same answer");
        assert!(moves.len() <= climber.plan.steps.len() + 1, "{moves:?}");
        let rests = |step: &Move| matches!(step, Move::Hold { .. } | Move::Wait { .. } | Move::End(_));
        for (at, step) in moves.iter().enumerate() {
            assert_eq!(rests(step), at + 1 == moves.len(), "{moves:?}");
        }
        climber.due = climber.closes_at;
        for step in moves {
            self.take(index, step, now);
        }
        self.climbers[index].refresh();
    }

    fn take(&mut self, index: usize, step: Move, now: Timestamp) {
        let climber = &mut self.climbers[index];
        match step {
            Move::Start(start) => {
                assert!(!climber.stand.acknowledged && !climber.stand.cancelled && now < climber.closes_at);
                assert!(
                    climber.started.iter().all(|earlier| *earlier < start.step),
                    "each step once, in order"
                );
                assert!(!climber.passed.contains(&start.step), "it was passed over");
                climber.started.push(start.step);
                climber.stand.in_app |= matches!(start.in_app, Some(InApp::Write { .. }));
                let sends = start.alerts.iter().any(|alert| alert.verdict == Verdict::Send);
                if sends && !climber.critical {
                    let quiet_hours = self.known.quiet_hours.as_ref();
                    let quiet = quiet_hours.and_then(|hours| hours.until(&self.known.zone, now));
                    assert_eq!(quiet, None, "an alert in quiet hours at {now}");
                    assert!(
                        climber.stand.counted || start.counts,
                        "an alert that is not counted"
                    );
                }
                if start.counts {
                    assert!(!climber.stand.counted, "counted twice");
                    climber.stand.counted = true;
                    self.known.taken.push(now);
                }
                for alert in &start.alerts {
                    let from = match &alert.verdict {
                        Verdict::Send => now,
                        Verdict::Digest { joining, .. } => {
                            assert!(
                                joining.closes_at < climber.closes_at,
                                "a digest that closes too late"
                            );
                            joining.closes_at
                        }
                        Verdict::Skip(_) => continue,
                    };
                    let (late, fate) = self.fates.next().expect("it never ends");
                    climber.sent.push(Sent {
                        step: start.step,
                        settles_at: from.after(Duration::from_secs(1 + late)),
                        arrives: fate == 0,
                        dead: fate == 1,
                        settled: false,
                    });
                }
                climber.stand.ahead = start.step + 1;
                climber.stand.step = Some(StepStand {
                    index: start.step,
                    deadline_at: start.deadline_at,
                    came: Came::Open,
                });
            }
            Move::Pass { step, .. } => {
                climber.stand.ahead = step + 1;
                climber.passed.push(step);
            }
            Move::Hold {
                step, until, in_app, ..
            } => {
                assert!(now < until && until <= climber.closes_at);
                assert!(!climber.passed.contains(&step), "it was passed over, and waits");
                climber.stand.in_app |= matches!(in_app, Some(InApp::Write { .. }));
                climber.stand.ahead = step;
                climber.due = until;
            }
            Move::Wait { until } => {
                assert!(until.is_none_or(|until| now < until && until < climber.closes_at));
                climber.due = until.unwrap_or(climber.closes_at);
            }
            Move::End(end) => climber.end = Some(end),
        }
    }

    fn pass_time(&mut self, now: Timestamp) {
        for index in 0..self.climbers.len() {
            let climber = &mut self.climbers[index];
            if climber.settle(now) || climber.due <= now {
                self.ask(index, now);
            }
        }
    }

    fn happen(&mut self, event: &Event, now: Timestamp) {
        let count = self.climbers.len();
        match event {
            Event::Active(device, seconds) => {
                let until = Some(now.after(Duration::from_secs(*seconds)));
                self.known.active_until = until;
                if let Some(address) = device.and_then(|device| self.known.addresses.get_mut(device)) {
                    address.active_until = until;
                }
            }
            Event::Seen(index) => self.climbers[index % count].stand.seen = true,
            Event::Acknowledged(index) => {
                self.climbers[index % count].stand.acknowledged = true;
                self.ask(index % count, now);
            }
            Event::Cancelled(index) => {
                self.climbers[index % count].stand.cancelled = true;
                self.ask(index % count, now);
            }
            Event::Suppressed(index, suppressed) => {
                if let Some(address) = self.known.addresses.get_mut(*index) {
                    address.suppressed = *suppressed;
                }
            }
        }
    }
}

const CHANNELS: [&str; 5] = ["in_app", "fcm", "apns", "email", "sms"];

fn plans() -> impl Strategy<Value = Plan> {
    let conditions = [
        Condition::Unacknowledged,
        Condition::Unseen,
        Condition::Inactive,
        Condition::Reachable,
    ];
    let when = prop::sample::subsequence(conditions.to_vec(), 0..2);
    let step = (1usize..3, prop::option::weighted(0.7, 1u32..5_000), when);
    let names = Just(CHANNELS.to_vec()).prop_shuffle();
    (names, prop::collection::vec(step, 1..5)).prop_map(|(names, steps)| {
        let mut names = names.into_iter().map(channel);
        let mut steps: Vec<Step> = steps
            .into_iter()
            .map(|(count, deadline, when)| Step {
                channels: names.by_ref().take(count).collect(),
                deadline,
                when,
            })
            .collect();
        steps.retain(|step| !step.channels.is_empty());
        Plan {
            acknowledged_by: crate::AcknowledgedBy::Each,
            steps,
        }
    })
}

fn climbers() -> impl Strategy<Value = Climber> {
    let times = (0u64..50_000, 60u64..200_000);
    (plans(), prop::bool::weighted(0.1), times).prop_map(|(plan, critical, (starts, lives))| Climber {
        plan,
        critical,
        starts_at: after(starts),
        closes_at: after(starts + lives),
        stand: Stand::default(),
        sent: Vec::new(),
        due: after(starts),
        started: Vec::new(),
        passed: Vec::new(),
        end: None,
    })
}

fn events() -> impl Strategy<Value = (Timestamp, Event)> {
    let event = prop_oneof![
        4 => (prop::option::of(0usize..6), 60u64..10_000).prop_map(|(device, seconds)| Event::Active(device, seconds)),
        2 => (0usize..8).prop_map(Event::Seen),
        2 => (0usize..8).prop_map(Event::Acknowledged),
        1 => (0usize..8).prop_map(Event::Cancelled),
        3 => (0usize..6, any::<bool>()).prop_map(|(index, is)| Event::Suppressed(index, is)),
    ];
    ((0u64..100_000).prop_map(after), event)
}

fn users() -> impl Strategy<Value = Known> {
    let address = (1usize..5, prop::option::of(0u8..=100), prop::bool::weighted(0.1));
    let quiet = prop::option::of((0u8..24, 0u8..24));
    let zone = prop::sample::select(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"][..]);
    let caps = prop::collection::vec((1u32..4, 60u32..40_000), 0..3);
    let throttle = prop::option::of((1u32..3, 60u32..4_000));
    let digest = prop::option::weighted(0.3, 60u32..20_000);
    let addresses = prop::collection::vec(address, 0..6);
    (addresses, quiet, zone, caps, throttle, digest).prop_map(
        |(addresses, quiet, zone, caps, throttle, digest)| {
            let mut known = Known::new(&[]);
            known.addresses = addresses
                .into_iter()
                .map(|(kind, score, unverified)| AddressFacts {
                    score,
                    unverified,
                    ..AddressFacts::new(channel(CHANNELS[kind]))
                })
                .collect();
            known.quiet_hours = quiet.map(|(start, end)| {
                of(json!({"windows": [{
                    "days": crate::Weekday::ALL, "start": format!("{start:02}:00"), "end": format!("{end:02}:30"),
                }]}))
            });
            known.zone = zone.parse().expect("a zone");
            known.tenant = TenantPolicy {
                caps: caps.into_iter().map(|(max, per)| crate::Cap { max, per }).collect(),
                throttle: throttle.map(|(max, per)| crate::Throttle { max, per }),
                ..TenantPolicy::default()
            };
            if let Some(every) = digest {
                known.category_policy = of(json!({"digests": [{"name": "d", "window": {"fixed": {"every": every}}}]}));
                known.preferences = of(json!([{"channel": "email", "digest": "d"}]));
            }
            known
        },
    )
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.facts(), f)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The rules themselves are asserted where each move is taken.
    #[test]
    fn whatever_happens_every_ladder_keeps_the_rules_and_ends_once(
        known in users(),
        climbers in prop::collection::vec(climbers(), 1..8),
        mut happenings in prop::collection::vec(events(), 0..30),
        fates in prop::collection::vec((0u64..20_000, 0u8..4), 1..20),
        without_cause in any::<bool>(),
    ) {
        let mut world = World { known, climbers, fates: fates.into_iter().cycle() };
        happenings.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut turns = 0;
        while let Some(next) = world.climbers.iter().filter_map(Climber::next).min() {
            turns += 1;
            prop_assert!(turns < 10_000, "time does not go on");
            let now = match happenings.pop_if(|(at, _)| *at <= next) {
                Some((at, event)) => {
                    world.happen(&event, at);
                    at
                }
                None => {
                    world.pass_time(next);
                    next
                }
            };
            if without_cause {
                (0..world.climbers.len()).for_each(|index| world.ask(index, now));
            }
        }
        for climber in &world.climbers {
            prop_assert!(climber.end.is_some());
        }
        let taken = &world.known.taken;
        for cap in &world.known.tenant.caps {
            for start in taken {
                let end = start.after(cap.window());
                let within = taken.iter().filter(|at| *start <= **at && **at < end).count();
                prop_assert!(within <= cap.max as usize, "{within} within {cap:?}");
            }
        }
    }
}
