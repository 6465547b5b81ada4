//! What recipients stand with between two looks, and what makes them due.

use std::{sync::Arc, time::Duration};

use carillon_domain::{Address, ChannelKind, NotificationId, ports::Operation as Does};

use super::{
    fixture::Fixture,
    ladder::{Look, Sees, decided, deliveries, plan, tick, way, words},
    withdrawals::{answer, work_off},
};
use crate::store::{outside::*, policy::*, withdrawals::WithdrawalKind, *};

const MINUTE: Duration = Duration::from_secs(60);
/// Quiet for another 56 minutes: it is 03:04 on a Friday.
const EARLY: &str = r#"{"quiet_hours":{"windows":[{"days":["fri"],"start":"00:00","end":"04:00"}]}}"#;

/// It gets quiet in 56 minutes, for an hour.
const SOON: &str = r#"{"quiet_hours":{"windows":[{"days":["fri"],"start":"04:00","end":"05:00"}]}}"#;

/// What each of them has outside the inbox; the plan is the request's own.
struct Each<'a> {
    f: &'a Fixture,
    ways: &'a [(&'a str, &'a [&'a str])],
}

impl Sees for Each<'_> {
    fn see(&self, job: &mut PlanJob) {
        let in_app = job.plan.plan.channels().any(|kind| kind.is_in_app());
        for addressee in &mut job.users {
            let own = self
                .ways
                .iter()
                .find(|(user, _)| self.f.user(user) == addressee.user);
            let ways = own.map_or(&[][..], |(_, ways)| ways);
            addressee.in_app = in_app;
            addressee.outside = ways.iter().map(|address| way(address)).collect();
        }
    }
}

/// Sends by a plan of the request's own.
async fn send(f: &Fixture, users: &[&str], steps: &str, look: &impl Sees) -> NotificationId {
    let row = NewNotification {
        plan: Some(Arc::from(steps)),
        expires_at: f.now().after(Duration::from_secs(86_400)),
        ..f.notification(users)
    };
    f.accept(std::slice::from_ref(&row)).await;
    plan(f, look).await;
    row.id
}

pub(super) fn kind(channel: &str) -> ChannelKind {
    channel.parse().expect("a channel")
}

/// Hands out what is due over a channel.
pub(super) async fn hand_out(f: &Fixture, channel: &str) -> Vec<Arc<LeasedDelivery>> {
    let lanes = f
        .store
        .due_lanes(f.now(), &[kind(channel)], 10)
        .await
        .expect("reads");
    let pick = |lane: DueLane| LanePick {
        key: lane.key,
        limit: 100,
    };
    let picks: Vec<LanePick> = lanes.into_iter().map(pick).collect();
    let until = f.now().after(MINUTE);
    let handed = f.store.lease_deliveries(f.now(), &picks, until, f.now()).await;
    handed.expect("leases").leased.into_iter().map(Arc::new).collect()
}

pub(super) async fn settle(f: &Fixture, leased: &[Arc<LeasedDelivery>], verdict: Verdict) {
    assert!(!leased.is_empty(), "something was handed out");
    let outcome = match verdict {
        Verdict::Done { .. } => "accepted",
        Verdict::Again(_) => "retry",
        _ => "rejected",
    };
    let settlement = |delivery: &Arc<LeasedDelivery>| Settlement {
        delivery: Arc::clone(delivery),
        ended_at: f.now(),
        outcome,
        status: None,
        reason: None,
        excerpt: None,
        provider_id: None,
        verdict,
        is_sent: true,
        recalls: true,
    };
    let settlements: Vec<Settlement> = leased.iter().map(settlement).collect();
    f.store.settle(f.now(), &settlements).await.expect("settles");
}

pub(super) const ACCEPTED: Verdict = Verdict::Done { accepted: true };

pub(super) async fn be_quiet(f: &Fixture, user: &str) {
    quiet(f, user, EARLY).await;
}

async fn quiet(f: &Fixture, user: &str, body: &str) {
    let (now, user) = (f.now(), f.user(user));
    let written = f.store.put_user_policy(now, &f.tenant, user, Some(body)).await;
    assert!(written.expect("writes"));
}

