//! Relay: outbox to queue. The outbox is the truth; what the queue loses comes back when its lease ends.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use carillon_domain::{Clock, NotificationId, TenantId, ports::Queue};
use carillon_sql::StoreError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    config::PlannerConfig,
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
}

/// Hands what is due in the outbox to the queue.
pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) config: PlannerConfig,
}

impl Relay {
    /// Relays until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            let due = match self.relay(&stop).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(error = &*error, "the outbox could not be relayed");
                    metrics::counter!("carillon_dispatcher_relay_failures_total").increment(1);
                    None
                }
            };
            let poll = self.config.poll.duration();
            if !self.wake.wait(&stop, &*self.clock, due, poll).await {
                return;
            }
        }
    }

    /// Hands over everything that is due; answers when the next will be.
    async fn relay(
        &self,
        stop: &CancellationToken,
    ) -> Result<Option<carillon_domain::Timestamp>, Box<dyn Error + Send + Sync>> {
        loop {
            let now = self.clock.now();
            let until = now.after(self.config.lease.duration());
            let leases = self.store.lease_outbox(now, self.config.batch, until).await?;
            let full = leases.len() >= self.config.batch;
            metrics::counter!("carillon_dispatcher_leased_total").increment(leases.len() as u64);
            for lease in leases {
                let again = lease.token > 1;
                let key = format!("{}/{}/{}", lease.tenant, lease.notification, lease.token);
                let payload = encode(lease)?;
                if again {
                    metrics::counter!("carillon_dispatcher_leased_again_total").increment(1);
                }
                tokio::select! {
                    // A full queue makes us wait; what is not handed over stays leased and comes back.
                    () = stop.cancelled() => return Ok(None),
                    published = self.queue.publish(SUBJECT, key, payload) => published?,
                }
            }
            if !full {
                return Ok(self.store.next_due().await?);
            }
        }
    }
}

fn encode(lease: Lease) -> Result<Bytes, StoreError> {
    let Lease {
        tenant,
        notification,
        token,
    } = lease;
    serde_json::to_vec(&Payload {
        tenant,
        notification,
        token,
    })
    .map(Bytes::from)
    .map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The lease that a job carries.
pub(crate) fn decode(payload: &[u8]) -> Option<Lease> {
    let Payload {
        tenant,
        notification,
        token,
    } = serde_json::from_slice(payload).ok()?;
    Some(Lease {
        tenant,
        notification,
        token,
    })
}
