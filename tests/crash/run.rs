use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet};

use super::{
    checker::{self, Verdict},
    journal::Journal,
    ledger::Ledger,
    outside::Outside,
    readers::Reader,
    senders::{self, USERS},
};
use crate::harness::{Api, Server, Start, Store};

const SENDERS: usize = 12;
/// How far the senders may be ahead of what the next kill waits for: enough that they are at work when it comes.
const AHEAD: u64 = 500;

/// One run: as many cycles as it takes to reach both counts.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) cycles: u64,
    pub(super) accepted: u64,
    /// Accepted between two kills, on average.
    pub(super) per_cycle: u64,
    /// Every so many notifications go outside the inbox too.
    pub(super) outside: u64,
    pub(super) plant: Option<&'static str>,
}

impl Plan {
    pub(super) async fn run(self) -> Verdict {
        let begun = Instant::now();
        let mut random = StdRng::seed_from_u64(self.seed);
        let name = format!("{:?}-{}", Store::under_test(), self.plant.unwrap_or("clean")).to_lowercase();
        let ledger = Arc::new(Ledger::new(Journal::open(&name)));
        let outside = Arc::new(Outside::start(self.outside).await);
        let mut server = self.start(&outside).await;
        let api = server.api().await;
        let users = users(&api, &outside).await;

        let (stop_senders, senders_stop) = watch::channel(false);
        let (stop_readers, readers_stop) = watch::channel(false);
        let numbers = Arc::new(AtomicU64::new(1));
        // What is accepted while the server starts and its rows are looked at is bounded, so that a slow machine gets as
        // much to do as a fast one.
        let limit = Arc::new(AtomicU64::new(0));
        let mut sending = JoinSet::new();
        for _ in 0..SENDERS {
            let seed = senders::split(&mut random);
            sending.spawn(senders::send(
                api.clone(),
                ledger.clone(),
                outside.clone(),
                numbers.clone(),
                limit.clone(),
                seed,
                senders_stop.clone(),
            ));
        }
        let seed = senders::split(&mut random);
        sending.spawn(senders::withdraw(
            api.clone(),
            ledger.clone(),
            outside.clone(),
            seed,
            senders_stop.clone(),
        ));
        let mut reading = JoinSet::new();
        for (user, (caller, epoch)) in users.iter().enumerate() {
            let reader = || Reader {
                api: caller.clone(),
                ledger: ledger.clone(),
                user,
                epoch: epoch.clone(),
                stop: readers_stop.clone(),
            };
            reading.spawn(reader().over_sse());
            reading.spawn(reader().over_websocket());
        }

        let mut kills = 0;
        while kills < self.cycles || ledger.accepted() < self.accepted {
            let target = ledger.accepted() + random.random_range(1..=2 * self.per_cycle);
            limit.store(target + AHEAD, Ordering::Relaxed);
            self.reach(&ledger, target, &mut sending, &mut reading).await;
            tokio::time::sleep(Duration::from_micros(random.random_range(0..30_000))).await;
            ledger
                .journal()
                .note(serde_json::json!({"kill": kills, "accepted": ledger.accepted()}));
            server.start_again().await;
            kills += 1;
            ledger.contradicted(server.violations().await);
        }

        stop_senders.send_replace(true);
        while let Some(ended) = sending.join_next().await {
            ended.expect("a sender met something that it must not meet");
        }
        let mut verdict = checker::judge(&ledger, &outside, &api, &users, self.horizon()).await;
        stop_readers.send_replace(true);
        while let Some(ended) = reading.join_next().await {
            ended.expect("a reader met something that it must not meet");
        }
        ledger.contradicted(server.violations().await);
        verdict.broken = ledger.state().broken;
        verdict.of_run(kills, self.seed, begun.elapsed())
    }

    /// Until so many are accepted. A sender or reader that ends early has failed, and with it the run.
    async fn reach(
        &self,
        ledger: &Ledger,
        target: u64,
        sending: &mut JoinSet<()>,
        reading: &mut JoinSet<()>,
    ) {
        let begun = Instant::now();
        while ledger.accepted() < target {
            tokio::select! {
                Some(ended) = sending.join_next() => ended.expect("a sender met something that it must not meet"),
                Some(ended) = reading.join_next() => ended.expect("a reader met something that it must not meet"),
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "nothing is accepted any more"
            );
        }
    }

    async fn start(&self, outside: &Outside) -> Server {
        let start = Start::default()
            // A reader may be behind by all that was planned while it was away.
            .env("CARILLON_HUB__RECOVERY_LIMIT", 100_000)
            .env("CARILLON_LOG__LEVEL", "warn");
        let mut start = outside.settings(start);
        if let Some(plant) = self.plant {
            start = start.env("CARILLON_PLANT", plant);
        }
        start.serve().await
    }

    /// How long after the last acceptance everything must have come to rest; with a bug planted nobody waits for long.
    fn horizon(&self) -> Duration {
        Duration::from_secs(if self.plant.is_some() { 20 } else { 90 })
    }
}

/// Each user's caller and the epoch of the mailbox.
async fn users(api: &Api, outside: &Outside) -> Vec<(Api, String)> {
    let mut users = Vec::new();
    for index in 0..USERS {
        let path = format!("/v1/users/{}", senders::user(index));
        api.put(&path, &outside.addresses(index)).await.expect(200);
        let minted = serde_json::json!({"user": senders::user(index), "ttl": 86_400});
        let caller = api.user_with(minted).await;
        let position = caller.inbox().await["position"]
            .as_str()
            .expect("a position")
            .to_owned();
        let epoch = position.rsplit_once('-').expect("epoch-seq").0.to_owned();
        users.push((caller, epoch));
    }
    users
}
