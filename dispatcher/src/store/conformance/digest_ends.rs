//! What becomes of digests and their members once time goes on: times to live, answers, cancellations.

use std::{collections::HashSet, sync::Arc, time::Duration};

use carillon_domain::{NotificationId, NotificationState};
use serde_json::json;

use super::{
    digests::{
        Look, MINUTE, close, close_one, closing, due, every_minute, gathering, outside, plan, send, tick,
    },
    fixture::Fixture,
    planning_outside::{deliver, lease},
};
use crate::store::*;

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
    assert_eq!(due(&f).await[0].members, [first, second, third]);
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
            digest.targets = Arc::from(r#"["bob"]"#);
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
