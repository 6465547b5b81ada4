use std::time::Duration;

use carillon_domain::{Category, ChannelKind};
use serde_json::json;

use super::*;
use crate::{AddressFacts, CategoryPolicy, Decider, Preference, QuietHours, TenantPolicy, Zone};

mod simulation;

/// 2026-11-21T12:00:00Z, a Saturday.
const NOON: Timestamp = Timestamp::from_seconds(1_795_262_400);

fn after(seconds: u64) -> Timestamp {
    NOON.after(Duration::from_secs(seconds))
}

fn of<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).expect("valid")
}

fn channel(name: &str) -> ChannelKind {
    name.parse().expect("a channel")
}

/// Everything that [`Facts`] point to.
struct Known {
    addresses: Vec<AddressFacts>,
    preferences: Vec<Preference>,
    category: Category,
    category_policy: CategoryPolicy,
    tenant: TenantPolicy,
    quiet_hours: Option<QuietHours>,
    zone: Zone,
    taken: Vec<Timestamp>,
    active_until: Option<Timestamp>,
    critical: bool,
    is_digest: bool,
    closes_at: Timestamp,
}

impl Known {
    fn new(addresses: &[&str]) -> Self {
        Self {
            addresses: addresses
                .iter()
                .map(|name| AddressFacts::new(channel(name)))
                .collect(),
            preferences: Vec::new(),
            category: Category::default(),
            category_policy: CategoryPolicy::default(),
            tenant: TenantPolicy::default(),
            quiet_hours: None,
            zone: Zone::default(),
            taken: Vec::new(),
            active_until: None,
            critical: false,
            is_digest: false,
            closes_at: after(86_400),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            addresses: &self.addresses,
            preferences: &self.preferences,
            category: &self.category,
            category_policy: &self.category_policy,
            tenant: &self.tenant,
            quiet_hours: self.quiet_hours.as_ref(),
            zone: &self.zone,
            taken: &self.taken,
            active_until: self.active_until,
            critical: self.critical,
            is_digest: self.is_digest,
            closes_at: self.closes_at,
        }
    }

    fn climb(&self, plan: &Plan, stand: &Stand, now: Timestamp) -> Vec<Move> {
        climb(plan, stand, &self.facts(), now)
    }
}

fn ladder() -> Plan {
    of(json!({"steps": [
        {"channels": ["in_app"], "deadline": 30}, {"channels": ["fcm"], "deadline": 300}, {"channels": ["email"]},
    ]}))
}

fn standing(index: usize, deadline_at: Option<Timestamp>, came: Came) -> Stand {
    Stand {
        step: Some(StepStand {
            index,
            deadline_at,
            came,
        }),
        in_app: true,
        ..Stand::default()
    }
}

fn send(address: usize) -> Alert {
    Alert {
        address,
        verdict: Verdict::Send,
    }
}

fn skip(address: usize, reason: Reason) -> Alert {
    Alert {
        address,
        verdict: Verdict::Skip(reason),
    }
}

const LOUD: Option<InApp> = Some(InApp::Write { silent: false });
const SILENT: Option<InApp> = Some(InApp::Write { silent: true });

fn entry(in_app: Option<InApp>, deadline_at: Option<Timestamp>) -> Move {
    Move::Start(Start {
        step: 0,
        in_app,
        alerts: Vec::new(),
        deadline_at,
        counts: false,
    })
}

