//! What becomes of digests and their members once time goes on: times to live, answers, cancellations.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{NotificationId, NotificationState, TenantId};
use serde_json::json;

use super::{
    digests::{
        Look, MINUTE, close, close_one, closing, due, every_minute, gathering, outside, plan, send, tick,
    },
    fixture::Fixture,
    planning_outside::{deliver, lease},
};
use crate::store::{
    digests::{Closing, MOST_MEMBERS},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One notification for ada that lives so many seconds, planned.
async fn living(f: &Fixture, look: &Look, seconds: u64) -> NotificationId {
    let row = NewNotification {
        expires_at: f.now().after(Duration::from_secs(seconds)),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&row)).await;
    plan(f, look).await;
    row.id
}

async fn read(f: &Fixture, id: NotificationId) {
    let answer = Operation::Entry(Which::Notification(id), EntryAction::Read);
    f.act("ada", vec![answer]).await;
}

async fn cancel(f: &Fixture, id: NotificationId) -> Cancelled {
    let done = f.store.cancel(f.now(), &f.tenant, id, &[]).await;
    done.expect("cancels").value
}

async fn state(f: &Fixture, id: NotificationId) -> RecipientState {
    f.recipient(id, "ada").await.state
}

pub(super) async fn a_digest_closes_before_its_members_expire(f: Fixture) {
    let look = gathering(json!({"fixed": {"every": 3600}}));
    let first = living(&f, &look, 3_600).await;
    let closes = async || f.store.next_digest().await.expect("reads").expect("one is open");
    assert_eq!(closes().await, f.now().after(Duration::from_secs(3_300)));
    let second = living(&f, &look, 600).await;
    assert_eq!(closes().await, f.now().after(Duration::from_secs(450)));
    let third = living(&f, &look, 86_400).await;
    assert_eq!(
        closes().await,
        f.now().after(Duration::from_secs(450)),
        "nobody puts it off again"
    );
    let hurried = living(&f, &look, 30).await;
    assert_eq!(outside(&f, hurried).await, [("pending".to_owned(), None)]);
    f.advance(Duration::from_secs(450));
    let mut waiting = [first, second, third];
    waiting.sort_unstable();
    assert_eq!(due(&f).await[0].members, waiting);
}

pub(super) async fn a_member_ends_with_its_digest_where_that_lives_longer(f: Fixture) {
    let look = every_minute();
    let (arrives, fails) = (
        living(&f, &look, 120).await,
        NewNotification {
            expires_at: f.now().after(Duration::from_secs(120)),
            ..f.notification(&["bob"])
        },
    );
    f.accept(std::slice::from_ref(&fails)).await;
    plan(&f, &look).await;
    f.advance(MINUTE);
    let mut sent = Vec::new();
    for read in due(&f).await {
        let mut closing = closing(&f, &read);
        let of_ada = read.members == [arrives];
        let digest = closing.notification.as_mut().expect("not empty");
        digest.expires_at = f.now().after(DAY);
        if !of_ada {
            digest.targets = Arc::from(r#"[{"user":"bob"}]"#);
        }
        sent.push(digest.id);
        assert!(close(&f, &closing).await);
    }
    f.advance(Duration::from_secs(120));
    f.store.close_late(f.now(), 100).await.expect("closes");
    assert_eq!(
        state(&f, arrives).await,
        RecipientState::Open,
        "its digest may arrive"
    );
    plan(&f, &look).await;
    let leased = lease(&f).await;
    let ada = f.user("ada");
    deliver(
        &f,
        leased.into_iter().filter(|one| one.user == Some(ada)).collect(),
    )
    .await;
    f.advance(DAY);
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
    tick(&f, &look).await;
    assert_eq!(state(&f, arrives).await, RecipientState::Completed);
    assert_eq!(f.recipient(fails.id, "bob").await.state, RecipientState::Expired);
}

pub(super) async fn a_digest_of_which_nothing_is_left_is_not_sent(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 3).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    plan(&f, &look).await;
    cancel(&f, ids[0]).await;
    read(&f, ids[1]).await;
    assert_eq!(outside(&f, digest).await, [("pending".to_owned(), None)]);
    let done = Cancelled::Done {
        recalled: 0,
        in_flight: 0,
    };
    assert_eq!(cancel(&f, ids[2]).await, done);
    assert_eq!(outside(&f, digest).await, [("cancelled".to_owned(), None)]);
    assert_eq!(state(&f, digest).await, RecipientState::Cancelled);
    assert_eq!(f.state(digest).await, NotificationState::Cancelled);
    assert!(lease(&f).await.is_empty(), "no send starts");
}

