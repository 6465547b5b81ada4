//! Janitor: everything stored has a retention, and nothing is taken away in one go that others would wait for.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::{Clock, Timestamp};
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{
    config::RetentionConfig,
    mailboxes::Mailboxes,
    store::{Store, Sweep, domain_events::DomainEventSweep, outside::OutsideSweep},
    wake::Wake,
};

/// How long the note that a user was erased keeps late work from bringing him back.
const ERASED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long alerts are kept: a little longer than the longest stretch of time that a cap or a throttle looks back on.
const ALERTS: Duration = Duration::from_secs(32 * 24 * 60 * 60);

/// Between two chunks others get their turn.
const BREATH: Duration = Duration::from_millis(5);

/// Takes away what is too old.
pub(crate) struct Janitor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: RetentionConfig,
}

impl Janitor {
    /// Sweeps until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let never = Wake::default();
        while never
            .wait(&stop, &*self.clock, None, self.config.sweep_every.duration())
            .await
        {
            if let Err(error) = self.sweep(&stop).await {
                metrics::counter!("carillon_dispatcher_janitor_failures_total").increment(1);
                tracing::error!(
                    error = &error as &dyn Error,
                    "the janitor could not sweep; he comes again"
                );
            }
        }
    }

    /// Takes away everything that is too old now.
    pub(crate) async fn sweep(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        self.forget_entries(stop).await?;
        for sweep in Sweep::ALL {
            let cutoff = self.cutoff(sweep);
            // A kind that never comes to its end must not keep the others waiting for ever.
            for _ in 0..10_000 {
                let removed = self.store.sweep(sweep, cutoff, self.config.sweep_chunk).await?;
                if removed == 0 {
                    break;
                }
                count(sweep.as_str(), removed);
                if !pause(stop).await {
                    return Ok(());
                }
            }
        }
        // Events and redrives are kept as long as the notifications that they are about.
        let cutoff = self.cutoff(Sweep::Notifications);
        for sweep in OutsideSweep::ALL {
            for _ in 0..10_000 {
                let chunk = self.config.sweep_chunk;
                let removed = self.store.sweep_outside(sweep, cutoff, chunk).await?;
                if removed == 0 {
                    break;
                }
                count(sweep.as_str(), removed);
                if !pause(stop).await {
                    return Ok(());
                }
            }
        }
        let cutoff = self.clock.now().before(self.config.events.duration());
        for sweep in DomainEventSweep::ALL {
            for _ in 0..10_000 {
                let removed = self
                    .store
                    .sweep_events(sweep, cutoff, self.config.sweep_chunk)
                    .await?;
                if removed == 0 {
                    break;
                }
                count(sweep.as_str(), removed);
                if !pause(stop).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Entries go the way of every change: with a number in the log, and word to the devices.
    async fn forget_entries(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let cutoff = self.clock.now().before(self.config.entries.duration());
        loop {
            let commands = self
                .store
                .outdated_entries(cutoff, self.config.sweep_chunk)
                .await?;
            if commands.is_empty() {
                return Ok(());
            }
            count(
                "entries",
                commands
                    .iter()
                    .map(|command| command.operations.len() as u64)
                    .sum(),
            );
            self.mailboxes.mutate(&commands).await?;
            if !pause(stop).await {
                return Ok(());
            }
        }
    }

    fn cutoff(&self, sweep: Sweep) -> Timestamp {
        let config = &self.config;
        let kept = match sweep {
            Sweep::Notifications => config.notifications.duration(),
            // These rows carry the time of their end.
            Sweep::Idempotency => Duration::ZERO,
            // Who still shows a deleted entry resumes from the log; afterwards he reloads.
            Sweep::Log | Sweep::GoneEntries => config.log.duration(),
            Sweep::TopicLog => config.topic_history.duration(),
            Sweep::Topics => config.idle_topics.duration(),
            // A `delivered` receipt is as old as the notification that it is about, at the most.
            Sweep::Confirmations => config.notifications.duration().min(config.devices.duration()),
            Sweep::TemplateVersions | Sweep::Templates => config.notifications.duration(),
            Sweep::Devices => config.devices.duration(),
            Sweep::Erased => ERASED,
            Sweep::Alerts => ALERTS,
        };
        self.clock.now().before(kept)
    }
}

fn count(what: &'static str, removed: u64) {
    metrics::counter!("carillon_dispatcher_removed_total", "what" => what).increment(removed);
}

async fn pause(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(BREATH) => true,
    }
}
