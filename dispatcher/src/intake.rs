//! Intake: what was answered 202 is committed and synced.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::{Clock, TenantId};
use carillon_runtime::http::Problem;
use carillon_sql::StoreError;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::{
    batcher::{BatchError, BatchLimits, Batcher, Weigh},
    config::DispatcherConfig,
    digest::sha256,
    handover::Handover,
    idempotency::{Flight, InFlight},
    store::{AcceptReply, AcceptRequest, Claim, NewNotification, Store},
    wake::Wake,
};

/// Takes notifications in.
pub(crate) struct Intake {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    batcher: Batcher<Taking, AcceptReply, IntakeError>,
    in_flight: Arc<InFlight>,
    relay: Arc<Wake>,
    handover: Arc<Handover>,
    /// How long what is handed over is leased.
    lease: Duration,
    keep_keys: Duration,
    #[cfg(feature = "planted-bugs")]
    pub(crate) this: std::sync::OnceLock<std::sync::Weak<Self>>,
}

/// What the intake is asked to take in.
pub(crate) struct Submission {
    pub(crate) tenant: TenantId,
    pub(crate) notifications: Vec<NewNotification>,
    /// The answer's body.
    pub(crate) body: Arc<str>,
    /// With an idempotency key: the route, the key, and the request's body.
    pub(crate) key: Option<(&'static str, Arc<str>, bytes::Bytes)>,
}

/// What to answer with 202.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Accepted now.
    New,
    /// Accepted before, under the same key.
    Before { status: u16, body: String },
}

/// Why nothing was accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum IntakeError {
    /// A request with the same key is not answered yet.
    #[error("the first request with this key is in flight")]
    InFlight,
    /// The key was used with another body.
    #[error("the key was used with another body")]
    Mismatch,
    /// Too much waits for commits.
    #[error("too many requests wait for a commit")]
    Overloaded,
    /// The process ends.
    #[error("the process is shutting down")]
    Stopping,
    /// The store is away; several requests share the cause.
    #[error("the store did not commit")]
    Store(#[source] Arc<StoreError>),
}

/// A request that waits for its commit. It keeps its key in flight itself: a caller who hangs up meanwhile must not
/// free a key whose request may still be committed, or a retry could be accepted beside it.
struct Taking {
    request: AcceptRequest,
    flight: Option<Flight>,
}

impl Weigh for Taking {
    fn items(&self) -> usize {
        self.request.notifications.len()
    }

    fn bytes(&self) -> usize {
        self.request.weight()
    }
}

impl Intake {
    pub(crate) fn new(
        config: &DispatcherConfig,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        relay: Arc<Wake>,
        handover: Arc<Handover>,
    ) -> Self {
        Self {
            store,
            clock,
            batcher: Batcher::new(batch_limits(config)),
            in_flight: Arc::default(),
            relay,
            handover,
            lease: config.planner.lease.duration(),
            keep_keys: config.retention.idempotency.duration(),
            #[cfg(feature = "planted-bugs")]
            this: std::sync::OnceLock::new(),
        }
    }

    /// Commits a submission, together with what else arrives.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<Taken, IntakeError> {
        let Submission {
            tenant,
            notifications,
            body,
            key,
        } = submission;
        let mut flight = None;
        let claim = match key {
            None => None,
            Some((route, key, request)) => {
                flight = Some(
                    self.in_flight
                        .begin(&tenant, route, &key)
                        .ok_or(IntakeError::InFlight)?,
                );
                Some(Claim {
                    route,
                    key,
                    fingerprint: hex(&sha256(&request)),
                    status: StatusCode::ACCEPTED.as_u16(),
                    body,
                    expires_at: self.clock.now().after(self.keep_keys),
                })
            }
        };
        let taking = Taking {
            request: AcceptRequest {
                tenant,
                notifications,
                claim,
            },
            flight,
        };
        #[cfg(feature = "planted-bugs")]
        if crate::planted::is(crate::planted::ACK_BEFORE_COMMIT) {
            return Ok(self.acknowledge_too_early(taking));
        }
        let reply = self.batcher.submit(taking).await.map_err(|error| match error {
            BatchError::Overloaded => IntakeError::Overloaded,
            BatchError::Stopping => IntakeError::Stopping,
            BatchError::Failed(error) => error,
        });
        match reply? {
            AcceptReply::Accepted => Ok(Taken::New),
            AcceptReply::Replayed { status, body } => Ok(Taken::Before { status, body }),
            AcceptReply::Mismatch => Err(IntakeError::Mismatch),
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn acknowledge_too_early(&self, taking: Taking) -> Taken {
        if let Some(intake) = self.this.get().and_then(std::sync::Weak::upgrade) {
            tokio::spawn(async move {
                let _ = intake.batcher.submit(taking).await;
            });
        }
        Taken::New
    }

    /// Commits batches until `stop`, and then what still waits.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.batcher.run(stop, |takings| self.commit(takings)).await;
    }