pub(super) async fn nor_is_one_that_was_not_planned_yet(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 2).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    cancel(&f, ids[0]).await;
    read(&f, ids[1]).await;
    assert_eq!(f.state(digest).await, NotificationState::Cancelled);
    assert!(f.lease().await.is_empty(), "nothing is left to plan");
}

pub(super) async fn an_attempt_under_way_is_told_to_who_takes_back_the_last_of_a_digest(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 1).await;
    f.advance(MINUTE);
    close_one(&f).await;
    plan(&f, &look).await;
    assert_eq!(lease(&f).await.len(), 1);
    let done = Cancelled::Done {
        recalled: 0,
        in_flight: 1,
    };
    assert_eq!(cancel(&f, ids[0]).await, done);
}

pub(super) async fn an_attempt_knows_which_members_of_its_digest_are_over(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 3).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    plan(&f, &look).await;
    cancel(&f, ids[0]).await;
    read(&f, ids[1]).await;
    let leased: Vec<_> = lease(&f).await.into_iter().map(Arc::new).collect();
    let sources = f.store.load_work(f.now(), &leased).await.expect("reads");
    let over = &sources.over[&(f.tenant.clone(), digest)];
    assert_eq!(*over, HashSet::from([ids[0], ids[1]]));
}

pub(super) async fn alerts_are_bundled_by_their_digest_key(f: Fixture) {
    let look = every_minute();
    let rows = ["issue 7", "issue 8", "issue 7"].map(|key| NewNotification {
        digest_key: Some(key.parse().expect("a key")),
        ..f.notification(&["ada"])
    });
    f.accept(&rows).await;
    plan(&f, &look).await;
    let without = send(&f, &look, 1).await;
    f.advance(MINUTE);
    let found: HashSet<_> = due(&f)
        .await
        .into_iter()
        .map(|digest| {
            (
                digest.lease.key.key.to_string(),
                digest.members.into_iter().collect(),
            )
        })
        .collect();
    let bundle = |key: &str, ids: &[NotificationId]| {
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        (key.to_owned(), ids)
    };
    let expected = HashSet::from([
        bundle("issue 7", &[rows[0].id, rows[2].id]),
        bundle("issue 8", &[rows[1].id]),
        bundle("", &without),
    ]);
    assert_eq!(found, expected);
    for read in due(&f).await {
        assert!(close(&f, &closing(&f, &read)).await);
    }
    assert_eq!(f.store.next_digest().await.expect("reads"), None);
    let row = f.store.notification(&f.tenant, rows[0].id).await.expect("reads");
    assert_eq!(row.and_then(|row| row.digest_key), rows[0].digest_key);
}

pub(super) async fn nodes_share_what_closes_and_a_lost_lease_changes_nothing(f: Fixture) {
    let look = every_minute();
    send(&f, &look, 1).await;
    f.advance(MINUTE);
    let lease = async || {
        let until = f.now().after(MINUTE);
        let leased = f.store.lease_digests(f.now(), 10, until, None).await;
        leased.expect("leases").leases
    };
    let lost = lease().await.remove(0);
    assert!(lease().await.is_empty(), "somebody has it");
    f.advance(MINUTE);
    let mut held = lease().await;
    assert_eq!(held.len(), 1, "whoever had it is gone");
    let tomorrow = f.now().after(DAY);
    f.store.postpone_digest(&lost, f.now()).await.expect("writes");
    assert_ne!(f.store.next_digest().await.expect("reads"), Some(f.now()));
    let read = f.store.due_digest(f.now(), &lost).await.expect("reads");
    assert!(!close(&f, &closing(&f, &read)).await);
    let held = held.remove(0);
    f.store.postpone_digest(&held, tomorrow).await.expect("writes");
    assert_eq!(f.store.next_digest().await.expect("reads"), Some(tomorrow));
    let early = f.now().before(DAY);
    f.store.postpone_digest(&held, early).await.expect("writes");
    let next = f.store.next_digest().await.expect("reads").expect("it is open");
    assert!(
        next > early,
        "nobody looks before it closes, or it would be looked at for ever"
    );
    let read = f.store.due_digest(f.now(), &held).await.expect("reads");
    assert!(close(&f, &closing(&f, &read)).await);
}

