//! What starts of digests once their members are over.

use std::{sync::Arc, time::Duration};

use carillon_domain::NotificationId;
use carillon_sql::{Database, Postgres, PostgresTransaction};
use tokio::task::JoinHandle;

use super::{
    digests::{Look, MINUTE, close, close_one, closing, due, every_minute, plan, send, tick},
    fixture::{Fixture, LIMITS},
    planning_outside::lease,
};
use crate::store::{outside::LeasedDelivery, *};

/// Why the one delivery of a digest ended.
async fn reason(f: &Fixture, digest: NotificationId) -> (String, Option<String>) {
    let delivery = f.recipient(digest, "ada").await.deliveries.remove(0);
    (delivery.state, delivery.reason)
}

pub(super) async fn a_digest_whose_members_were_overtaken_ends_at_its_start(f: Fixture) {
    let look = Look {
        channels: vec!["in_app", "push"],
        ..every_minute()
    };
    let overtaken = f.collapsing(&["ada"], "job");
    f.accept(std::slice::from_ref(&overtaken)).await;
    plan(&f, &look).await;
    f.advance(MINUTE);
    let digest = close_one(&f).await;
    plan(&f, &look).await;
    f.accept(&[f.collapsing(&["ada"], "job")]).await;
    plan(&f, &look).await;
    assert_eq!(
        f.recipient(overtaken.id, "ada").await.state,
        RecipientState::Superseded
    );
    assert_eq!(reason(&f, digest).await.0, "pending");
    assert!(lease(&f).await.is_empty(), "nothing of it is left");
    let why = "all that was in it was answered or taken back".to_owned();
    assert_eq!(reason(&f, digest).await, ("cancelled".to_owned(), Some(why)));
    tick(&f, &look).await;
    assert_eq!(
        f.recipient(digest, "ada").await.state,
        RecipientState::Skipped,
        "nobody waits for it any longer"
    );
}

/// How many wait for a lock.
async fn waiting(postgres: &Postgres) -> i64 {
    let mut read = postgres
        .read_system("a test looks who waits")
        .await
        .expect("begins");
    let (count,): (i64,) = sqlx::query_as(
        "SELECT COUNT(*) FROM pg_locks WHERE NOT granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .fetch_one(&mut *read)
    .await
    .expect("reads");
    count
}

/// A notification for many, of whom ada comes last, in ada's digest alone; answers both.
async fn digest_of_many(f: &Fixture) -> (NotificationId, NotificationId) {
    let look = every_minute();
    let bob = f.user("bob");
    f.advance(Duration::from_secs(1));
    assert!(bob < f.user("ada"));
    let member = f.notification(&["ada", "bob"]);
    f.accept(std::slice::from_ref(&member)).await;
    plan(f, &look).await;
    f.advance(MINUTE);
    let own = due(f)
        .await
        .into_iter()
        .find(|digest| digest.lease.key.user != bob);
    let closing = closing(f, &own.expect("ada has one"));
    assert!(close(f, &closing).await);
    plan(f, &look).await;
    (member.id, closing.notification.expect("not empty").id)
}

/// Somebody who leases and stands right before his commit, until the transaction ends.
async fn starting(
    f: &Arc<Fixture>,
    postgres: &Postgres,
) -> (PostgresTransaction, JoinHandle<Vec<LeasedDelivery>>) {
    let mut hold = postgres
        .begin_system("a test holds attempts back")
        .await
        .expect("begins");
    sqlx::query("LOCK TABLE attempts IN SHARE MODE")
        .execute(&mut *hold)
        .await
        .expect("locks");
    let starting = tokio::spawn({
        let f = f.clone();
        async move { lease(&f).await }
    });
    while waiting(postgres).await < 1 {
        tokio::task::yield_now().await;
    }
    (hold, starting)
}

/// Cancels in a task of its own.
fn cancelling(f: &Arc<Fixture>, store: &Arc<dyn Store>, id: NotificationId) -> JoinHandle<Cancelled> {
    let (f, store) = (f.clone(), store.clone());
    tokio::spawn(async move {
        let done = store.cancel(f.now(), &f.tenant, id, &[]).await;
        done.expect("cancels").value
    })
}

fn in_flight(count: u64) -> Cancelled {
    Cancelled::Done {
        recalled: 0,
        in_flight: count,
    }
}

pub(super) async fn no_attempt_of_a_digest_commits_after_its_member_was_cancelled_by_pages(f: Fixture) {
    let f = Arc::new(f);
    let by_pages = f
        .reopen(StoreLimits {
            withdrawal_page: 1,
            ..LIMITS
        })
        .await;
    let (member, digest) = digest_of_many(&f).await;
    let Database::Postgres(postgres) = &f.database else {
        // One writer: who comes second sees what the first did.
        let done = cancelling(&f, &by_pages, member).await.expect("no panic");
        assert_eq!(done, in_flight(0));
        assert!(lease(&f).await.is_empty());
        assert_eq!(reason(&f, digest).await.0, "cancelled");
        return;
    };
    let (hold, starting) = starting(&f, postgres).await;
    let cancelling = cancelling(&f, &by_pages, member);
    while waiting(postgres).await < 2 && !cancelling.is_finished() {
        tokio::task::yield_now().await;
    }
    assert!(
        !cancelling.is_finished(),
        "it is answered while a start has still to commit"
    );
    hold.commit().await.expect("commits");
    assert_eq!(starting.await.expect("no panic").len(), 1, "it came first");
    assert_eq!(cancelling.await.expect("no panic"), in_flight(1));
}

pub(super) async fn whoever_cancels_a_member_is_told_what_starts_of_its_digest_meanwhile(f: Fixture) {
    let f = Arc::new(f);
    let look = every_minute();
    let members = send(&f, &look, 2).await;
    f.advance(MINUTE);
    close_one(&f).await;
    plan(&f, &look).await;
    let Database::Postgres(postgres) = &f.database else {
        assert_eq!(lease(&f).await.len(), 1);
        for member in members {
            let done = cancelling(&f, &f.store, member).await.expect("no panic");
            assert_eq!(done, in_flight(1));
        }
        return;
    };
    let (hold, starting) = starting(&f, postgres).await;
    let cancelling: Vec<_> = members
        .into_iter()
        .map(|member| cancelling(&f, &f.store, member))
        .collect();
    while waiting(postgres).await < 3 && !cancelling.iter().any(JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    hold.commit().await.expect("commits");
    assert_eq!(starting.await.expect("no panic").len(), 1);
    for cancelling in cancelling {
        assert_eq!(cancelling.await.expect("no panic"), in_flight(1));
    }
}
