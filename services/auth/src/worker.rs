use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Auth, store::PURGE_BATCH};

/// How often other processes' revocations are learned.
const REFRESH: Duration = Duration::from_secs(1);

/// How often everything that counts is learned again, in case clocks differed by more than the overlap.
const REFRESH_ALL: Duration = Duration::from_secs(600);

/// How often the last uses of keys are written down.
const WRITE_USES: Duration = Duration::from_secs(15);

/// How often keys rotate and what is over is removed.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// At most this many batches per housekeeping, so that it ends.
const MAX_BATCHES: usize = 100;

impl Auth {
    /// Works until `stop`: rotates signing keys, removes what is over, writes down when keys were used, and learns what
    /// other processes revoked. Failures are logged and tried again the next time.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let timer = |period| {
            let mut timer = interval(period);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        };
        let (mut refresh, mut refresh_all) = (timer(REFRESH), timer(REFRESH_ALL));
        let (mut write_uses, mut housekeeping) = (timer(WRITE_USES), timer(HOUSEKEEPING));
        loop {
            let (task, outcome) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = refresh.tick(), if self.shared_store => ("revocations", self.refresh_revocations(false).await),
                _ = refresh_all.tick() => ("revocations", self.refresh_revocations(true).await),
                _ = write_uses.tick() => ("uses of API keys", self.write_uses().await),
                _ = housekeeping.tick() => ("housekeeping", self.keep_house().await),
            };
            if let Err(error) = outcome {
                tracing::error!(
                    task,
                    error = &error as &dyn std::error::Error,
                    "identity's worker failed"
                );
            }
        }
        if let Err(error) = self.write_uses().await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the last uses of API keys were not written down");
        }
    }

    async fn write_uses(&self) -> Result<(), carillon_domain::ports::Unavailable> {
        Ok(self.keys.write_uses(&*self.store).await?)
    }

    /// Rotates signing keys and removes what is over.
    pub(crate) async fn keep_house(&self) -> Result<(), carillon_domain::ports::Unavailable> {
        let now = self.clock.now();
        self.signing.rotate(now).await?;
        self.revocations.forget_expired(now);
        let keys_before = now.before(self.config.revoked_key_retention.duration());
        let retired_before = crate::signing::Rotation::new(&self.config).retired_before(now);
        for _ in 0..MAX_BATCHES {
            if self.store.purge(now, keys_before, retired_before).await? < PURGE_BATCH {
                break;
            }
        }
        Ok(())
    }
}
