//! What holds alerts: caps, throttles and quiet hours, over several notifications.

use std::{sync::Arc, time::Duration};

use carillon_domain::{NotificationId, Timestamp};
use carillon_policy::TenantPolicy;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    digests::{Look, decided, plan, tick},
    fixture::Fixture,
    steps::turn_off,
};
use crate::store::*;

const HALF_HOUR: Duration = Duration::from_secs(1_800);
const MINUTE: Duration = Duration::from_secs(60);

fn tenant(policy: Value) -> Arc<TenantPolicy> {
    Arc::new(serde_json::from_value(policy).expect("a policy"))
}

/// Accepts a notification over `push`.
async fn accept(f: &Fixture, user: &str, critical: bool) -> NotificationId {
    let row = NewNotification {
        critical,
        expires_at: f.now().after(Duration::from_secs(86_400)),
        ..f.notification(&[user])
    };
    f.accept(std::slice::from_ref(&row)).await;
    row.id
}

/// When alerts of these notifications were sent.
async fn sent(f: &Fixture, ids: &[NotificationId], user: &str) -> Vec<Timestamp> {
    let mut sent = Vec::new();
    for id in ids {
        let deliveries = f.recipient(*id, user).await.deliveries;
        sent.extend(
            deliveries
                .iter()
                .filter(|delivery| delivery.channel == "push" && delivery.state == "pending")
                .map(|delivery| delivery.created_at),
        );
    }
    sent.sort_unstable();
    sent
}

/// The most of `sent` that any stretch of time of that length holds.
fn most_within(sent: &[Timestamp], per: Duration) -> usize {
    let from = |start: &Timestamp| {
        let end = start.after(per);
        sent.iter().filter(|at| *at >= start && **at < end).count()
    };
    sent.iter().map(from).max().unwrap_or_default()
}

pub(super) async fn a_cap_holds_over_any_stretch_of_time_however_alerts_are_planned(f: Fixture) {
    let look = Look {
        tenant: tenant(json!({"caps": [{"max": 2, "per": 3_600}]})),
        ..Look::default()
    };
    let (mut ids, mut urgent) = (Vec::new(), Vec::new());
    // Several in one batch, and batches one after the other, some within the hour and some beyond.
    for batch in [3, 1, 1, 4, 1, 1, 2] {
        for _ in 0..batch {
            ids.push(accept(&f, "ada", false).await);
        }
        urgent.push(accept(&f, "ada", true).await);
        plan(&f, &look).await;
        f.advance(HALF_HOUR);
    }
    let sent_at = sent(&f, &ids, "ada").await;
    assert_eq!(most_within(&sent_at, Duration::from_secs(3_600)), 2);
    assert!(sent_at.len() >= 6, "its places come free again: {sent_at:?}");
    assert_eq!(sent(&f, &urgent, "ada").await.len(), 7, "what is critical passes");
    let counted = f
        .store
        .choices(&f.tenant, &[f.user("ada")], Timestamp::default())
        .await
        .expect("reads");
    assert_eq!(counted[0].alerts.len(), sent_at.len(), "and is not counted");
    // What was planned last of the first batch found no place.
    let last = ids[..3].iter().max().expect("a batch");
    let capped = decided(&f, *last, "ada").await;
    assert!(
        capped.contains(&("capped".to_owned(), "cap".to_owned())),
        "{capped:?}"
    );
    // Somebody else has places of his own.
    let other = accept(&f, "bob", false).await;
    plan(&f, &look).await;
    assert_eq!(sent(&f, &[other], "bob").await.len(), 1);
}

pub(super) async fn planners_at_once_never_exceed_a_cap(f: Fixture) {
    let look = Look {
        tenant: tenant(json!({"caps": [{"max": 5, "per": 3_600}]})),
        ..Look::default()
    };
    let mut ids = Vec::new();
    for _ in 0..24 {
        ids.push(accept(&f, "ada", false).await);
    }
    let mut jobs = f.jobs(&f.lease().await).await;
    jobs.iter_mut().for_each(|job| look.see(job));
    let mut racing = JoinSet::new();
    for jobs in jobs.chunks(3) {
        let store = f
            .reopen(StoreLimits {
                anew: 100,
                ..super::fixture::LIMITS
            })
            .await;
        let (jobs, now) = (jobs.to_vec(), f.now());
        racing.spawn(async move { store.plan(now, &jobs).await.expect("plans").value });
    }
    for outcomes in racing.join_all().await {
        assert!(outcomes.iter().all(|outcome| *outcome == PlanOutcome::Planned));
    }
    assert_eq!(sent(&f, &ids, "ada").await.len(), 5);
}

