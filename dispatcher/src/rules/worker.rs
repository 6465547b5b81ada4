//! Working on events: each rule that is for one makes one notification, once. The outbox is the truth: an event whose
//! worker ended comes back when its lease ends, and what was accepted for it is known by its id.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use carillon_domain::{DomainEventId, NotificationId, RuleName, TenantId, Timestamp, ports::Unavailable};
use carillon_sql::StoreError;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Judged, Rule, book::Rules, request};
use crate::{
    Dispatcher,
    config::EventsConfig,
    digest::sha256,
    domain_events::CloudEvent,
    intake::{IntakeError, Submission},
    store::{
        NewNotification,
        domain_events::{DomainEventRow, EventEnd, EventLease, RuleOutcome, RuleResult},
    },
};

/// What an event's rule is called among the keys of what was accepted.
const ROUTE: &str = "rule";
/// Events that are worked on at the same time.
const TOGETHER: usize = 8;
/// Rules of an event that are judged, and whose notifications wait for a commit, at the same time.
const RULES_TOGETHER: usize = 64;
/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 1_024;

/// Shows events to rules.
pub(crate) struct RuleWorker {
    pub(crate) dispatcher: Arc<Dispatcher>,
}

/// How far an event came.
enum Worked {
    Done(EventEnd),
    /// Something is away: the event comes back later, with what is done already.
    PutOff(EventLease, Vec<RuleResult>),
}

/// Something is away, or the same is under way elsewhere.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// No thread came free.
    #[error("too much is worked out at once")]
    Busy,
}

impl RuleWorker {
    /// Works until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            let due = match self.work(&stop).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "events could not be shown to rules");
                    metrics::counter!("carillon_dispatcher_rule_worker_failures_total").increment(1);
                    None
                }
            };
            let poll = self.config().poll.duration();
            let clock = &*self.dispatcher.ports.clock;
            if !self.dispatcher.rules.wait(&stop, clock, due, poll).await {
                return;
            }
        }
    }

    fn config(&self) -> &EventsConfig {
        &self.dispatcher.config.events
    }

    /// Works on everything that is due; answers when the next will be.
    async fn work(&self, stop: &CancellationToken) -> Result<Option<Timestamp>, StoreError> {
        let store = &self.dispatcher.store;
        loop {
            let now = self.dispatcher.ports.clock.now();
            let until = now.after(self.config().lease.duration());
            let leases = store.lease_events(now, self.config().batch, until).await?;
            let full = leases.len() >= self.config().batch;
            for group in leases.chunks(TOGETHER) {
                // What is not begun stays leased and comes back.
                if stop.is_cancelled() {
                    return Ok(None);
                }
                self.work_on(group).await?;
            }
            if !full {
                return store.next_event_due().await;
            }
        }
    }

    async fn work_on(&self, leases: &[EventLease]) -> Result<(), StoreError> {
        let mut events = self.load(leases).await?;
        let mut rules: HashMap<&TenantId, Rules> = HashMap::new();
        for EventLease { tenant, .. } in leases {
            if !rules.contains_key(tenant) {
                match self.dispatcher.rule_book.of(tenant).await {
                    Ok(known) => drop(rules.insert(tenant, known)),
                    Err(error) => tracing::warn!(error = &error as &dyn Error, "rules could not be read"),
                }
            }
        }
        let mut together = JoinSet::new();
        let mut ends = Vec::with_capacity(leases.len());
        for lease in leases {
            let Some(event) = events.remove(&(lease.tenant.clone(), lease.event)) else {
                // It was swept, or cannot be read: there is nothing to show.
                ends.push(EventEnd {
                    lease: lease.clone(),
                    results: Vec::new(),
                });
                continue;
            };
            let Some(rules) = rules.get(&lease.tenant) else {
                self.put_off(lease, &event.results).await?;
                continue;
            };
            let (dispatcher, rules, lease) = (Arc::clone(&self.dispatcher), Arc::clone(rules), lease.clone());
            together.spawn(async move { work_event(&dispatcher, event, &rules, lease).await });
        }
        // A panic is logged where it happens; its event comes back when its lease ends.
        while let Some(worked) = together.join_next().await {
            match worked {
                Ok(Worked::Done(end)) => ends.push(end),
                Ok(Worked::PutOff(lease, results)) => self.put_off(&lease, &results).await?,
                Err(error) => tracing::error!(error = &error as &dyn Error, "an event was not worked on"),
            }
        }
        self.settle(&ends).await
    }

    async fn load(
        &self,
        leases: &[EventLease],
    ) -> Result<HashMap<(TenantId, DomainEventId), DomainEventRow>, StoreError> {
        let store = &self.dispatcher.store;
        let ids: Vec<(TenantId, DomainEventId)> = leases
            .iter()
            .map(|lease| (lease.tenant.clone(), lease.event))
            .collect();
        let rows = match store.load_events(&ids).await {
            // One that cannot be read must not stop its neighbours.
            Err(StoreError::Corrupt(_)) if ids.len() > 1 => {
                let mut rows = Vec::with_capacity(ids.len());
                for id in &ids {
                    match store.load_events(std::slice::from_ref(id)).await {
                        Ok(found) => rows.extend(found),
                        Err(StoreError::Corrupt(what)) => tracing::error!(what, "an event cannot be read"),
                        Err(error) => return Err(error),
                    }
                }
                rows
            }
            Err(StoreError::Corrupt(what)) => {
                tracing::error!(what, "an event cannot be read");
                Vec::new()
            }
            rows => rows?,
        };
        Ok(rows
            .into_iter()
            .map(|row| ((row.tenant.clone(), row.id), row))
            .collect())
    }

    /// Puts an event off.
    async fn put_off(&self, lease: &EventLease, results: &[RuleResult]) -> Result<(), StoreError> {
        let config = self.config();
        let doublings = u32::try_from(lease.token - 1).unwrap_or(0).min(20);
        let wait = config.retry_first.duration().saturating_mul(1 << doublings);
        let now = self.dispatcher.ports.clock.now();
        let until = now.after(wait.min(config.retry_longest.duration()));
        metrics::counter!("carillon_dispatcher_events_put_off_total").increment(1);
        self.dispatcher.store.put_off_event(lease, results, until).await?;
        Ok(())
    }

    async fn settle(&self, ends: &[EventEnd]) -> Result<(), StoreError> {
        if ends.is_empty() {
            return Ok(());
        }
        let now = self.dispatcher.ports.clock.now();
        let held = self.dispatcher.store.settle_events(now, ends).await?;
        let ended = ends
            .iter()
            .zip(held)
            .filter_map(|(end, held)| held.then_some(end));
        for result in ended.flat_map(|end| &end.results) {
            metrics::counter!("carillon_dispatcher_rule_results_total", "outcome" => result.outcome.as_str())
                .increment(1);
        }
        Ok(())
    }
}

