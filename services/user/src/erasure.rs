//! The durable saga of forgetting a person.
//!
//! The name is cut off in the transaction that answers the request. Then every room is asked to forget the internal id,
//! until all have: a crash or a failing room leaves the row, and it comes due again. A second pass follows when no
//! process can hold the old id in memory any more, for what was written late. Only then the row, and with it the last
//! trace of the name, goes.

use std::{sync::Arc, time::Duration};

use carillon_domain::ports::{Erase, Unavailable};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Users, store::Erasure};

/// How often erasures that came due are looked for, besides at once in the process that began one.
const LOOK: Duration = Duration::from_secs(1);

/// How often what is over is removed.
const TIDY: Duration = Duration::from_secs(60);

/// How long a process has for one batch before others take it up.
const LEASE: Duration = Duration::from_secs(120);

/// The first and the longest time between two attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// How many passes there are.
const PASSES: i64 = 2;

impl Users {
    /// Carries out erasures until `stop`, and removes what is over.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tidy = interval(TIDY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            match self.carry_on().await {
                // There may be more than one batch.
                Ok(done) if done > 0 => continue,
                Ok(_) => {}
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "erasures could not be carried on");
                }
            }
            self.forget_stale().await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = tidy.tick() => {
                    if let Err(error) = self.tidy().await {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(error, "addresses that are over could not be removed");
                    }
                }
            }
        }
    }

    /// Takes up the erasures that are due; answers how many.
    pub(crate) async fn carry_on(&self) -> Result<usize, Unavailable> {
        let due = self.store.take_erasures(self.clock.now(), LEASE).await?;
        for erasure in &due {
            self.carry_out(erasure).await?;
        }
        if !due.is_empty() {
            let open = self.store.open_erasures().await?;
            metrics::gauge!("carillon_erasures_open").set(open as f64);
        }
        Ok(due.len())
    }

    async fn carry_out(&self, erasure: &Erasure) -> Result<(), Unavailable> {
        let rooms: Vec<(&'static str, Arc<dyn Erase>)> = self.rooms.read().clone();
        let mut failed = false;
        for (room, erase) in rooms {
            if let Err(error) = erase.erase(&erasure.tenant, erasure.user).await {
                failed = true;
                let (tenant, user, attempt) = (&erasure.tenant, erasure.user, erasure.attempts);
                let error: &dyn std::error::Error = &error;
                tracing::warn!(%tenant, %user, room, attempt, error, "erasing a user failed; it is tried again");
            }
        }
        let now = self.clock.now();
        if failed {
            self.store
                .put_off_erasure(erasure, now.after(backoff(erasure.attempts)))
                .await?;
        } else if erasure.pass < PASSES {
            let next = Erasure {
                pass: erasure.pass + 1,
                attempts: 0,
                ..erasure.clone()
            };
            self.store
                .put_off_erasure(&next, now.after(self.config.cache_ttl.duration() * 2))
                .await?;
        } else {
            self.store.end_erasure(erasure).await?;
            tracing::info!(tenant = %erasure.tenant, user = %erasure.user, "erased a user");
        }
        Ok(())
    }
}

/// Doubles with every attempt.
fn backoff(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    (BACKOFF.0 * 2_u32.pow(doublings)).min(BACKOFF.1)
}