pub(super) async fn what_a_throttle_holds_goes_out_later_within_it(f: Fixture) {
    let look = Look {
        tenant: tenant(json!({"throttle": {"max": 2, "per": 60}})),
        ..Look::default()
    };
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(accept(&f, "ada", false).await);
    }
    plan(&f, &look).await;
    assert_eq!(sent(&f, &ids, "ada").await.len(), 2);
    let last = ids.iter().max().expect("a batch");
    let held = f.recipient(*last, "ada").await;
    assert_eq!(held.phase, Some(RecipientPhase::Held));
    for _ in 0..4 {
        f.advance(MINUTE);
        tick(&f, &look).await;
    }
    let sent = sent(&f, &ids, "ada").await;
    assert_eq!(sent.len(), 5, "nothing of it is lost");
    assert_eq!(most_within(&sent, MINUTE), 2);
    let last = ids.iter().max().expect("a batch");
    let released = decided(&f, *last, "ada").await;
    assert!(released.contains(&("released".to_owned(), "throttle".to_owned())));
}

/// Quiet all day long.
const ALWAYS: &str = r#"{"quiet_hours":{"windows":[
    {"days":["mon","tue","wed","thu","fri","sat","sun"],"start":"00:00","end":"00:00"}]}}"#;
/// Quiet for another 56 minutes: it is 03:04 on a Friday.
const EARLY: &str = r#"{"quiet_hours":{"windows":[{"days":["fri"],"start":"00:00","end":"04:00"}]}}"#;

async fn be_quiet(f: &Fixture, body: Option<&str>) {
    let (now, user) = (f.now(), f.user("ada"));
    assert!(
        f.store
            .put_user_policy(now, &f.tenant, user, body)
            .await
            .expect("writes")
    );
}

fn both() -> Look {
    Look {
        channels: vec!["in_app", "push"],
        ..Look::default()
    }
}

pub(super) async fn what_is_held_is_silent_in_the_inbox_and_pushed_once(f: Fixture) {
    be_quiet(&f, Some(EARLY)).await;
    let id = accept(&f, "ada", false).await;
    plan(&f, &both()).await;
    let inbox = f.inbox("ada").await;
    assert!(inbox[0].silent, "it is shown, without a sound");
    assert!(sent(&f, &[id], "ada").await.is_empty());
    f.advance(Duration::from_secs(3_600));
    assert_eq!(tick(&f, &both()).await, 1);
    assert_eq!(sent(&f, &[id], "ada").await.len(), 1);
    assert_eq!(f.log("ada").await.len(), 1, "no second change tells the inbox");
    let loud = accept(&f, "ada", false).await;
    plan(&f, &both()).await;
    let inbox = f.inbox("ada").await;
    assert_eq!(inbox[0].notification, loud);
    assert!(!inbox[0].silent && inbox[1].silent);
    let pushed = f.since("ada", 0).await.items;
    let silent =
        |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON")["entry"]["silent"].clone();
    assert_eq!(silent(&pushed[0].body), json!(true));
    assert_eq!(silent(&pushed[1].body), Value::Null);
}

pub(super) async fn whoever_changes_what_he_wants_is_looked_at_anew(f: Fixture) {
    be_quiet(&f, Some(ALWAYS)).await;
    let look = Look::default();
    let first = accept(&f, "ada", false).await;
    plan(&f, &look).await;
    assert_eq!(tick(&f, &look).await, 0, "nothing is due while it is quiet");
    // A look that is under way when he changes it changes nothing.
    be_quiet(&f, None).await;
    assert_eq!(tick(&f, &look).await, 1);
    assert_eq!(sent(&f, &[first], "ada").await.len(), 1);

    be_quiet(&f, Some(ALWAYS)).await;
    let second = accept(&f, "ada", false).await;
    plan(&f, &look).await;
    turn_off(&f, "ada", "push").await;
    assert_eq!(tick(&f, &look).await, 1);
    let recipient = f.recipient(second, "ada").await;
    assert_eq!(
        recipient.state,
        RecipientState::Skipped,
        "it does not wait for the morning"
    );
}

pub(super) async fn of_what_is_held_the_newest_goes_out_and_the_late_expires(f: Fixture) {
    be_quiet(&f, Some(EARLY)).await;
    let look = Look::default();
    let mut ids = Vec::new();
    for _ in 0..3 {
        // A second apart, so that their ids say which is newer.
        let row = f.collapsing(&["ada"], "build");
        ids.push(row.id);
        f.accept(std::slice::from_ref(&row)).await;
        plan(&f, &look).await;
        f.advance(Duration::from_secs(1));
    }
    let short = NewNotification {
        expires_at: f.now().after(MINUTE),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&short)).await;
    plan(&f, &look).await;
    f.advance(Duration::from_secs(3_500));
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
    tick(&f, &look).await;
    for id in &ids[..2] {
        let older = f.recipient(*id, "ada").await;
        assert_eq!(older.state, RecipientState::Superseded);
        assert!(older.reason.is_some_and(|reason| reason.contains("newer")));
    }
    assert_eq!(sent(&f, &ids, "ada").await.len(), 1, "the newest alone");
    let late = f.recipient(short.id, "ada").await;
    assert_eq!(late.state, RecipientState::Expired);
    let ended = decided(&f, short.id, "ada").await;
    assert_eq!(ended.last().map(|(kind, _)| kind.as_str()), Some("ended"));
}
