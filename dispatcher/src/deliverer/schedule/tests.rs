use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_767_323_045);
const PATIENCE: Duration = Duration::from_secs(15);

fn due(tenant: &str, lane: &str, strand: &str) -> Due {
    Due {
        channel: "email".parse().expect("a channel"),
        lane: Arc::from(lane),
        tenant: tenant.parse().expect("a tenant"),
        strand: Arc::from(strand),
    }
}

fn schedule(width: usize) -> Schedule {
    Schedule::new(DeliveryConfig {
        width,
        ..DeliveryConfig::default()
    })
}

fn round(schedule: &mut Schedule, dues: &[Due]) -> Round {
    schedule.round(NOW, dues.iter().cloned(), |_| PATIENCE)
}

fn end(schedule: &mut Schedule, pick: &Pick, verdict: Verdict, now: Timestamp) {
    for _ in 0..pick.take {
        schedule.end(&pick.due, pick.pass, verdict, now, 1.0);
    }
}

/// What was picked, as `tenant/lane/strand` and how many.
fn picked(round: &Round) -> Vec<(String, usize)> {
    let mut picked: Vec<_> = round
        .picks
        .iter()
        .map(|pick| {
            let due = &pick.due;
            (format!("{}/{}/{}", due.tenant, due.lane, due.strand), pick.take)
        })
        .collect();
    picked.sort();
    picked
}

#[test]
fn tenants_share_a_lane_evenly() {
    let mut schedule = schedule(7);
    let round = round(
        &mut schedule,
        &[due("a", "x", ""), due("b", "x", ""), due("c", "x", "")],
    );
    assert_eq!(
        picked(&round),
        [("a/x/".into(), 2), ("b/x/".into(), 2), ("c/x/".into(), 2)]
    );
    assert_eq!(schedule.under_way(), 6);
}

#[test]
fn a_full_lane_is_parked_and_its_neighbour_is_not() {
    let mut schedule = schedule(4);
    let dues = [due("a", "slow", ""), due("a", "fast", "")];
    assert_eq!(picked(&round(&mut schedule, &dues[..1])), [("a/slow/".into(), 3)]);
    let second = round(&mut schedule, &dues);
    assert_eq!(picked(&second), [("a/fast/".into(), 3)]);
    assert_eq!(second.parks.len(), 1);
    assert_eq!(
        (&*second.parks[0].due.lane, second.parks[0].reason),
        ("slow", Parked::Full)
    );
    assert!(second.parks[0].until > NOW);
}

#[test]
fn a_strand_has_one_under_way() {
    let mut schedule = schedule(8);
    let dues = [due("a", "x", "one"), due("a", "x", "two")];
    let first = round(&mut schedule, &dues);
    assert_eq!(picked(&first), [("a/x/one".into(), 1), ("a/x/two".into(), 1)]);
    let second = round(&mut schedule, &dues);
    assert_eq!((second.picks.len(), second.parks.len()), (0, 2));
    let one = first
        .picks
        .iter()
        .find(|pick| &*pick.due.strand == "one")
        .expect("picked");
    end(&mut schedule, one, Verdict::Well, NOW);
    assert_eq!(picked(&round(&mut schedule, &dues)), [("a/x/one".into(), 1)]);
}

#[test]
fn a_backlog_without_order_leaves_turns_to_its_tenants_strands() {
    let mut schedule = schedule(1);
    let dues = [due("a", "x", ""), due("a", "x", "one"), due("a", "x", "two")];
    let mut served = Vec::new();
    for _ in 0..6 {
        let round = round(&mut schedule, &dues);
        served.push(round.picks[0].due.strand.to_string());
        end(&mut schedule, &round.picks[0], Verdict::Well, NOW);
    }
    assert_eq!(served, ["", "one", "two", "", "one", "two"]);
}

