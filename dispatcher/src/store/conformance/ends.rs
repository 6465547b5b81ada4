//! What runs when a notification ends.

use std::{sync::Arc, time::Duration};

use carillon_domain::NotificationId;
use carillon_sql::Database;
use sqlx::AssertSqlSafe;

use super::{
    fixture::{Fixture, LIMITS},
    ladder::{Look, deliveries, plan, tick},
    steps::{ACCEPTED, hand_out, settle},
    withdrawals::answer,
};
use crate::store::{
    outside::{Brings, Verdict},
    *,
};

const MINUTE: Duration = Duration::from_secs(60);
/// As long as the fixture's notifications live.
const LIFE: Duration = Duration::from_secs(3_600);

fn look() -> Look<'static> {
    Look {
        channels: &["push"],
        addresses: &["a"],
        active_until: None,
    }
}

async fn send(f: &Fixture, users: &[&str]) -> NotificationId {
    let row = f.notification(users);
    f.accept(std::slice::from_ref(&row)).await;
    plan(f, &look()).await;
    row.id
}

async fn cancel(f: &Fixture, store: &Arc<dyn Store>, id: NotificationId) -> u64 {
    let cancelled = store.cancel(f.now(), &f.tenant, id, &[]).await;
    match cancelled.expect("commits").value {
        Cancelled::Done { in_flight, .. } => in_flight,
        other => panic!("it is cancelled: {other:?}"),
    }
}

pub(super) async fn who_cancels_again_is_told_what_still_runs(f: Fixture) {
    // As many as fit into one page, and more.
    for page in [10, 1] {
        let id = send(&f, &["ada", "bob"]).await;
        let mut leased = hand_out(&f, "push").await;
        // What is taken back of the one before goes along.
        leased.retain(|one| one.brings == Brings::Notification(id));
        assert_eq!(leased.len(), 2);
        let store = f
            .reopen(StoreLimits {
                withdrawal_page: page,
                ..LIMITS
            })
            .await;
        // Their leases have run out, and they may still be on their way.
        f.advance(2 * MINUTE);
        assert_eq!(cancel(&f, &store, id).await, 2);
        assert_eq!(
            cancel(&f, &store, id).await,
            2,
            "whoever lost the answer asks again"
        );
        settle(&f, &leased[..1], ACCEPTED).await;
        assert_eq!(cancel(&f, &store, id).await, 1);
        settle(&f, &leased[1..], Verdict::Dead).await;
        assert_eq!(cancel(&f, &store, id).await, 0);
    }
}

async fn close(f: &Fixture) {
    while f.store.close_late(f.now(), 100).await.expect("closes") {}
}

pub(super) async fn what_began_in_time_and_arrives_counts(f: Fixture) {
    let id = send(&f, &["ada", "bob"]).await;
    f.advance(LIFE - Duration::from_secs(1));
    let leased = hand_out(&f, "push").await;
    f.advance(Duration::from_secs(1));
    let (adas, bobs): (Vec<_>, Vec<_>) = leased
        .into_iter()
        .partition(|one| one.user == Some(f.user("ada")));
    settle(&f, &bobs, Verdict::Dead).await;
    close(&f).await;
    tick(&f, &look()).await;
    assert_eq!(f.recipient(id, "bob").await.state, RecipientState::Expired);
    let state = f.recipient(id, "ada").await.state;
    assert_eq!(state, RecipientState::Open, "it is not known yet");
    f.advance(Duration::from_secs(5));
    settle(&f, &adas, ACCEPTED).await;
    assert_eq!(tick(&f, &look()).await, 1, "it is due at once");
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Completed);
    assert_eq!(f.store.next_climb().await.expect("reads"), None);
}

pub(super) async fn what_began_in_time_and_is_lost_is_waited_for_no_longer_than_its_lease(f: Fixture) {
    let id = send(&f, &["ada"]).await;
    f.advance(LIFE - Duration::from_secs(1));
    assert_eq!(hand_out(&f, "push").await.len(), 1);
    let ends = f.now().after(MINUTE);
    f.advance(Duration::from_secs(1));
    close(&f).await;
    tick(&f, &look()).await;
    assert_eq!(f.recipient(id, "ada").await.next_at, Some(ends));
    f.advance(MINUTE);
    assert_eq!(tick(&f, &look()).await, 1);
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Expired);
    assert_eq!(deliveries(&f, id, "ada").await.len(), 1);
}

/// A recipient ends while somebody answers for him. SQLite has one writer: there the end comes first.
pub(super) async fn who_ended_before_he_was_locked_answers_nothing(f: Fixture) {
    let id = send(&f, &["ada", "bob"]).await;
    let any = r#"{"acknowledged_by":"any","steps":[{"channels":["push"]}]}"#;
    let enough = format!("UPDATE notifications SET plan = '{any}' WHERE id = '{id}'");
    super::outside::run(&f, enough).await;
    let ada = f.user("ada");
    let end = format!(
        "UPDATE recipients SET state = 'dead', phase = NULL WHERE notification = '{id}' AND user_id = '{ada}'"
    );
    let said = match &f.database {
        Database::Sqlite(_) => {
            super::outside::run(&f, end).await;
            answer(&f, "ada", id, &[], Vec::new()).await
        }
        Database::Postgres(postgres) => {
            let why = "a test ends a recipient";
            let mut tx = postgres.begin_system(why).await.expect("begins");
            let ended = sqlx::query(AssertSqlSafe(end)).execute(&mut *tx).await;
            ended.expect("writes");
            let commit = async {
                let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                             AND wait_event_type = 'Lock'";
                loop {
                    let mut read = postgres.read_system(why).await.expect("reads");
                    let (waiting,): (i64,) =
                        sqlx::query_as(waits).fetch_one(&mut *read).await.expect("reads");
                    if waiting > 0 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                tx.commit().await.expect("commits");
            };
            tokio::join!(answer(&f, "ada", id, &[], Vec::new()), commit).0
        }
    };
    assert_eq!(said, OperationResult::Ok, "the receipt is kept");
    assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Dead);
    let detail = f.store.withdrawal(&f.tenant, id).await.expect("reads");
    assert_eq!(
        (detail.running, detail.answered),
        (None, None),
        "nobody answered for all"
    );
    assert_eq!(f.recipient(id, "bob").await.state, RecipientState::Open);
}

pub(super) async fn many_that_are_too_late_end_a_few_at_a_time(f: Fixture) {
    let mut ids = Vec::new();
    for _ in 0..120 {
        ids.push(send(&f, &["ada"]).await);
    }
    f.advance(LIFE);
    let mut pages = 0;
    while f.store.close_late(f.now(), 1_000).await.expect("closes") {
        pages += 1;
        assert!(pages < 10, "it comes to an end");
    }
    assert_eq!(pages, 2, "fifty with each transaction");
    for id in ids {
        assert_eq!(f.recipient(id, "ada").await.state, RecipientState::Expired);
    }
}
