//! `kill -9` at random moments under load, and a checker that stands outside.
//!
//! Senders post notifications, single and in batches, each with an idempotency key that is used again until the answer
//! is known. Readers follow each mailbox over SSE and over WebSocket and come back by position. The server is killed
//! and started again. At the end, when nothing is under way any more, the checker compares what was accepted with what
//! was shown. A broadcast to 100,000 is killed and withdrawn in its middle. A run counts only because the same run catches bugs that are planted on purpose.
//!
//! `CARILLON_CRASH_CYCLES`, `CARILLON_CRASH_ACCEPTED` and `CARILLON_CRASH_SEED` change the counts and repeat a run.

mod broadcast;
mod checker;
mod journal;
mod ledger;
mod outside;
mod readers;
mod run;
mod senders;

use crate::harness::{Store, report};
use checker::Verdict;
use run::Plan;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not `{text}`"))
    })
}

/// Without `CARILLON_CRASH_SEED`, another one each time; the report shows it.
fn seed() -> u64 {
    setting("CARILLON_CRASH_SEED", rand::random::<u32>().into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_doubled_or_silently_skipped() {
    let plan = Plan {
        seed: seed(),
        cycles: setting("CARILLON_CRASH_CYCLES", 30),
        accepted: setting("CARILLON_CRASH_ACCEPTED", 30_000),
        per_cycle: 1_000,
        outside: 12,
        plant: None,
    };
    let verdict = plan.run().await;
    report(&format!("kill -9 on {:?}: {verdict}", Store::under_test()));
    assert!(verdict.is_clean(), "{verdict}\n{}", verdict.examples.join("\n"));
}

/// A few cycles with a planted bug; the checker must object.
async fn caught(plant: &'static str) -> Verdict {
    let plan = Plan {
        seed: seed(),
        cycles: 4,
        accepted: 800,
        per_cycle: 200,
        outside: 3,
        plant: Some(plant),
    };
    let verdict = plan.run().await;
    let outcome = if verdict.is_clean() {
        "NOT CAUGHT"
    } else {
        "caught"
    };
    report(&format!(
        "planted {plant} on {:?}: {outcome}: {verdict}",
        Store::under_test()
    ));
    assert!(
        !verdict.is_clean(),
        "the harness does not catch {plant}, so its silence proves nothing"
    );
    verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_answer_before_the_commit_is_caught() {
    assert!(caught("ack_before_commit").await.lost > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_lease_that_never_comes_back_is_caught() {
    assert!(caught("no_requeue").await.stuck > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_cursor_that_skips_late_commits_is_caught() {
    let verdict = caught("cursor_skips_late_commits").await;
    assert!(verdict.stuck > 0 || verdict.lost > 0 || verdict.silent_gap > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_outcome_before_the_send_is_caught() {
    assert!(caught("settle_before_send").await.outside.lost > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_id_of_each_attempt_is_caught() {
    assert!(caught("id_per_attempt").await.outside.unstable > 0);
}
