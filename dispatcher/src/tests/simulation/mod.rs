//! The dispatcher as fate has it: traces that a seed decides, played on a real store by two real dispatchers that take turns,
//! die, stand still, come back late, and whose clocks jump. After each commit it is looked at what must be true.
//!
//! `CARILLON_SIM_SEED=n` plays one seed and shows what happens; `CARILLON_SIM_SEEDS=n` plays so many, and a twentieth
//! of them on PostgreSQL.

mod deeds;
mod dice;
mod laws;
mod people;
mod picture;
mod script;
mod stage;
mod work;
mod world;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use carillon_testkit::TestDatabase;
use parking_lot::Mutex;

use stage::Stage;
use world::{Figures, play};

/// Seeds on SQLite, unless the environment says otherwise.
const USUAL: u64 = 1_000;
/// How often it is said how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// Stages beside each other.
const BESIDE: usize = 2;

/// Which seeds, unless the environment says otherwise.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().expect("a number"))
    };
    match number("CARILLON_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CARILLON_SIM_SEEDS").map_or(usual, |seeds| (seeds * usual / USUAL).max(1)),
    }
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error is open");
}

/// One of the two stores.
const SQLITE: &str = "sqlite";

async fn stage(store: &str) -> Stage {
    Stage::on(match store {
        SQLITE => TestDatabase::sqlite_in_memory().await,
        _ => TestDatabase::postgres("dispatcher").await,
    })
    .await
}

/// Plays all seeds, and fails with the first that breaks a law.
async fn simulate(store: &'static str, usual: u64) {
    let seeds = seeds(usual);
    let count = seeds.end - seeds.start;
    let next = Arc::new(AtomicU64::new(seeds.start));
    let sum = Arc::new(Mutex::new((Figures::default(), Instant::now())));
    let begun = Instant::now();
    let mut stages = Vec::new();
    for _ in 0..BESIDE.min(count as usize) {
        let (next, sum, end) = (next.clone(), sum.clone(), seeds.end);
        // A thread of its own: nobody waits for anybody.
        stages.push(tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let stage = stage(store).await;
                while let Some(seed) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|seed| *seed < end) {
                    let played = Box::pin(play(&stage, seed, store == SQLITE)).await;
                    let (figures, told) = played.unwrap_or_else(|trace| {
                        next.store(end, Ordering::SeqCst);
                        panic!("seed {seed} on {store}: CARILLON_SIM_SEED={seed} plays it again\n{trace}");
                    });
                    if count == 1 {
                        say(&told.join("\n"));
                    }
                    let mut sum = sum.lock();
                    sum.0.add(figures);
                    if sum.1.elapsed() > PROGRESS {
                        sum.1 = Instant::now();
                        say(&format!("simulation on {store}: {seed} of {count} seeds"));
                    }
                }
            });
        }));
    }
    for stage in stages {
        if let Err(error) = stage.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let (figures, _) = *sum.lock();
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!(
        "report: simulation on {store}: {count} seeds in {seconds:.1} s, {} events, {} starts, {} escalations (the latest {} \
         ms after its deadline), {} answers, {} outcomes too late",
        figures.events,
        figures.starts,
        figures.escalations,
        figures.latest / 1_000,
        figures.acknowledged,
        figures.fenced,
    ));
    if count >= usual {
        assert!(
            figures.escalations > count && figures.acknowledged > 0,
            "it tests something"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_after_an_answer_and_each_step_once_whatever_happens_on_sqlite() {
    simulate(SQLITE, USUAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_after_an_answer_and_each_step_once_whatever_happens_on_postgres() {
    simulate("postgres", 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_is_played_the_same_again() {
    let stage = Stage::on(TestDatabase::sqlite_in_memory().await).await;
    let again = Stage::on(TestDatabase::sqlite_in_memory().await).await;
    for seed in 0..5 {
        let (_, one) = Box::pin(play(&stage, seed, true)).await.expect("is lawful");
        let (_, other) = Box::pin(play(&again, seed, true)).await.expect("is lawful");
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
