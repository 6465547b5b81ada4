//! Taking events in: what was answered 202 is committed with its outbox row.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::{Clock, DomainEventId, TenantId};
use carillon_runtime::http::Problem;
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use super::CloudEvent;
use crate::{
    batcher::{BatchError, BatchLimits, Batcher, Weigh},
    intake::{busy, is_away},
    store::{
        Store,
        domain_events::{DomainEventState, EventReply, NewDomainEvent},
    },
    wake::Wake,
};

/// Takes events in, several requests per commit.
pub(crate) struct EventIntake {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    batcher: Batcher<Vec<NewDomainEvent>, Vec<EventReply>, EventIntakeError>,
    rules: Arc<Wake>,
}

/// An event that is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakenEvent {
    pub(crate) id: DomainEventId,
    pub(crate) state: DomainEventState,
    /// Whether it had been there before.
    pub(crate) replayed: bool,
}

/// Why no event was taken.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EventIntakeError {
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

impl From<EventIntakeError> for Problem {
    fn from(error: EventIntakeError) -> Self {
        match error {
            EventIntakeError::Overloaded => busy("Too many requests wait to be stored. Try again."),
            EventIntakeError::Stopping => busy("This part of the service is restarting. Try again."),
            // Logged where it happened, once for the batch.
            EventIntakeError::Store(_) => busy("The store is away. Try again."),
        }
    }
}

impl Weigh for Vec<NewDomainEvent> {
    fn items(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.iter().map(|event| event.body.len() + 256).sum()
    }
}

impl EventIntake {
    pub(crate) fn new(
        limits: BatchLimits,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        rules: Arc<Wake>,
    ) -> Self {
        Self {
            store,
            clock,
            batcher: Batcher::new(limits),
            rules,
        }
    }

    /// Commits a request's events, together with what else arrives. Answers in their order.
    pub(crate) async fn submit(
        &self,
        tenant: &TenantId,
        events: &[CloudEvent],
    ) -> Result<Vec<TakenEvent>, EventIntakeError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        // One after the other in the order of the request, which is the order in which the rules see them.
        let new: Vec<NewDomainEvent> = (0..)
            .zip(events)
            .map(|(micros, event)| {
                let at = now.after(Duration::from_micros(micros));
                NewDomainEvent {
                    tenant: tenant.clone(),
                    id: DomainEventId::at(at),
                    source: event.source().into(),
                    event_id: event.id().into(),
                    kind: event.kind().into(),
                    body: event.to_json().into(),
                    received_at: now,
                }
            })
            .collect();
        let ids: Vec<DomainEventId> = new.iter().map(|event| event.id).collect();
        let replies = self.batcher.submit(new).await.map_err(|error| match error {
            BatchError::Overloaded => EventIntakeError::Overloaded,
            BatchError::Stopping => EventIntakeError::Stopping,
            BatchError::Failed(error) => error,
        })?;
        let taken = ids.into_iter().zip(replies).map(|(id, reply)| match reply {
            EventReply::Accepted => TakenEvent {
                id,
                state: DomainEventState::Waiting,
                replayed: false,
            },
            EventReply::Known(id, state) => TakenEvent {
                id,
                state,
                replayed: true,
            },
        });
        Ok(taken.collect())
    }

    /// Commits batches until `stop`, and then what still waits.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        self.batcher.run(stop, |requests| self.commit(requests)).await;
    }

    async fn commit(
        &self,
        requests: Vec<Vec<NewDomainEvent>>,
    ) -> Vec<Result<Vec<EventReply>, EventIntakeError>> {
        let lengths: Vec<usize> = requests.iter().map(Vec::len).collect();
        let all: Vec<NewDomainEvent> = requests.into_iter().flatten().collect();
        let replies = match self.store.accept_events(&all).await {
            Ok(replies) => {
                let mut replies = replies.into_iter();
                let of_request = lengths
                    .iter()
                    .map(|length| Ok(replies.by_ref().take(*length).collect()));
                of_request.collect()
            }
            // One request that cannot be stored must not take its neighbours with it.
            Err(error) if lengths.len() > 1 && !is_away(&error) => {
                let mut replies = Vec::with_capacity(lengths.len());
                let mut rest = all.as_slice();
                for length in lengths {
                    let (own, others) = rest.split_at(length);
                    replies.push(self.store.accept_events(own).await.map_err(failed));
                    rest = others;
                }
                replies
            }
            Err(error) => {
                let error = failed(error);
                lengths.iter().map(|_| Err(error.clone())).collect::<Vec<_>>()
            }
        };
        let count = |replayed: bool| {
            let all = replies.iter().flatten().flatten();
            all.filter(|reply| matches!(reply, EventReply::Known(..)) == replayed)
                .count()
        };
        let accepted = count(false);
        for (result, number) in [("accepted", accepted), ("replayed", count(true))] {
            metrics::counter!("carillon_dispatcher_events_total", "result" => result)
                .increment(number as u64);
        }
        if accepted > 0 {
            self.rules.wake();
        }
        replies
    }
}

fn failed(error: StoreError) -> EventIntakeError {
    tracing::error!(error = &error as &dyn Error, "events were not committed");
    EventIntakeError::Store(Arc::new(error))
}