/// A user turns a channel off.
pub(super) async fn turn_off(f: &Fixture, user: &str, channel: &str) {
    let off = PreferenceChanges {
        whole: false,
        changes: vec![PreferenceChange {
            category: None,
            channel: Some(kind(channel)),
            to: Some(Chosen {
                enabled: Some(false),
                digest: None,
            }),
        }],
    };
    let user = f.user(user);
    let changed = f.store.change_preferences(f.now(), &f.tenant, user, &off, 100);
    changed.await.expect("writes");
}

fn row(step: u32, channel: &str, state: &str) -> (u32, String, String) {
    (step, channel.to_owned(), state.to_owned())
}

pub(super) async fn a_step_that_was_passed_over_before_a_hold_stays_so(f: Fixture) {
    be_quiet(&f, "ada").await;
    let steps =
        r#"{"steps":[{"channels":["push"],"deadline":300,"when":["inactive"]},{"channels":["sms"]}]}"#;
    let there = Look {
        channels: &[],
        addresses: &["a", "sms:a"],
        active_until: Some(f.now().after(MINUTE)),
    };
    let id = send(&f, &["ada"], steps, &there).await;
    assert_eq!(f.recipient(id, "ada").await.phase, Some(RecipientPhase::Held));
    f.advance(Duration::from_secs(3_600));
    let away = Look {
        active_until: None,
        ..there
    };
    assert_eq!(tick(&f, &away).await, 1);
    assert_eq!(deliveries(&f, id, "ada").await, [row(1, "sms", "pending")]);
    assert_eq!(f.recipient(id, "ada").await.step, Some(1));
    assert_eq!(
        words(&decided(&f, id, "ada").await),
        [
            ("passed", "condition"),
            ("held", "quiet_hours"),
            ("released", "quiet_hours")
        ]
    );
}

pub(super) async fn what_was_skipped_before_a_hold_does_not_start_with_nothing_to_send(f: Fixture) {
    be_quiet(&f, "ada").await;
    let suppression = SuppressionRow {
        tenant: f.tenant.clone(),
        channel: kind("push"),
        address: "a".parse::<Address>().expect("an address"),
        reason: "manual".into(),
        detail: None,
        delivery: None,
        at: f.now(),
    };
    f.store.suppress(&suppression).await.expect("writes");
    let steps = r#"{"steps":[{"channels":["push"],"deadline":300},{"channels":["sms"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["a", "sms:a"],
        active_until: None,
    };
    let id = send(&f, &["ada"], steps, &look).await;
    let skipped = row(0, "push", "skipped");
    assert_eq!(deliveries(&f, id, "ada").await, std::slice::from_ref(&skipped));
    // Meanwhile the address is fine again.
    let (push, address) = (kind("push"), suppression.address);
    let lifted = f.store.lift_suppression(&f.tenant, &push, &address).await;
    assert!(lifted.expect("writes"));
    f.advance(Duration::from_secs(3_600));
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(
        deliveries(&f, id, "ada").await,
        [skipped, row(1, "sms", "pending")],
        "the step that was held is the one that starts"
    );
    assert_eq!(f.recipient(id, "ada").await.step, Some(1));
}

pub(super) async fn the_first_answer_ends_it_for_those_who_completed_before(f: Fixture) {
    let steps = r#"{"acknowledged_by":"any","steps":[{"channels":["in_app"],"deadline":30},
        {"channels":["push"],"deadline":300},{"channels":["email"]}]}"#;
    let ways: [(&str, &[&str]); 2] = [("bob", &["b", "email:b"]), ("cyd", &["c"])];
    let look = Each { f: &f, ways: &ways };
    let id = send(&f, &["ada", "bob", "cyd"], steps, &look).await;
    assert_eq!(
        f.recipient(id, "ada").await.state,
        RecipientState::Completed,
        "nothing was left to try but the inbox"
    );
    settle(&f, &hand_out(&f, "push").await, ACCEPTED).await;
    f.advance(Duration::from_secs(300));
    assert_eq!(tick(&f, &look).await, 2);
    assert_eq!(f.recipient(id, "cyd").await.state, RecipientState::Completed);
    let waits = deliveries(&f, id, "bob").await;
    assert!(waits.contains(&row(2, "email", "pending")), "{waits:?}");

    answer(&f, "bob", id, &[kind("push")], Vec::new()).await;
    work_off(&f).await;
    for user in ["ada", "cyd"] {
        let detail = f.recipient(id, user).await;
        assert_eq!(detail.state, RecipientState::Acknowledged);
        let by = detail.acknowledgement.and_then(|one| one.by);
        assert_eq!(by, Some(f.user("bob")));
        let entry = f.inbox(user).await.remove(0);
        let by = entry.acknowledgement.and_then(|one| one.by);
        assert_eq!(by, Some(f.user("bob")), "their devices fall silent");
        f.log(user).await;
    }
    let recalls = hand_out(&f, "push").await;
    assert!(recalls.iter().all(|one| one.operation == Does::Recall));
    assert_eq!(recalls.len(), 2, "what was sent to both is taken back");
    assert!(hand_out(&f, "email").await.is_empty());
}

