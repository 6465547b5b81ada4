//! What was committed goes to the bus, in the order of the commits.

use std::{sync::Arc, time::Duration};

use carillon_domain::{Envelope, ports::Bus};
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Commits that may wait for the bus; above, the next commit waits.
const WAITING: usize = 256;

/// Bytes that may wait for the bus; above, the next commit waits. Twice what one planning transaction writes, so that
/// the next one is planned while the last one is announced.
const WAITING_BYTES: usize = 32 * 1024 * 1024;
/// About what an envelope holds beside its body, in bytes.
const ENVELOPE: usize = 256;
/// The backlog is counted in these, since a semaphore counts in 32 bits.
const UNIT: usize = 1_024;

/// Hands envelopes to the bus, one commit after the other. What it loses with the process is in the logs.
pub(crate) struct Announcer {
    bus: Arc<dyn Bus>,
    sender: mpsc::Sender<Announcement>,
    /// Held by the worker, which may be started anew.
    receiver: Mutex<mpsc::Receiver<Announcement>>,
    /// One permit per [`UNIT`] that waits.
    room: Arc<Semaphore>,
    /// Held from before a commit until its envelopes are queued, where commits have an order anyway. Elsewhere nodes
    /// overtake each other, and hubs put it right by position.
    order: Option<Mutex<()>>,
}

/// What one commit changed, and its share of the backlog until the bus took it.
struct Announcement {
    envelopes: Vec<Envelope>,
    room: OwnedSemaphorePermit,
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
            room: Arc::new(Semaphore::new(WAITING_BYTES / UNIT)),
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
            let first = tokio::select! {
                biased;
                first = receiver.recv() => first,
                () = idle(&stop) => None,
            };
            let Some(Announcement {
                mut envelopes,
                mut room,
            }) = first
            else {
                return;
            };
            // Small commits that queued up meanwhile go together.
            while envelopes.len() < 1_024
                && let Ok(more) = receiver.try_recv()
            {
                envelopes.extend(more.envelopes);
                room.merge(more.room);
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
            drop(room);
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
        if envelopes.is_empty() {
            return;
        }
        // A single commit that is larger passes once nothing else waits.
        let bytes: usize = envelopes
            .iter()
            .map(|envelope| envelope.body.len() + ENVELOPE)
            .sum();
        let units = u32::try_from(bytes.div_ceil(UNIT).min(WAITING_BYTES / UNIT)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.announcer.room).acquire_many_owned(units).await;
        let Ok(room) = room else { return };
        if self
            .announcer
            .sender
            .send(Announcement { envelopes, room })
            .await
            .is_err()
        {
            tracing::debug!("changes were committed after the announcer stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use carillon_domain::{
        EnvelopeId, EnvelopeKind, Subject, TenantId, Timestamp,
        ports::{Incoming, Unavailable},
    };

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl Bus for Counting {
        async fn publish(&self, envelopes: Vec<Envelope>) -> Result<(), Unavailable> {
            self.0.fetch_add(envelopes.len(), Ordering::SeqCst);
            Ok(())
        }
        async fn listen(&self, _: &TenantId, _: &Subject) -> Result<(), Unavailable> {
            Ok(())
        }
        async fn unlisten(&self, _: &TenantId, _: &Subject) -> Result<(), Unavailable> {
            Ok(())
        }
        fn incoming(&self, _: Arc<dyn Incoming>) {}
    }

    fn envelope(bytes: usize) -> Envelope {
        let at = Timestamp::from_seconds(1_767_323_045);
        Envelope {
            id: EnvelopeId::at(at),
            tenant: TenantId::default(),
            subject: Subject::Topic("t".parse().expect("a topic")),
            position: None,
            kind: EnvelopeKind::Publication { publisher: None },
            body: Bytes::from(vec![b' '; bytes]),
        }
    }

    #[tokio::test]
    async fn a_commit_waits_while_the_backlog_is_full_and_a_larger_one_still_passes() {
        let bus = Arc::new(Counting::default());
        let announcer = Arc::new(Announcer::new(bus.clone(), true));
        let half = WAITING_BYTES / 2;
        announcer.turn().await.announce(vec![envelope(half)]).await;
        let larger = tokio::spawn({
            let announcer = Arc::clone(&announcer);
            async move {
                let turn = announcer.turn().await;
                turn.announce(vec![envelope(WAITING_BYTES + 1)]).await;
            }
        });
        tokio::task::yield_now().await;
        assert!(!larger.is_finished(), "the backlog has no room for it");
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let (announcer, stop) = (Arc::clone(&announcer), stop.clone());
            async move { announcer.run(stop).await }
        });
        larger.await.expect("no panic");
        announcer.turn().await.announce(vec![envelope(half)]).await;
        stop.cancel();
        worker.await.expect("no panic");
        assert_eq!(bus.0.load(Ordering::SeqCst), 3);
    }
}