#[test]
fn nobody_there_is_alerted_at_once_and_somebody_there_has_the_time() {
    let mut known = Known::new(&["fcm", "email"]);
    let push = Move::Start(Start {
        step: 1,
        in_app: None,
        alerts: vec![send(0)],
        deadline_at: Some(after(300)),
        counts: true,
    });
    assert_eq!(
        known.climb(&ladder(), &Stand::default(), NOON),
        [
            entry(LOUD, Some(after(30))),
            push,
            Move::Wait {
                until: Some(after(300))
            }
        ]
    );
    for (active, until) in [(20, 20), (60, 30)] {
        known.active_until = Some(after(active));
        let until = after(until);
        assert_eq!(
            known.climb(&ladder(), &Stand::default(), NOON),
            [
                entry(LOUD, Some(after(30))),
                Move::Hold {
                    step: 1,
                    until,
                    reason: Reason::Active { until },
                    in_app: None
                },
            ]
        );
    }
    // He is still there when the time is over.
    let moves = known.climb(&ladder(), &standing(0, Some(after(30)), Came::Arrived), after(30));
    assert!(
        matches!(
            &moves[..],
            [Move::Start(Start { step: 1, .. }), Move::Wait { .. }]
        ),
        "{moves:?}"
    );
    // The device that shows it gets no push.
    known.addresses[0].active_until = Some(after(60));
    let moves = known.climb(&ladder(), &standing(0, Some(after(30)), Came::Arrived), after(30));
    assert_eq!(
        moves[0],
        Move::Pass {
            step: 1,
            reason: Reason::DeviceActive,
            skipped: vec![skip(0, Reason::DeviceActive)]
        }
    );
    assert!(
        matches!(
            &moves[1..],
            [Move::Start(Start { step: 2, .. }), Move::Wait { until: None }]
        ),
        "{moves:?}"
    );
}

#[test]
fn a_step_ends_by_its_deadline_or_when_it_failed_for_good() {
    let known = Known::new(&["fcm", "email"]);
    let waiting = [Move::Wait {
        until: Some(after(300)),
    }];
    for came in [Came::Open, Came::Arrived] {
        let stand = standing(1, Some(after(300)), came);
        assert_eq!(known.climb(&ladder(), &stand, after(299)), waiting);
        let moves = known.climb(&ladder(), &stand, after(300));
        assert!(matches!(
            &moves[..],
            [
                Move::Start(Start {
                    step: 2,
                    deadline_at: None,
                    ..
                }),
                Move::Wait { until: None }
            ]
        ));
    }
    let failed = standing(1, Some(after(300)), Came::Failed);
    let moves = known.climb(&ladder(), &failed, after(1));
    assert!(
        matches!(&moves[..], [Move::Start(Start { step: 2, .. }), _]),
        "{moves:?}"
    );
}

#[test]
fn a_ladder_ends_by_what_it_came_to() {
    let known = Known::new(&["fcm", "email"]);
    let last = |came, in_app, arrived, open, dead| Stand {
        in_app,
        arrived,
        open,
        dead,
        ..standing(2, Some(after(60)), came)
    };
    for (stand, now, rest) in [
        (
            last(Came::Arrived, true, true, false, false),
            59,
            Move::Wait {
                until: Some(after(60)),
            },
        ),
        (
            last(Came::Arrived, true, true, false, false),
            60,
            Move::End(End::Completed),
        ),
        (
            last(Came::Failed, true, false, false, true),
            1,
            Move::End(End::Completed),
        ),
        (
            last(Came::Failed, false, false, false, true),
            1,
            Move::End(End::Dead),
        ),
        (
            last(Came::Failed, false, false, false, false),
            1,
            Move::End(End::Skipped),
        ),
        (
            last(Came::Failed, false, false, true, true),
            1,
            Move::Wait { until: None },
        ),
        (
            last(Came::Open, false, false, true, false),
            86_400,
            Move::End(End::Expired),
        ),
        (
            last(Came::Open, true, false, true, false),
            86_400,
            Move::End(End::Completed),
        ),
        (
            Stand {
                acknowledged: true,
                ..Stand::default()
            },
            0,
            Move::End(End::Acknowledged),
        ),
        (
            Stand {
                acknowledged: true,
                cancelled: true,
                ..Stand::default()
            },
            0,
            Move::End(End::Cancelled),
        ),
    ] {
        assert_eq!(known.climb(&ladder(), &stand, after(now)), [rest], "{stand:?}");
    }
    let nobody = Known::new(&[]);
    let alone = Plan::of_address(channel("email"));
    assert_eq!(
        nobody.climb(&alone, &Stand::default(), NOON),
        [
            Move::Pass {
                step: 0,
                reason: Reason::NoAddress,
                skipped: vec![]
            },
            Move::End(End::Skipped),
        ]
    );
}