pub(super) async fn a_late_answer_without_an_inbox_counts(f: Fixture) {
    let steps =
        r#"{"acknowledged_by":"any","steps":[{"channels":["push"],"deadline":60},{"channels":["email"]}]}"#;
    let ways: [(&str, &[&str]); 2] = [("ada", &["a"]), ("bob", &["b", "email:b"])];
    let look = Each { f: &f, ways: &ways };
    let id = send(&f, &["ada", "bob"], steps, &look).await;
    settle(&f, &hand_out(&f, "push").await, ACCEPTED).await;
    f.advance(MINUTE);
    assert_eq!(tick(&f, &look).await, 2);
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Completed);

    f.advance(Duration::from_secs(1));
    let said = answer(&f, "ada", id, &[], Vec::new()).await;
    assert_eq!(said, OperationResult::Ok);
    let ada = f.recipient(id, "ada").await;
    assert_eq!(ada.state, RecipientState::Acknowledged);
    let detail = f.store.withdrawal(&f.tenant, id).await.expect("reads");
    let running = detail.running.map(|(kind, _)| kind);
    assert_eq!(running, Some(WithdrawalKind::Answered));
    assert!(hand_out(&f, "email").await.is_empty(), "nothing starts any more");
    work_off(&f).await;
    assert_eq!(f.recipient(id, "bob").await.state, RecipientState::Acknowledged);
    assert_eq!(
        deliveries(&f, id, "bob").await,
        [row(0, "push", "accepted"), row(1, "email", "cancelled")]
    );
}

pub(super) async fn what_arrives_in_its_time_makes_nobody_due(f: Fixture) {
    let steps = r#"{"steps":[{"channels":["push"],"deadline":300},{"channels":["sms"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["a", "sms:a"],
        active_until: None,
    };
    let deadline = f.now().after(Duration::from_secs(300));
    send(&f, &["ada"], steps, &look).await;
    f.advance(MINUTE);
    settle(&f, &hand_out(&f, "push").await, ACCEPTED).await;
    let next = f.store.next_climb().await.expect("reads");
    assert_eq!(next, Some(deadline), "there is nothing to decide yet");
}

pub(super) async fn what_arrives_after_the_last_step_failed_completes_the_ladder(f: Fixture) {
    let steps = r#"{"steps":[{"channels":["sms"],"deadline":30},{"channels":["push"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["a", "sms:a"],
        active_until: None,
    };
    let id = send(&f, &["ada"], steps, &look).await;
    let later = f.now().after(Duration::from_secs(40));
    settle(&f, &hand_out(&f, "sms").await, Verdict::Again(later)).await;
    f.advance(Duration::from_secs(30));
    assert_eq!(tick(&f, &look).await, 1);
    settle(&f, &hand_out(&f, "push").await, Verdict::Dead).await;
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Open);
    let next = f.store.next_climb().await.expect("reads");
    assert_eq!(next, None, "what is still tried is waited for");
    f.advance(Duration::from_secs(10));
    settle(&f, &hand_out(&f, "sms").await, ACCEPTED).await;
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Completed);
}

pub(super) async fn what_arrives_after_the_later_steps_were_passed_completes_the_ladder(f: Fixture) {
    let steps = r#"{"steps":[{"channels":["sms"],"deadline":30},{"channels":["push"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["sms:a"],
        active_until: None,
    };
    let id = send(&f, &["ada"], steps, &look).await;
    let later = f.now().after(Duration::from_secs(40));
    settle(&f, &hand_out(&f, "sms").await, Verdict::Again(later)).await;
    f.advance(Duration::from_secs(30));
    assert_eq!(tick(&f, &look).await, 1);
    let ada = f.recipient(id, "ada").await;
    assert_eq!((ada.state, ada.step), (RecipientState::Open, Some(0)));
    f.advance(Duration::from_secs(10));
    settle(&f, &hand_out(&f, "sms").await, ACCEPTED).await;
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Completed);
}