/// Shows an event to the rules that are for it.
async fn work_event(
    dispatcher: &Dispatcher,
    event: DomainEventRow,
    rules: &Rules,
    lease: EventLease,
) -> Worked {
    let mut results = event.results;
    let known: HashSet<RuleName> = results.iter().map(|result| result.rule.clone()).collect();
    let left: Vec<Arc<Rule>> = rules
        .iter()
        .filter(|rule| rule.is_for(&event.kind, &event.source) && !known.contains(&rule.name))
        .cloned()
        .collect();
    let payload = event.body.as_deref().map(payload);
    let Some(payload) = payload.filter(|_| !left.is_empty()) else {
        return Worked::Done(EventEnd { lease, results });
    };
    let payload = Arc::new(payload);
    let began = dispatcher.ports.clock.now();
    for (place, rules) in left.chunks(RULES_TOGETHER).enumerate() {
        let began = began.after(Duration::from_micros((place * RULES_TOGETHER) as u64));
        match work_rules(dispatcher, &lease, &payload, rules, began).await {
            Ok(more) => results.extend(more),
            Err((more, error)) => {
                tracing::warn!(error = &error as &dyn Error, event = %lease.event, "an event is put off");
                results.extend(more);
                let waited = dispatcher.ports.clock.now().since(event.received_at);
                if waited < dispatcher.config.events.retry_for.duration() {
                    return Worked::PutOff(lease, results);
                }
                give_up(&left, &error, &mut results);
                break;
            }
        }
    }
    Worked::Done(EventEnd { lease, results })
}

/// What was put off for too long failed.
fn give_up(rules: &[Arc<Rule>], error: &Away, results: &mut Vec<RuleResult>) {
    let done: HashSet<RuleName> = results.iter().map(|result| result.rule.clone()).collect();
    let left = rules.iter().filter(|rule| !done.contains(&rule.name));
    results.extend(left.map(|rule| RuleResult {
        rule: rule.name.clone(),
        version: rule.version,
        outcome: RuleOutcome::Failed,
        notification: None,
        reason: Some(shortened(format!("given up: {error}"))),
    }));
}

/// The event as rules look at it.
fn payload(body: &str) -> Value {
    match serde_json::from_str(body) {
        Ok(Value::Object(members)) => CloudEvent::stored(members).into_payload(),
        _ => Value::Null,
    }
}