#[test]
fn an_open_breaker_parks_its_lane_for_all_tenants_then_lets_one_through() {
    let mut schedule = schedule(8);
    let dues = [due("a", "x", ""), due("b", "x", "")];
    let first = round(&mut schedule, &dues);
    for pick in &first.picks {
        end(&mut schedule, pick, Verdict::Ill(None), NOW);
    }
    let second = round(&mut schedule, &dues);
    assert_eq!((second.picks.len(), second.parks.len()), (0, 2));
    let until = second.parks[0].until;
    assert_eq!(
        (until, second.parks[0].reason),
        (NOW.after(Duration::from_secs(10)), Parked::Breaker)
    );
    assert!(!schedule.has_room(&dues[0].channel, &dues[0].lane, NOW));
    let third = schedule.round(until, dues.iter().cloned(), |_| PATIENCE);
    assert_eq!(picked(&third).iter().map(|(_, take)| take).sum::<usize>(), 1);
    let fourth = schedule.round(until, dues.iter().cloned(), |_| PATIENCE);
    assert!(fourth.picks.is_empty());
    end(&mut schedule, &third.picks[0], Verdict::Well, until);
    let fifth = schedule.round(until, dues.iter().cloned(), |_| PATIENCE);
    assert_eq!(picked(&fifth), [("a/x/".into(), 4), ("b/x/".into(), 3)]);
}

#[test]
fn a_probe_that_found_nothing_to_lease_leaves_the_turn_to_another() {
    let mut schedule = schedule(8);
    let dues = [due("a", "x", "")];
    let first = round(&mut schedule, &dues);
    end(&mut schedule, &first.picks[0], Verdict::Ill(None), NOW);
    let later = NOW.after(Duration::from_secs(10));
    let probe = schedule.round(later, dues.iter().cloned(), |_| PATIENCE);
    schedule.unused(&probe.picks[0], 1, later);
    let again = schedule.round(later, dues.iter().cloned(), |_| PATIENCE);
    assert_eq!(picked(&again), [("a/x/".into(), 1)]);
}

#[test]
fn lanes_that_hang_leave_room_for_those_that_have_nothing_under_way() {
    let mut schedule = Schedule::new(DeliveryConfig {
        width: 8,
        total_width: 64,
        ..DeliveryConfig::default()
    });
    let stuck: Vec<_> = (0..20).map(|n| due("a", &format!("stuck{n:02}"), "")).collect();
    for _ in 0..4 {
        round(&mut schedule, &stuck);
    }
    assert_eq!(schedule.under_way(), 48, "three quarters");
    let next = round(&mut schedule, &[due("b", "well", "")]);
    assert_eq!(picked(&next), [("b/well/".into(), 6)]);
    let mut fresh: Vec<_> = (0..64).map(|n| due("a", &format!("fresh{n:02}"), "")).collect();
    fresh.push(due("c", "new", ""));
    let next = round(&mut schedule, &fresh);
    let taken = |tenant: &str| {
        let picks = next
            .picks
            .iter()
            .filter(|pick| pick.due.tenant.as_str() == tenant);
        picks.map(|pick| pick.take).sum::<usize>()
    };
    assert!(
        taken("a") <= 2 && taken("c") > 4,
        "many lanes are no more than one"
    );
    assert!(schedule.under_way() < 64, "and for the next one");
}

#[test]
fn slots_go_from_tenant_to_tenant_whatever_lanes_they_have() {
    let mut schedule = Schedule::new(DeliveryConfig {
        batch: 20,
        ..DeliveryConfig::default()
    });
    let mut dues: Vec<_> = (0..1_000).map(|n| due("a", &format!("{n:03}"), "")).collect();
    dues.push(due("b", "own", ""));
    let round = round(&mut schedule, &dues);
    let taken = picked(&round);
    let of_b = taken
        .iter()
        .find(|(name, _)| name == "b/own/")
        .map(|(_, take)| *take);
    assert_eq!((of_b, taken.len()), (Some(10), 11), "half of the round");
}

#[test]
fn where_callers_choose_the_lane_one_tenants_failures_are_his_own() {
    let mut schedule = schedule(8);
    let hook = |tenant: &str| Due {
        channel: ChannelKind::webhook(),
        ..due(tenant, "shared.example:443", "")
    };
    let first = round(&mut schedule, &[hook("a")]);
    for pick in &first.picks {
        end(&mut schedule, pick, Verdict::Ill(None), NOW);
    }
    let second = round(&mut schedule, &[hook("a"), hook("b")]);
    assert_eq!(picked(&second), [("b/shared.example:443/".into(), 6)]);
    assert_eq!(second.parks[0].reason, Parked::Breaker);
    let states: Vec<_> = schedule
        .standings(NOW)
        .into_iter()
        .map(|lane| {
            (
                lane.tenant.map(|tenant| tenant.to_string()),
                lane.breaker.as_str(),
            )
        })
        .collect();
    assert_eq!(
        states,
        [(Some("a".to_owned()), "open"), (Some("b".to_owned()), "closed")]
    );
    let b = "b".parse().expect("a tenant");
    assert_eq!(schedule.standings_of(&b, NOW)[0].under_way, 6);
    // His one attempt that asks is his alone too.
    for pick in &second.picks {
        end(&mut schedule, pick, Verdict::Well, NOW);
    }
    let later = NOW.after(Duration::from_secs(10));
    let third = schedule.round(later, [hook("a"), hook("b")], |_| PATIENCE);
    assert_eq!(
        picked(&third),
        [
            ("a/shared.example:443/".into(), 1),
            ("b/shared.example:443/".into(), 6)
        ]
    );
}

