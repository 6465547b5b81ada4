//! No 202 leaves before a sync that follows its commit.
//!
//! A kill leaves the kernel's page cache alive, so `kill -9` cannot show a missing sync. Here a small library is loaded
//! before the C library into whoever commits (Carillon on SQLite, else PostgreSQL); it records each write to a
//! write-ahead log and each `fsync` or `fdatasync` of one. One request is in flight at a time, for a moment far ahead,
//! so that nothing but its acceptance is committed between the request and its answer.

mod log;

use serde_json::{Value, json};

use crate::harness::{Api, Start, Store, report};
use log::SyncLog;

/// Answers that had no sync behind them, and answers in all.
struct Unsynced {
    unsynced: usize,
    answers: usize,
}

async fn server(plant: Option<&str>) -> (crate::harness::Server, SyncLog) {
    let log = SyncLog::of_the_store();
    let mut start = Start::default();
    if Store::under_test() == Store::Sqlite {
        let library = std::env::var("CARILLON_SYNC_LIBRARY")
            .expect("CARILLON_SYNC_LIBRARY names the preloaded library; tests/run.sh builds it");
        start = start
            .env("LD_PRELOAD", library)
            .env("CARILLON_SYNC_LOG", log.path().display());
    }
    if let Some(plant) = plant {
        start = start.env("CARILLON_PLANT", plant);
    }
    (start.serve().await, log)
}

fn later(number: usize) -> Value {
    json!({"targets": [{"user": format!("user{}", number % 7)}], "content": {"title": format!("{number}")},
        "send_at": crate::e2e::in_millis(86_400_000)})
}

async fn accept(api: &Api, log: &SyncLog, singles: usize, batches: usize) -> Unsynced {
    // What starting the server and making the key left behind is over once a first request was answered.
    api.post("/v1/notifications", &later(0)).await.expect(202);
    let mut found = Unsynced {
        unsynced: 0,
        answers: 0,
    };
    for number in 0..singles + batches {
        let before = log.len();
        let answer = if number < singles {
            api.post_once("/v1/notifications", &format!("key-{number}"), &later(number))
                .await
        } else {
            let items: Vec<_> = (0..50).map(later).collect();
            api.post("/v1/notifications/batch", &json!({"notifications": items}))
                .await
        };
        let after = log.len();
        answer.expect(202);
        found.answers += 1;
        if !log.commit_was_synced(before..after) {
            found.unsynced += 1;
        }
    }
    found
}

#[tokio::test]
async fn no_202_leaves_before_a_sync_that_follows_its_commit() {
    let (server, log) = server(None).await;
    let found = accept(&server.api().await, &log, 300, 30).await;
    report(&format!(
        "syncs on {:?}: {} answers, {} without a sync after their commit",
        Store::under_test(),
        found.answers,
        found.unsynced
    ));
    assert_eq!(found.unsynced, 0);
}

#[tokio::test]
async fn a_planted_commit_without_a_sync_is_caught() {
    let plant = match Store::under_test() {
        Store::Sqlite => "synchronous_off",
        Store::Postgres => "synchronous_commit_off",
    };
    let (server, log) = server(Some(plant)).await;
    let found = accept(&server.api().await, &log, 60, 0).await;
    report(&format!(
        "syncs on {:?}, planted {plant}: {} of {} answers caught",
        Store::under_test(),
        found.unsynced,
        found.answers
    ));
    // PostgreSQL's background writer syncs a few of them by chance.
    assert!(
        found.unsynced * 2 > found.answers,
        "the check does not see missing syncs"
    );
}