/// Shows an event to some rules. What something that is away keeps from being done is left out of the results.
async fn work_rules(
    dispatcher: &Dispatcher,
    lease: &EventLease,
    payload: &Arc<Value>,
    rules: &[Arc<Rule>],
    began: Timestamp,
) -> Result<Vec<RuleResult>, (Vec<RuleResult>, Away)> {
    let judged = {
        let (payload, rules) = (Arc::clone(payload), rules.to_vec());
        dispatcher.judging.run(move || {
            let judged = rules.iter().map(|rule| rule.judge(&payload));
            judged.collect::<Vec<_>>()
        })
    };
    let judged = judged.await.map_err(|_| (Vec::new(), Away::Busy))?;
    let before = accepted_before(dispatcher, lease, rules)
        .await
        .map_err(|error| (Vec::new(), error))?;
    let mut results: Vec<Option<RuleResult>> = rules.iter().map(|_| None).collect();
    let mut away = None;
    let mut together = JoinSet::new();
    for (index, (rule, judged)) in rules.iter().zip(judged).enumerate() {
        let id = notification_of(lease.event, &rule.name);
        let result = |outcome, notification, reason: Option<String>| RuleResult {
            rule: rule.name.clone(),
            version: rule.version,
            outcome,
            notification,
            reason: reason.map(shortened),
        };
        if before.contains(&id) {
            results[index] = Some(result(RuleOutcome::Notified, Some(id), None));
            continue;
        }
        let made = match judged {
            Judged::Unmatched(why) => {
                results[index] = Some(result(RuleOutcome::Unmatched, None, Some(why)));
                continue;
            }
            Judged::Failed(why) => {
                results[index] = Some(result(RuleOutcome::Failed, None, Some(why)));
                continue;
            }
            Judged::Notify(made) => made,
        };
        // In the rules' order, which is the order in which they are planned.
        let at = began.after(Duration::from_micros(index as u64));
        match request(dispatcher, &lease.tenant, &made, at, "").await {
            Err(error) => away = Some(error.into()),
            Ok(Err(errors)) => {
                results[index] = Some(result(RuleOutcome::Failed, None, Some(told(&errors))));
            }
            Ok(Ok((notification, _))) => {
                let submission = submission(lease, &rule.name, NewNotification { id, ..notification });
                let intake = Arc::clone(&dispatcher.intake);
                let notified = result(RuleOutcome::Notified, Some(id), None);
                together.spawn(async move { (index, notified, intake.submit(submission).await) });
            }
        }
    }
    for (index, notified, taken) in together.join_all().await {
        match taken {
            Ok(_) => results[index] = Some(notified),
            Err(error) => away = Some(error.into()),
        }
    }
    let results = results.into_iter().flatten().collect();
    match away {
        None => Ok(results),
        Some(away) => Err((results, away)),
    }
}

/// What an earlier worker had accepted for the event before it ended.
async fn accepted_before(
    dispatcher: &Dispatcher,
    lease: &EventLease,
    rules: &[Arc<Rule>],
) -> Result<HashSet<NotificationId>, Away> {
    if lease.token <= 1 {
        return Ok(HashSet::new());
    }
    let mut ids: Vec<_> = rules
        .iter()
        .map(|rule| (lease.tenant.clone(), notification_of(lease.event, &rule.name)))
        .collect();
    let mut accepted = HashSet::new();
    // As many at a time as planning reads.
    let most = dispatcher.config.planner.batch_bytes.as_usize();
    loop {
        let loaded = dispatcher
            .store
            .load(&ids, most)
            .await
            .map_err(Unavailable::from)?;
        accepted.extend(loaded.rows.into_iter().map(|row| row.id));
        if !loaded.more {
            return Ok(accepted);
        }
        ids.retain(|(_, id)| !accepted.contains(id));
    }
}

/// Accepted once: its id and its key are those of the event and the rule.
fn submission(lease: &EventLease, rule: &RuleName, notification: NewNotification) -> Submission {
    Submission {
        tenant: lease.tenant.clone(),
        body: Arc::from(format!("{{\"id\":\"{}\"}}", notification.id)),
        notifications: vec![notification],
        key: Some((ROUTE, Arc::from(format!("{}/{rule}", lease.event)), Bytes::new())),
    }
}

/// The id of the notification that a rule makes of an event: it sorts by the event's time, and is always the same.
fn notification_of(event: DomainEventId, rule: &RuleName) -> NotificationId {
    let mut bytes = *event.as_uuid().as_bytes();
    let digest = sha256(format!("{event}/{rule}").as_bytes());
    for (byte, digest) in bytes.iter_mut().zip(digest).skip(8) {
        *byte = digest;
    }
    // The variant of RFC 9562.
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    NotificationId::from_bytes(bytes)
}

/// What is wrong with what a rule made, in one line.
fn told(errors: &[carillon_runtime::http::FieldError]) -> String {
    let told: Vec<String> = errors
        .iter()
        .take(5)
        .map(|error| format!("{}: {}", error.pointer, error.detail))
        .collect();
    format!("the rule makes no valid notification: {}", told.join("; "))
}

fn shortened(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
    }
    reason
}