#[test]
fn steps_whose_condition_does_not_hold_are_passed_over() {
    let mut known = Known::new(&["fcm", "email"]);
    known.addresses[1].suppressed = true;
    known.active_until = Some(after(60));
    for (when, stand, holds) in [
        (
            "unseen",
            Stand {
                seen: true,
                ..Stand::default()
            },
            false,
        ),
        ("unseen", Stand::default(), true),
        ("inactive", Stand::default(), false),
        ("unacknowledged", Stand::default(), true),
        ("reachable", Stand::default(), true),
    ] {
        let plan: Plan = of(json!({"steps": [{"channels": ["fcm"], "when": [when]}]}));
        let moves = known.climb(&plan, &stand, NOON);
        assert_eq!(matches!(moves[0], Move::Start(_)), holds, "{when}");
        assert_eq!(moves[1] == Move::End(End::Skipped), !holds, "{when}");
    }
    let unreachable: Plan = of(json!({"steps": [{"channels": ["email"], "when": ["reachable"]}]}));
    let condition = Condition::Reachable;
    assert_eq!(
        known.climb(&unreachable, &Stand::default(), NOON)[0],
        Move::Pass {
            step: 0,
            reason: Reason::Condition { condition },
            skipped: vec![]
        }
    );
}

#[test]
fn quiet_hours_hold_alerts_and_the_entry_comes_without_a_sound() {
    let mut known = Known::new(&["fcm", "email"]);
    known.quiet_hours = Some(of(
        json!({"windows": [{"days": ["sat"], "start": "11:00", "end": "13:00"}]}),
    ));
    let reason = Reason::QuietHours {
        until: after(3_600),
        zone: Zone::default(),
    };
    let held = Move::Hold {
        step: 1,
        until: after(3_600),
        reason: reason.clone(),
        in_app: None,
    };
    let first = [entry(SILENT, Some(after(30))), held];
    assert_eq!(known.climb(&ladder(), &Stand::default(), NOON), first);
    // The same, and for the same reason, while somebody is active.
    known.active_until = Some(after(60));
    assert_eq!(known.climb(&ladder(), &Stand::default(), NOON), first);
    // A mixed step writes its entry and waits with the rest.
    let mixed: Plan = of(json!({"steps": [{"channels": ["in_app", "email"], "deadline": 60}]}));
    assert_eq!(
        known.climb(&mixed, &Stand::default(), NOON),
        [Move::Hold {
            step: 0,
            until: after(3_600),
            reason,
            in_app: SILENT
        }]
    );
    let released = Stand {
        in_app: true,
        ahead: 0,
        ..Stand::default()
    };
    let moves = known.climb(&mixed, &released, after(3_600));
    assert_eq!(
        moves[0],
        Move::Start(Start {
            step: 0,
            in_app: None,
            alerts: vec![send(1)],
            deadline_at: Some(after(3_660)),
            counts: true,
        })
    );
    // A notification that does not live that long is not held longer than it does.
    known.closes_at = after(600);
    let moves = known.climb(&mixed, &Stand::default(), NOON);
    assert!(
        matches!(moves[..], [Move::Hold { until, .. }] if until == after(600)),
        "{moves:?}"
    );
}

#[test]
fn what_was_passed_over_stays_so_while_a_later_step_is_held() {
    let mut known = Known::new(&["fcm", "email"]);
    known.quiet_hours = Some(of(
        json!({"windows": [{"days": ["sat"], "start": "11:00", "end": "13:00"}]}),
    ));
    let plan: Plan =
        of(json!({"steps": [{"channels": ["fcm"], "when": ["inactive"]}, {"channels": ["email"]}]}));
    known.active_until = Some(after(60));
    let moves = known.climb(&plan, &Stand::default(), NOON);
    assert!(
        matches!(
            moves[..],
            [Move::Pass { step: 0, .. }, Move::Hold { step: 1, .. }]
        ),
        "{moves:?}"
    );
    let moves = known.climb(
        &plan,
        &Stand {
            ahead: 1,
            ..Stand::default()
        },
        after(3_600),
    );
    assert!(
        matches!(moves[..], [Move::Start(Start { step: 1, .. }), _]),
        "{moves:?}"
    );
}