#[test]
fn while_one_attempt_asks_the_others_are_looked_at_soon() {
    let mut schedule = schedule(8);
    let dues = [due("a", "x", ""), due("b", "x", "")];
    for pick in &round(&mut schedule, &dues).picks {
        end(&mut schedule, pick, Verdict::Ill(None), NOW);
    }
    let later = NOW.after(Duration::from_secs(10));
    let probe = schedule.round(later, dues.iter().cloned(), |_| PATIENCE);
    let waiting = schedule.round(later, dues.iter().cloned(), |_| PATIENCE);
    for park in &waiting.parks {
        assert_eq!((park.reason, park.until), (Parked::Full, later.after(FULL)));
    }
    end(&mut schedule, &probe.picks[0], Verdict::Well, later);
    let next = schedule.round(later, dues.iter().cloned(), |_| PATIENCE);
    assert_eq!(picked(&next), [("a/x/".into(), 4), ("b/x/".into(), 3)]);
}

#[test]
fn a_lane_without_work_is_forgotten_unless_it_is_in_trouble() {
    let mut schedule = schedule(8);
    let dues = [due("a", "well", ""), due("a", "ill", "")];
    let first = round(&mut schedule, &dues);
    for pick in &first.picks {
        let verdict = if &*pick.due.lane == "ill" {
            Verdict::Ill(None)
        } else {
            Verdict::Well
        };
        end(&mut schedule, pick, verdict, NOW);
    }
    schedule.round(NOW.after(IDLE), [], |_| PATIENCE);
    let left: Vec<_> = schedule
        .standings(NOW)
        .iter()
        .map(|standing| standing.lane.to_string())
        .collect();
    assert_eq!(left, ["ill"]);
    schedule.round(NOW.after(IDLE * 10), [], |_| PATIENCE);
    assert_eq!(schedule.standings(NOW).len(), 0);
}

/// How many slots of the lane `x` each of these tenants has.
fn shares(schedule: &Schedule, tenants: &[&str]) -> Vec<usize> {
    let of_tenant = |tenant: &&str| {
        let standings = schedule.standings_of(&tenant.parse().expect("a tenant"), NOW);
        standings.iter().map(|lane| lane.under_way).sum()
    };
    tenants.iter().map(of_tenant).collect()
}

#[test]
fn who_is_alone_in_a_lane_has_three_quarters_of_it_and_leaves_the_rest() {
    for (width, most) in [(1, 1), (2, 1), (3, 2), (4, 3), (24, 18), (32, 24), (200, 150)] {
        let mut schedule = schedule(width);
        let taken = picked(&round(&mut schedule, &[due("a", "x", "")]));
        assert_eq!(taken, [("a/x/".into(), most)], "of {width}");
    }
    let config = DeliveryConfig {
        width: 8,
        ..DeliveryConfig::default()
    };
    let mut own = Schedule::of_one_tenant(config);
    let taken = picked(&round(&mut own, &[due("a", "x", "")]));
    assert_eq!(taken, [("a/x/".into(), 8)], "where the lane is his alone");
}