pub(super) async fn where_nobody_is_left_all_that_waits_ends(f: Fixture) {
    let look = Look {
        channels: vec!["push"],
        ..every_minute()
    };
    let ids = send(&f, &look, MOST_MEMBERS + 1).await;
    f.advance(MINUTE);
    let read = due(&f).await.remove(0);
    let closing = Closing {
        notification: None,
        ..closing(&f, &read)
    };
    assert!(close(&f, &closing).await);
    assert_eq!(f.store.next_digest().await.expect("reads"), None);
    assert_eq!(outside(&f, ids[0]).await, [("cancelled".to_owned(), None)]);
    assert_eq!(
        outside(&f, ids[MOST_MEMBERS]).await,
        [("cancelled".to_owned(), None)]
    );
    tick(&f, &look).await;
    assert_eq!(
        state(&f, ids[0]).await,
        RecipientState::Skipped,
        "no step is left"
    );
}

pub(super) async fn a_step_has_its_time_once_its_digest_went_out(f: Fixture) {
    let look = gathering(json!({"sliding": {"idle": 60, "max": 600}}));
    let row = NewNotification {
        plan: Some(Arc::from(
            r#"{"steps":[{"channels":["push"],"deadline":30},{"channels":["in_app"]}]}"#,
        )),
        ..f.notification(&["ada"])
    };
    f.accept(std::slice::from_ref(&row)).await;
    plan(&f, &look).await;
    for _ in 0..4 {
        f.advance(Duration::from_secs(50));
        tick(&f, &look).await;
        assert!(f.inbox("ada").await.is_empty(), "its digest is still open");
        send(&f, &look, 1).await;
    }
    f.advance(MINUTE);
    close_one(&f).await;
    f.advance(Duration::from_secs(29));
    tick(&f, &look).await;
    assert!(f.inbox("ada").await.is_empty(), "its time is not over");
    f.advance(Duration::from_secs(60));
    tick(&f, &look).await;
    assert_eq!(f.inbox("ada").await.len(), 1);
}

pub(super) async fn who_saw_a_digest_saw_its_members(f: Fixture) {
    let look = every_minute();
    let ids = send(&f, &look, 1).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    plan(&f, &look).await;
    let saw = Operation::Entry(Which::Notification(digest), EntryAction::Seen);
    f.act("ada", vec![saw]).await;
    let receipts = f.recipient(ids[0], "ada").await.receipts;
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].kind, "seen");
    assert_eq!(state(&f, ids[0]).await, RecipientState::Open, "that is no answer");
    let clicked = Operation::Entry(Which::Notification(digest), EntryAction::Clicked);
    f.act("ada", vec![clicked]).await;
    assert_eq!(state(&f, ids[0]).await, RecipientState::Acknowledged);
}

pub(super) async fn tenants_have_their_turn(f: Fixture) {
    let look = every_minute();
    let tenants: Vec<TenantId> = ["t1", "t2", "t3"]
        .map(|name| name.parse().expect("a tenant"))
        .to_vec();
    let users: Vec<String> = (0..10).map(|user| format!("user{user}")).collect();
    // The first has many that are due before the others'.
    for (tenant, users) in [(0, &users[..]), (1, &users[..1]), (2, &users[..1])] {
        let rows: Vec<NewNotification> = users.iter().map(|user| f.notification(&[user])).collect();
        f.accept_for(&tenants[tenant], &rows).await;
        plan(&f, &look).await;
        f.advance(Duration::from_secs(1));
    }
    f.advance(MINUTE);
    let until = f.now().after(MINUTE);
    let lease = async |limit, after: Option<&TenantId>| {
        let leased = f.store.lease_digests(f.now(), limit, until, after).await;
        let leased = leased.expect("leases");
        let of = leased.leases.iter().map(|lease| lease.key.tenant.clone());
        (of.collect::<Vec<_>>(), leased.after)
    };
    let (mut of, after) = lease(6, None).await;
    of.sort_unstable();
    assert_eq!(
        of,
        [&tenants[0], &tenants[0], &tenants[1], &tenants[2]].map(Clone::clone)
    );
    assert_eq!(after, None, "all had their turn");
    let (of, after) = lease(1, Some(&tenants[0])).await;
    assert_eq!((of, after), (Vec::new(), None), "the others have nothing more");
    let (of, after) = lease(1, None).await;
    assert_eq!((of, after), (vec![tenants[0].clone()], Some(tenants[0].clone())));
}