#[test]
fn what_was_passed_over_stays_so_while_a_delivery_is_still_to_be_made() {
    let mut known = Known::new(&["fcm"]);
    let plan: Plan = of(json!({"steps": [
        {"channels": ["fcm"], "deadline": 30}, {"channels": ["in_app"], "deadline": 45, "when": ["inactive"]},
    ]}));
    known.active_until = Some(after(90));
    let stand = Stand {
        open: true,
        in_app: false,
        ..standing(0, Some(after(30)), Came::Open)
    };
    let moves = known.climb(&plan, &stand, after(30));
    assert!(
        matches!(
            moves[..],
            [Move::Pass { step: 1, .. }, Move::Wait { until: None }]
        ),
        "{moves:?}"
    );
    let passed = Stand { ahead: 2, ..stand };
    // Its user went, and it is asked because the delivery arrived, or without cause.
    assert_eq!(
        known.climb(&plan, &passed, after(100)),
        [Move::Wait { until: None }]
    );
    let arrived = Stand {
        open: false,
        arrived: true,
        ahead: 2,
        in_app: false,
        ..standing(0, Some(after(30)), Came::Arrived)
    };
    let ended = [Move::End(End::Completed)];
    assert_eq!(known.climb(&plan, &arrived, after(100)), ended);
}

#[test]
fn nobody_waits_in_the_app_for_steps_that_were_passed_over() {
    let mut known = Known::new(&["fcm", "email"]);
    known.active_until = Some(after(60));
    let stand = Stand {
        ahead: 2,
        ..standing(0, Some(after(30)), Came::Arrived)
    };
    // The second step was passed over when nobody was there, and the third one held: whoever comes back waits for that one.
    let moves = known.climb(&ladder(), &stand, NOON);
    assert!(matches!(moves[..], [Move::Hold { step: 2, .. }]), "{moves:?}");
    let decided = Stand { ahead: 3, ..stand };
    let ended = [Move::End(End::Completed)];
    assert_eq!(known.climb(&ladder(), &decided, NOON), ended);
    let open = Stand {
        open: true,
        ..decided
    };
    assert_eq!(known.climb(&ladder(), &open, NOON), [Move::Wait { until: None }]);
}

#[test]
fn a_notification_counts_once_and_critical_ones_do_not() {
    let mut known = Known::new(&["fcm", "email"]);
    known.tenant = of(json!({"caps": [{"max": 1, "per": 3600}]}));
    let push = standing(0, Some(NOON), Came::Arrived);
    let counts = |moves: &[Move]| match &moves[0] {
        Move::Start(start) => Some(start.counts),
        _ => None,
    };
    assert_eq!(counts(&known.climb(&ladder(), &push, NOON)), Some(true));
    known.taken = vec![NOON];
    let counted = Stand {
        counted: true,
        ..standing(1, Some(NOON), Came::Arrived)
    };
    assert_eq!(counts(&known.climb(&ladder(), &counted, NOON)), Some(false));
    let cap = Reason::Cap {
        max: 1,
        per: 3600,
        free_at: after(3_600),
    };
    assert_eq!(
        known.climb(&ladder(), &push, NOON),
        [
            Move::Pass {
                step: 1,
                reason: cap.clone(),
                skipped: vec![skip(0, cap.clone())]
            },
            Move::Pass {
                step: 2,
                reason: cap.clone(),
                skipped: vec![skip(1, cap)]
            },
            Move::End(End::Completed),
        ]
    );
    known.critical = true;
    assert_eq!(counts(&known.climb(&ladder(), &push, NOON)), Some(false));
}