#[test]
fn who_has_his_share_of_a_lane_is_put_off_until_one_of_his_ends() {
    let mut schedule = schedule(8);
    let dues = [due("a", "x", ""), due("a", "y", "")];
    let first = round(&mut schedule, &dues[..1]);
    let (channel, lane, tenant) = (&dues[0].channel, &dues[0].lane, &dues[0].tenant);
    assert!(!schedule.has_room_for(channel, lane, tenant));
    let second = round(&mut schedule, &dues);
    assert_eq!(picked(&second), [("a/y/".into(), 6)], "his other lanes go on");
    assert_eq!(second.parks, [Park::full(dues[0].clone(), NOW.after(FULL))]);
    schedule.end(&dues[0], first.picks[0].pass, Verdict::Well, NOW, 0.0);
    assert!(schedule.has_room_for(channel, lane, tenant));
    assert_eq!(picked(&round(&mut schedule, &dues[..1])), [("a/x/".into(), 1)]);
}

proptest! {
    #[test]
    fn a_tenant_whose_attempts_hang_leaves_a_slot_to_another(
        width in 2_usize..64,
        before in 0_usize..64,
        steps in proptest::collection::vec((any::<bool>(), 0_usize..8), 1..80),
    ) {
        let mut schedule = schedule(width);
        let (a, b) = (due("a", "x", ""), due("b", "x", ""));
        let mut of_b: Vec<Pass> = Vec::new();
        // What was there before the other began to hang.
        for pick in schedule.round_of(NOW, [b.clone()], |_| PATIENCE, before).picks {
            of_b.extend(std::iter::repeat_n(pick.pass, pick.take));
        }
        for (waits, ends) in steps {
            for pass in of_b.drain(..ends.min(of_b.len())) {
                schedule.end(&b, pass, Verdict::Well, NOW, 0.0);
            }
            let dues = std::iter::once(a.clone()).chain(waits.then(|| b.clone()));
            let round = schedule.round(NOW, dues, |_| PATIENCE);
            for park in &round.parks {
                prop_assert!(park.until > NOW, "nobody asks again and again");
            }
            for pick in round.picks.iter().filter(|pick| pick.due == b) {
                of_b.extend(std::iter::repeat_n(pick.pass, pick.take));
            }
            let held = shares(&schedule, &["a", "b"]);
            prop_assert_eq!(held[1], of_b.len());
            prop_assert!(held[0] <= (width * 3 / 4).max(1), "{} of {}", held[0], width);
            prop_assert!(!waits || !of_b.is_empty(), "he who has none gets one at once");
        }
    }

    #[test]
    fn a_slot_that_comes_free_is_theirs_who_have_none_and_nobody_waits_in_vain(
        width in 1_usize..40,
        steps in proptest::collection::vec((1_u8..64, any::<u16>()), 1..120),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut schedule = schedule(width);
        let mut running: Vec<(Due, Pass)> = Vec::new();
        // How many ends each has waited for without a slot.
        let mut waited = [0_usize; 6];
        for (which, end) in steps {
            if !running.is_empty() {
                let (due, pass) = running.swap_remove(usize::from(end) % running.len());
                schedule.end(&due, pass, Verdict::Well, NOW, 0.0);
            }
            let held = shares(&schedule, &names);
            let is_last = held.iter().sum::<usize>() + 1 == width;
            let is_due = |n: usize| which >> n & 1 == 1;
            let dues = (0..6).filter(|n| is_due(*n)).map(|n| due(names[n], "x", ""));
            for pick in schedule.round(NOW, dues, |_| PATIENCE).picks {
                let has = names.iter().position(|name| *name == pick.due.tenant.as_str());
                let has = has.map_or(0, |place| held[place]);
                prop_assert!(!is_last || has == 0, "the last one is for who has none");
                running.extend(std::iter::repeat_n((pick.due.clone(), pick.pass), pick.take));
            }
            let held = shares(&schedule, &names);
            let taken = held.iter().sum::<usize>();
            prop_assert!(taken <= width);
            for n in 0..6 {
                let in_vain = is_due(n) && held[n] == 0;
                prop_assert!(!in_vain || taken == width, "a slot is free and he has none");
                waited[n] = if in_vain { waited[n] + 1 } else { 0 };
                prop_assert!(waited[n] <= names.len(), "{} waits in vain", names[n]);
            }
        }
    }

    #[test]
    fn each_tenant_has_its_turn(width in 1_usize..8, tenants in 1_usize..20, other in 0_usize..5) {
        let mut schedule = schedule(width);
        let mut dues: Vec<_> = (0..tenants).map(|n| due(&format!("t{n}"), "x", "")).collect();
        dues.extend((0..other).map(|n| due("t0", &format!("y{n}"), "")));
        let mut served: HashMap<TenantId, usize> = HashMap::new();
        let rounds = 3;
        // One slot is freed per round.
        let first = round(&mut schedule, &dues);
        let mut running: VecDeque<Pick> = first.picks.into();
        for _ in 0..rounds * tenants {
            let mut one = running.pop_front().expect("a lane with work has something under way");
            one.take -= 1;
            schedule.end(&one.due, one.pass, Verdict::Well, NOW, 0.0);
            if one.take > 0 {
                running.push_back(one);
            }
            for pick in round(&mut schedule, &dues).picks {
                if &*pick.due.lane == "x" {
                    *served.entry(pick.due.tenant.clone()).or_default() += pick.take;
                }
                running.push_back(pick);
            }
        }
        if other == 0 {
            for due in &dues {
                prop_assert_eq!(served.get(&due.tenant).copied(), Some(rounds), "each as often as the others");
            }
        }
    }

    #[test]
    fn slots_are_kept_and_no_lane_takes_anothers(
        width in 1_usize..6,
        batch in 1_usize..40,
        steps in proptest::collection::vec((any::<u32>(), any::<u16>(), 0_u8..8), 1..120),
    ) {
        let lanes = ["slow", "fast", "other"];
        let mut schedule = Schedule::new(DeliveryConfig { width, batch, ..DeliveryConfig::default() });
        let mut now = NOW;
        // One entry per slot, but for those of the slow lane, which never end.
        let mut running: Vec<(Due, Pass)> = Vec::new();
        let mut slow = 0;
        for (which, pick, action) in steps {
            now = now.after(Duration::from_millis(u64::from(pick)));
            let dues: Vec<Due> = (0..24)
                .filter(|bit| which >> bit & 1 == 1)
                .map(|bit| due(
                    ["a", "b"][bit % 2],
                    lanes[bit / 2 % 3],
                    ["", "one", "two", ""][bit / 6],
                ))
                .collect();
            let wanted: BTreeSet<Due> = dues.iter().cloned().collect();
            let before = schedule.under_way();
            let free: HashMap<Lane, bool> = dues
                .iter()
                .map(|due| (Arc::clone(&due.lane), schedule.has_room(&due.channel, &due.lane, now)))
                .collect();
            let round = schedule.round(now, dues, |_| PATIENCE);
            let taken: usize = round.picks.iter().map(|pick| pick.take).sum();
            prop_assert!(taken <= batch);
            prop_assert_eq!(schedule.under_way(), before + taken);
            for park in &round.parks {
                prop_assert!(park.until > now);
            }
            let handled: BTreeSet<Due> = round
                .picks
                .iter()
                .map(|pick| pick.due.clone())
                .chain(round.parks.iter().map(|park| park.due.clone()))
                .collect();
            prop_assert!(handled.is_subset(&wanted));
            // A lane with a free slot and something to take gets one, whatever the others do.
            for (lane, free) in free {
                let strands_only_busy = wanted.iter().filter(|due| due.lane == lane).all(|due| {
                    round.parks.iter().any(|park| park.due == *due)
                });
                let picked = round.picks.iter().any(|pick| pick.due.lane == lane);
                if free && !strands_only_busy && batch >= 2 * lanes.len() {
                    prop_assert!(picked, "{} got nothing", lane);
                }
            }
            for pick in round.picks {
                if !pick.due.strand.is_empty() {
                    prop_assert_eq!(pick.take, 1);
                    prop_assert!(!running.iter().any(|(due, _)| *due == pick.due), "a strand has two under way");
                }
                if &*pick.due.lane == "slow" {
                    slow += pick.take;
                } else {
                    running.extend(std::iter::repeat_n((pick.due.clone(), pick.pass), pick.take));
                }
            }
            for standing in schedule.standings(now) {
                prop_assert!(standing.under_way <= width);
            }
            prop_assert!(slow <= width);
            let ends = if action == 0 { 0 } else { running.len().min(usize::from(action)) };
            for _ in 0..ends {
                let (due, pass) = running.swap_remove(usize::from(pick) % running.len());
                let verdict = if action > 5 { Verdict::Ill(None) } else { Verdict::Well };
                schedule.end(&due, pass, verdict, now, 0.5);
            }
            prop_assert_eq!(schedule.under_way(), running.len() + slow);
        }
    }
}