    async fn commit(&self, takings: Vec<Taking>) -> Vec<Result<AcceptReply, IntakeError>> {
        // Until this returns, and so before anybody is answered: then the rows are there, or it is known that they
        // never will be.
        let (requests, _flights): (Vec<AcceptRequest>, Vec<Option<Flight>>) = takings
            .into_iter()
            .map(|taking| (taking.request, taking.flight))
            .unzip();
        let notifications: usize = requests.iter().map(|request| request.notifications.len()).sum();
        metrics::histogram!("carillon_dispatcher_accept_batch").record(notifications as f64);
        let replies = match self.accept(&requests).await {
            Ok(replies) => replies.into_iter().map(Ok).collect(),
            // One request that cannot be stored must not take its neighbours with it.
            Err(error) if requests.len() > 1 && !is_away(&error) => {
                let mut replies = Vec::with_capacity(requests.len());
                for request in &requests {
                    let reply = self.accept(std::slice::from_ref(request)).await;
                    replies.push(reply.map_err(failed).map(|mut replies| replies.remove(0)));
                }
                replies
            }
            Err(error) => {
                let error = failed(error);
                requests.iter().map(|_| Err(error.clone())).collect::<Vec<_>>()
            }
        };
        let accepted: usize = requests
            .iter()
            .zip(&replies)
            .filter(|(_, reply)| matches!(reply, Ok(AcceptReply::Accepted)))
            .map(|(request, _)| request.notifications.len())
            .sum();
        if accepted > 0 {
            metrics::counter!("carillon_dispatcher_accepted_total").increment(accepted as u64);
            self.relay.wake();
        }
        replies
    }

    /// Commits requests, and hands over what may be planned now.
    async fn accept(&self, requests: &[AcceptRequest]) -> Result<Vec<AcceptReply>, StoreError> {
        let now = self.clock.now();
        let notifications = requests.iter().flat_map(|request| &request.notifications);
        let count = notifications.filter(|row| row.send_at <= now).count();
        let leased = self.hands_over(count).then(|| now.after(self.lease));
        let replies = self.store.accept(now, requests, leased).await?;
        let accepted = requests
            .iter()
            .zip(&replies)
            .filter(|(_, reply)| **reply == AcceptReply::Accepted);
        let mut left = false;
        for (request, _) in accepted {
            if let Some(until) = leased {
                let due = request.notifications.iter().filter(|row| row.send_at <= now);
                self.handover.give(&request.tenant, until, due);
            }
            left |= request
                .notifications
                .iter()
                .any(|row| leased.is_none() || row.send_at > now);
        }
        if left {
            self.handover.leave();
        }
        Ok(replies)
    }

    /// Whether the next commit leases what it accepts. Only where the store is this process's own: what a dead process
    /// had leased is due at once when the next one opens it. Other nodes would wait for the end of its leases.
    fn hands_over(&self, count: usize) -> bool {
        #[cfg(feature = "planted-bugs")]
        if crate::planted::is(crate::planted::CURSOR) || crate::planted::is(crate::planted::NO_REQUEUE) {
            // Bugs of the lease through the outbox.
            return false;
        }
        self.store.is_serial() && self.handover.takes(count)
    }
}

/// The limits of everything that is committed in groups.
pub(crate) fn batch_limits(config: &DispatcherConfig) -> BatchLimits {
    BatchLimits {
        queue: config.intake.queue,
        queue_bytes: config.intake.queue_bytes.as_usize(),
        items: config.intake.batch,
        bytes: config.intake.batch_bytes.as_usize(),
    }
}

/// Whether the database is away or busy, so that trying each request alone would only take longer.
pub(crate) fn is_away(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt(_) => false,
        StoreError::Database(sqlx::Error::Database(error)) => {
            // PostgreSQL: 08 connection, 40 rollback, 53 resources, 57 operator; SQLite: busy, locked, I/O, full.
            let code = error.code().unwrap_or_default();
            ["08", "40", "53", "57"]
                .iter()
                .any(|class| code.len() == 5 && code.starts_with(class))
                || matches!(code.parse::<u32>().map(|code| code & 0xff), Ok(5 | 6 | 10 | 13) if code.len() < 5)
        }
        StoreError::Database(error) => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ),
        StoreError::Unsafe(_) => true,
    }
}

fn failed(error: StoreError) -> IntakeError {
    tracing::error!(error = &error as &dyn Error, "notifications were not committed");
    IntakeError::Store(Arc::new(error))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::InFlight => Self::new(
                StatusCode::CONFLICT,
                "idempotency_in_flight",
                "The first request with this Idempotency-Key has not been answered yet.",
            ),
            IntakeError::Mismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "This Idempotency-Key was used with another body.",
            ),
            IntakeError::Overloaded => busy("Too many requests wait to be stored. Try again."),
            IntakeError::Stopping => busy("This part of the service is restarting. Try again."),
            // Logged where it happened, once for the batch.
            IntakeError::Store(_) => busy("The store is away. Try again."),
        }
    }
}

/// 503 with a wait that spreads those who come back.
pub(crate) fn busy(detail: &'static str) -> Problem {
    Problem {
        retry_after: Some(1 + rand::random::<u32>() % 3),
        ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }
}
