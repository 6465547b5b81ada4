//! What was committed goes to the bus, in the order of the commits.

use std::{sync::Arc, time::Duration};

use carillon_domain::{Envelope, ports::Bus};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

/// Commits that may wait for the bus; above, the next commit waits.
const WAITING: usize = 256;

/// Hands envelopes to the bus, one commit after the other. What it loses with the process is in the logs.
pub(crate) struct Announcer {
    bus: Arc<dyn Bus>,
    sender: mpsc::Sender<Vec<Envelope>>,
    /// Held by the worker, which may be started anew.
    receiver: Mutex<mpsc::Receiver<Vec<Envelope>>>,
    /// Held from before a commit until its envelopes are queued, where commits have an order anyway. Elsewhere nodes
    /// overtake each other, and hubs put it right by position.
    order: Option<Mutex<()>>,
}

/// The right to commit and then announce.
pub(crate) struct Turn<'a> {
    announcer: &'a Announcer,
    _order: Option<MutexGuard<'a, ()>>,
}

impl Announcer {
    /// `serial`: whether all commits of mailboxes and topics go through one connection.
    pub(crate) fn new(bus: Arc<dyn Bus>, serial: bool) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            bus,
            sender,
            receiver: Mutex::new(receiver),
            order: serial.then(|| Mutex::new(())),
        }
    }

    /// Call before the commit.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let order = match &self.order {
            Some(order) => Some(order.lock().await),
            None => None,
        };
        Turn {
            announcer: self,
            _order: order,
        }
    }

    /// Sends what was never stored; nothing is lost but itself.
    pub(crate) async fn live(
        &self,
        envelopes: Vec<Envelope>,
    ) -> Result<(), carillon_domain::ports::Unavailable> {
        self.bus.publish(envelopes).await
    }

    /// Publishes until `stop`, and then what still waits.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut receiver = self.receiver.lock().await;
        loop {
            let envelopes = tokio::select! {
                biased;
                envelopes = receiver.recv() => envelopes,
                () = idle(&stop) => None,
            };
            let Some(mut envelopes) = envelopes else { return };
            // Small commits that queued up meanwhile go together.
            while envelopes.len() < 1_024
                && let Ok(more) = receiver.try_recv()
            {
                envelopes.extend(more);
            }
            let count = envelopes.len() as u64;
            match self.bus.publish(envelopes).await {
                Ok(()) => metrics::counter!("carillon_dispatcher_announced_total").increment(count),
                Err(error) => {
                    metrics::counter!("carillon_dispatcher_announce_failures_total").increment(count);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        count,
                        "the bus did not take changes; hubs will find them in the log"
                    );
                }
            }
        }
    }
}

/// Longer than those who commit linger.
const LINGER: Duration = Duration::from_secs(1);

async fn idle(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

impl Turn<'_> {
    /// Call after the commit.
    pub(crate) async fn announce(self, envelopes: Vec<Envelope>) {
        if !envelopes.is_empty() && self.announcer.sender.send(envelopes).await.is_err() {
            tracing::debug!("changes were committed after the announcer stopped");
        }
    }
}