#[test]
fn alerts_for_a_digest_join_it_and_the_next_step_waits_for_it() {
    let mut known = Known::new(&["fcm", "email"]);
    known.category_policy = of(json!({
        "digests": [{"name": "hourly", "window": {"sliding": {"idle": 600, "max": 3600}}}],
    }));
    known.preferences = of(json!([{"channel": "fcm", "digest": "hourly"}]));
    let joins = |closes_at| Alert {
        address: 0,
        verdict: Verdict::Digest {
            name: "hourly".parse().expect("a name"),
            joining: crate::Joining {
                closes_at,
                closes_by: after(86_100),
            },
        },
    };
    let step = |closes_at: Timestamp| Start {
        step: 1,
        in_app: None,
        alerts: vec![joins(closes_at)],
        deadline_at: Some(closes_at.after(Duration::from_secs(300))),
        counts: false,
    };
    let stand = standing(0, Some(NOON), Came::Arrived);
    assert_eq!(
        known.climb(&ladder(), &stand, NOON)[0],
        Move::Start(step(after(600)))
    );
    let open = |opened: u64| crate::OpenDigest {
        opened_at: NOON.before(Duration::from_secs(opened)),
        closes_at: NOON
            .before(Duration::from_secs(opened))
            .after(Duration::from_secs(3_600)),
        closes_by: after(86_400),
    };
    known.addresses[0].open_digest = Some(open(3_300));
    assert_eq!(
        known.climb(&ladder(), &stand, NOON)[0],
        Move::Start(step(after(300)))
    );
    known.addresses[0].open_digest = Some(open(3_600));
    assert_eq!(
        known.climb(&ladder(), &stand, NOON)[0],
        Move::Start(step(NOON)),
        "that one is closing, and takes it along"
    );
    known.is_digest = true;
    let moves = known.climb(&ladder(), &stand, NOON);
    assert!(
        matches!(&moves[0], Move::Start(start) if start.alerts == [send(0)]),
        "{moves:?}"
    );
}

#[test]
fn a_step_whose_digests_close_later_than_was_foreseen_is_not_over() {
    let known = Known::new(&["fcm", "email"]);
    let late = Some(NOON.before(Duration::from_secs(1)));
    let until = Some(after(60));
    assert_eq!(
        known.climb(&ladder(), &standing(1, late, Came::Gathered), NOON),
        [Move::Wait { until }]
    );
    let moves = known.climb(&ladder(), &standing(1, late, Came::Open), NOON);
    assert!(
        matches!(&moves[0], Move::Start(start) if start.step == 2),
        "{moves:?}"
    );
}

#[test]
fn the_best_reached_devices_come_first_and_the_lost_ones_not_at_all() {
    let mut known = Known::new(&["fcm", "email", "fcm", "fcm", "fcm"]);
    for (index, score) in [(0, Some(40)), (2, None), (3, Some(0)), (4, Some(90))] {
        known.addresses[index].score = score;
    }
    let moves = known.climb(&ladder(), &standing(0, Some(NOON), Came::Arrived), NOON);
    let expected = vec![send(4), send(2), send(0), skip(3, Reason::Unreachable)];
    assert!(
        matches!(&moves[0], Move::Start(start) if start.alerts == expected),
        "{moves:?}"
    );
}

#[test]
fn only_turning_off_the_inbox_itself_leaves_it_empty() {
    let mut known = Known::new(&[]);
    let alone = Plan::of_channels(&[ChannelKind::in_app()], Duration::ZERO, Duration::ZERO);
    for (preferences, expected) in [
        (json!([{"category": "default", "enabled": false}]), SILENT),
        (json!([{"channel": "email", "enabled": false}]), LOUD),
    ] {
        known.preferences = of(preferences);
        assert_eq!(
            known.climb(&alone, &Stand::default(), NOON),
            [entry(expected, None), Move::Wait { until: None }]
        );
    }
    known.preferences = of(json!([{"channel": "in_app", "enabled": false}]));
    let reason = Reason::Preference {
        decided_by: crate::DecidedBy::UserChannel,
    };
    assert_eq!(
        known.climb(&alone, &Stand::default(), NOON),
        [
            Move::Pass {
                step: 0,
                reason,
                skipped: vec![]
            },
            Move::End(End::Skipped)
        ]
    );
}