pub(super) async fn a_held_step_without_its_entry_starts_when_an_earlier_one_is_tried_again(f: Fixture) {
    quiet(&f, "ada", SOON).await;
    turn_off(&f, "ada", "in_app").await;
    let steps = r#"{"steps":[{"channels":["push"],"deadline":43200},{"channels":["in_app","sms"]}]}"#;
    let look = Look {
        channels: &[],
        addresses: &["a", "sms:a"],
        active_until: None,
    };
    let id = send(&f, &["ada"], steps, &look).await;
    let quiet_by_then = f.now().after(Duration::from_secs(3_600));
    settle(&f, &hand_out(&f, "push").await, Verdict::Again(quiet_by_then)).await;
    f.advance(Duration::from_secs(3_600));
    let leased = hand_out(&f, "push").await;
    settle(&f, &leased, Verdict::Dead).await;
    assert_eq!(tick(&f, &look).await, 1);
    let told = [("skipped", "preference"), ("held", "quiet_hours")];
    assert_eq!(words(&decided(&f, id, "ada").await), told);

    // Somebody sends it again, so that its step is not over any more.
    let resent = f.store.resend(f.now(), &f.tenant, leased[0].id).await;
    assert_eq!(resent.expect("commits"), Resent::Done);
    settle(&f, &hand_out(&f, "push").await, ACCEPTED).await;
    quiet(&f, "ada", "{}").await;
    assert_eq!(tick(&f, &look).await, 1);
    let phase = f.recipient(id, "ada").await.phase;
    assert_eq!(phase, Some(RecipientPhase::Climbing));

    f.advance(Duration::from_secs(43_200));
    assert_eq!(tick(&f, &look).await, 1);
    let sent = [row(0, "push", "accepted"), row(1, "sms", "pending")];
    assert_eq!(deliveries(&f, id, "ada").await, sent);
    let told = [told[0], told[1], ("escalated", "deadline")];
    assert_eq!(words(&decided(&f, id, "ada").await), told, "each is told once");
}

pub(super) async fn no_first_attempt_starts_in_quiet_hours(f: Fixture) {
    quiet(&f, "ada", SOON).await;
    let look = Look {
        channels: &["push"],
        addresses: &["a"],
        active_until: None,
    };
    let steps = r#"{"steps":[{"channels":["push"]}]}"#;
    let tried = send(&f, &["ada"], steps, &look).await;
    let later = f.now().after(Duration::from_secs(3_600));
    settle(&f, &hand_out(&f, "push").await, Verdict::Again(later)).await;
    let waits = send(&f, &["ada"], steps, &look).await;
    let short = NewNotification {
        expires_at: f.now().after(Duration::from_secs(4_000)),
        ..f.notification(&["ada"])
    };
    let urgent = NewNotification {
        critical: true,
        expires_at: f.now().after(Duration::from_secs(86_400)),
        ..f.notification(&["ada"])
    };
    f.accept(&[short.clone(), urgent.clone()]).await;
    plan(&f, &look).await;

    f.advance(Duration::from_secs(3_600));
    let leased = hand_out(&f, "push").await;
    let begun: Vec<_> = leased.iter().map(|one| one.brings).collect();
    assert_eq!(begun.len(), 2, "what was tried before, and what is critical");
    for id in [tried, urgent.id] {
        assert!(begun.contains(&Brings::Notification(id)));
    }
    settle(&f, &leased, ACCEPTED).await;
    let held = decided(&f, waits, "ada").await;
    assert_eq!(words(&held), [("held", "quiet_hours")]);
    assert_eq!(deliveries(&f, waits, "ada").await, [row(0, "push", "pending")]);
    assert!(hand_out(&f, "push").await.is_empty());

    f.advance(Duration::from_secs(400));
    f.store.expire_deliveries(f.now(), 10).await.expect("expires");
    let ends = deliveries(&f, short.id, "ada").await;
    assert_eq!(ends, [row(0, "push", "dead")], "its time to live ends the wait");

    f.advance(Duration::from_secs(3_600));
    let leased = hand_out(&f, "push").await;
    assert_eq!(leased.len(), 1, "quiet hours are over");
    settle(&f, &leased, ACCEPTED).await;
    assert_eq!(deliveries(&f, waits, "ada").await, [row(0, "push", "accepted")]);
}
