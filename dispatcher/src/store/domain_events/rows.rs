//! Rows as the databases give them, made into records.

use std::{collections::BTreeSet, sync::Arc};

use carillon_domain::{DomainEventId, NotificationId, RuleName, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::{
    DomainEventRow, DomainEventState, EventEnd, EventLease, EventReply, NewDomainEvent, RuleOutcome,
    RuleResult,
};
use crate::store::rows::{corrupt, json, word};

/// The columns of [`DomainEventColumns`] of `domain_events e`.
pub(in crate::store) const DOMAIN_EVENT: &str =
    "e.tenant, e.id, e.source, e.event_id, e.type, e.body, e.state, e.results, e.received_at, e.done_at";

/// As [`DOMAIN_EVENT`].
pub(in crate::store) type DomainEventColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    String,
    i64,
    Option<i64>,
);

pub(in crate::store) fn domain_event(row: DomainEventColumns) -> Result<DomainEventRow, StoreError> {
    let (tenant, id, source, event_id, kind, body, state, results, received, done) = row;
    Ok(DomainEventRow {
        tenant: word(&tenant)?,
        id: word(&id)?,
        source,
        event_id,
        kind,
        body: body.map(Arc::from),
        state: event_state(&state)?,
        results: json(&results)?,
        received_at: Timestamp::from_micros(received),
        done_at: done.map(Timestamp::from_micros),
    })
}

fn event_state(text: &str) -> Result<DomainEventState, StoreError> {
    [DomainEventState::Waiting, DomainEventState::Done]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| corrupt("an event's state", text))
}

/// Tenant, source, the sender's id, id, state.
pub(in crate::store) type KnownEventColumns = (String, String, String, String, String);

/// A reply per event: the first of a source and id is accepted where it is its own id that stands there.
pub(in crate::store) fn event_replies(
    events: &[NewDomainEvent],
    found: Vec<KnownEventColumns>,
) -> Result<Vec<EventReply>, StoreError> {
    let mut known = std::collections::HashMap::with_capacity(found.len());
    for (tenant, source, event_id, id, state) in found {
        known.insert((tenant, source, event_id), (word(&id)?, event_state(&state)?));
    }
    events
        .iter()
        .map(|event| {
            let key = (
                event.tenant.to_string(),
                event.source.to_string(),
                event.event_id.to_string(),
            );
            match known.get(&key) {
                Some((id, _)) if *id == event.id => Ok(EventReply::Accepted),
                Some((id, state)) => Ok(EventReply::Known(*id, *state)),
                None => Err(corrupt("an event that was just written", &event.event_id)),
            }
        })
        .collect()
}

/// Leases as the databases give them: tenant, event, token.
pub(in crate::store) fn event_leases(
    rows: Vec<(String, String, i64)>,
) -> Result<Vec<EventLease>, StoreError> {
    rows.into_iter()
        .map(|(tenant, event, token)| {
            Ok(EventLease {
                tenant: word(&tenant)?,
                event: word(&event)?,
                token,
            })
        })
        .collect()
}

/// What events that came to their end made: a notification each, with its event.
pub(in crate::store) fn made<'e>(ends: &[&'e EventEnd]) -> Vec<(&'e EventLease, NotificationId)> {
    ends.iter()
        .flat_map(|end| {
            let made = end.results.iter().filter_map(|result| result.notification);
            made.map(|notification| (&end.lease, notification))
        })
        .collect()
}

/// What rules could not do with events that came to their end.
pub(in crate::store) fn failed<'e>(ends: &[&'e EventEnd]) -> Vec<(&'e EventLease, &'e RuleResult)> {
    ends.iter()
        .flat_map(|end| {
            let failed = end
                .results
                .iter()
                .filter(|result| result.outcome == RuleOutcome::Failed);
            failed.map(|result| (&end.lease, result))
        })
        .collect()
}

/// The rules whose errors are more than they were, each once, in one order.
pub(in crate::store) fn with_more_errors<'e>(
    failed: &[(&'e EventLease, &'e RuleResult)],
) -> BTreeSet<(&'e TenantId, &'e RuleName)> {
    failed
        .iter()
        .map(|(lease, result)| (&lease.tenant, &result.rule))
        .collect()
}

/// The id below which to read, as text; without one, what is above every id: they end in hex digits.
pub(in crate::store) fn below(before: Option<DomainEventId>) -> String {
    before.map_or_else(|| format!("{}_g", DomainEventId::PREFIX), |id| id.to_string())
}