/// Makes one decider hit, the email of a step that is due.
fn make_hit(decider: Decider, known: &mut Known, stand: &mut Stand) {
    match decider {
        Decider::Cancelled => stand.cancelled = true,
        Decider::Acknowledged => stand.acknowledged = true,
        Decider::Expired => known.closes_at = NOON,
        Decider::Suppressed => known.addresses[0].suppressed = true,
        Decider::Preference => {
            known
                .preferences
                .push(of(json!({"channel": "email", "enabled": false})));
        }
        Decider::Digest => {
            known.category_policy = of(json!({
                "digests": [{"name": "hourly", "window": {"fixed": {"every": 3600}}}], "digest": "hourly",
            }));
        }
        Decider::QuietHours => {
            known.quiet_hours = Some(of(
                json!({"windows": [{"days": ["sat"], "start": "11:00", "end": "13:00"}]}),
            ));
        }
        Decider::Hold => known.addresses[0].active_until = Some(after(30)),
        Decider::Throttle => known.tenant.throttle = Some(of(json!({"max": 1, "per": 60}))),
        Decider::Cap => known.tenant.caps = of(json!([{"max": 1, "per": 60}])),
    }
}

/// Which decider decided, as the first move shows it; none when the email goes out.
fn decided(moves: &[Move]) -> Option<Decider> {
    match &moves[0] {
        Move::End(End::Cancelled) => Some(Decider::Cancelled),
        Move::End(End::Acknowledged) => Some(Decider::Acknowledged),
        Move::End(End::Completed) => Some(Decider::Expired),
        Move::Pass { reason, .. } | Move::Hold { reason, .. } => reason.decider(),
        Move::Start(start) => match &start.alerts[0].verdict {
            Verdict::Digest { .. } => Some(Decider::Digest),
            Verdict::Send => None,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_decider_that_hits_decides() {
    let plan: Plan =
        of(json!({"steps": [{"channels": ["in_app"], "deadline": 30}, {"channels": ["email"]}]}));
    for critical in [false, true] {
        for (index, earlier) in Decider::ORDER.into_iter().enumerate() {
            for later in Decider::ORDER.into_iter().skip(index) {
                let mut known = Known::new(&["email"]);
                known.taken = vec![NOON];
                known.critical = critical;
                let mut stand = standing(0, Some(NOON), Came::Arrived);
                make_hit(earlier, &mut known, &mut stand);
                make_hit(later, &mut known, &mut stand);
                let expected = Some(earlier).filter(|decider| !critical || decider.holds_for_critical());
                let moves = known.climb(&plan, &stand, NOON);
                assert_eq!(decided(&moves), expected, "{earlier:?} {later:?} {critical}");
            }
        }
    }
}

#[test]
fn what_began_in_time_is_waited_for_once_the_time_is_over() {
    let known = Known::new(&["fcm"]);
    let plan: Plan = of(json!({"steps": [{"channels": ["fcm"]}]}));
    let stand = Stand {
        open: true,
        under_way: Some(after(86_430)),
        in_app: false,
        ..standing(0, None, Came::Open)
    };
    let waits = Move::Wait {
        until: Some(after(86_430)),
    };
    assert_eq!(known.climb(&plan, &stand, after(86_400)), [waits]);
    let late = known.climb(&plan, &stand, after(86_430));
    assert_eq!(late, [Move::End(End::Expired)]);
    let arrived = Stand {
        arrived: true,
        ..stand.clone()
    };
    let ended = known.climb(&plan, &arrived, after(86_400));
    assert_eq!(ended, [Move::End(End::Completed)]);
    let cancelled = Stand {
        cancelled: true,
        ..stand
    };
    let ended = known.climb(&plan, &cancelled, after(86_400));
    assert_eq!(ended, [Move::End(End::Cancelled)]);
}
