//! Relay: outbox to queue. The outbox is the truth; what the queue loses comes back when its lease ends.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use carillon_domain::{Clock, NotificationId, TenantId, Timestamp, ports::Queue};
use carillon_sql::StoreError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    config::PlannerConfig,
    handover::Handover,
    store::{Lease, Store},
    wake::Wake,
};

/// What an accepted notification is called on the queue.
pub(crate) const SUBJECT: &str = "notification.accepted";

/// The payload of a job.
#[derive(Serialize, Deserialize)]
struct Payload {
    tenant: TenantId,
    notification: NotificationId,
    token: i64,
    /// When its lease ends, in microseconds.
    until: i64,
}

/// Hands what is due in the outbox to the queue.
pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) config: PlannerConfig,
}

impl Relay {
    /// Relays until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let poll = self.config.poll.duration();
        let mut next = None;
        loop {
            match self.relay(&stop, next).await {
                Ok(due) => next = due,
                Err(error) => {
                    tracing::error!(error = &*error, "the outbox could not be relayed");
                    metrics::counter!("carillon_dispatcher_relay_failures_total").increment(1);
                    next = None;
                }
            }
            if !self.wake.wait(&stop, &*self.clock, next, poll).await {
                self.handover.close();
                return;
            }
        }
    }

    /// Passes on what was handed over, and what is due in the outbox where something may be: there is a reason to look,
    /// or it is time to (`next`). Answers when it will be time again.
    async fn relay(
        &self,
        stop: &CancellationToken,
        next: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, Box<dyn Error + Send + Sync>> {
        let handed = self.handover.take();
        let now = self.clock.now();
        let look = handed.is_empty() || self.handover.is_behind() || next.is_none_or(|next| next <= now);
        if !self.pass_on(handed, stop).await? || !look {
            return Ok(next);
        }
        let due = self.look(stop).await?;
        let latest = now.after(self.config.poll.duration());
        Ok(Some(due.map_or(latest, |due| due.min(latest))))
    }

    /// Leases what is due in the outbox, as far as the planner keeps up, and passes it on; answers when the next will be.
    async fn look(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<Timestamp>, Box<dyn Error + Send + Sync>> {
        loop {
            let look = self.handover.look();
            let now = self.clock.now();
            let room = self.handover.pace.room(now);
            if room == 0 {
                // The planner wakes us.
                return Ok(None);
            }
            let until = now.after(self.config.lease.duration());
            let leases = self.store.lease_outbox(now, room, until).await?;
            let full = leases.len() >= room;
            let leases = leases.into_iter().map(|lease| (lease, until)).collect();
            if !self.pass_on(leases, stop).await? {
                return Ok(None);
            }
            if !full {
                let due = self.store.next_due().await?;
                self.handover.caught_up(look);
                return Ok(due);
            }
        }
    }

    /// Hands leases to the queue. `false`: stopped before the end; what is not handed over stays leased and comes back.
    async fn pass_on(
        &self,
        leases: Vec<(Lease, Timestamp)>,
        stop: &CancellationToken,
    ) -> Result<bool, Box<dyn Error + Send + Sync>> {
        metrics::counter!("carillon_dispatcher_leased_total").increment(leases.len() as u64);
        for (lease, until) in leases {
            let again = lease.token > 1;
            let key = format!("{}/{}/{}", lease.tenant, lease.notification, lease.token);
            let payload = encode(lease, until)?;
            if again {
                metrics::counter!("carillon_dispatcher_leased_again_total").increment(1);
            }
            self.handover.pace.give(until);
            tokio::select! {
                // A full queue makes us wait.
                () = stop.cancelled() => return Ok(false),
                published = self.queue.publish(SUBJECT, key, payload) => published?,
            }
        }
        Ok(true)
    }
}

fn encode(lease: Lease, until: Timestamp) -> Result<Bytes, StoreError> {
    let Lease {
        tenant,
        notification,
        token,
    } = lease;
    serde_json::to_vec(&Payload {
        tenant,
        notification,
        token,
        until: until.as_micros(),
    })
    .map(Bytes::from)
    .map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The lease that a job carries, and its end.
pub(crate) fn decode(payload: &[u8]) -> Option<(Lease, Timestamp)> {
    let Payload {
        tenant,
        notification,
        token,
        until,
    } = serde_json::from_slice(payload).ok()?;
    let lease = Lease {
        tenant,
        notification,
        token,
    };
    Some((lease, Timestamp::from_micros(until)))
}
