//! What the store takes and gives for domain events, the same for every backend.

use std::sync::Arc;

use carillon_domain::{DomainEventId, NotificationId, RuleName, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An event to write.
#[derive(Debug, Clone)]
pub(crate) struct NewDomainEvent {
    pub(crate) tenant: TenantId,
    pub(crate) id: DomainEventId,
    pub(crate) source: Arc<str>,
    pub(crate) event_id: Arc<str>,
    pub(crate) kind: Arc<str>,
    /// In the JSON format.
    pub(crate) body: Arc<str>,
    pub(crate) received_at: Timestamp,
}

/// What became of an event that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventReply {
    Accepted,
    /// It was there already: the first one's id and state.
    Known(DomainEventId, DomainEventState),
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DomainEventState {
    /// Committed; the rules have not all seen it.
    Waiting,
    /// Every rule has seen it.
    Done,
}

impl DomainEventState {
    /// As the stores write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
        }
    }
}

/// An event, handed out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EventLease {
    pub(crate) tenant: TenantId,
    pub(crate) event: DomainEventId,
    /// Fences: only the last one handed out may settle.
    pub(crate) token: i64,
}

/// What a rule did with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuleOutcome {
    /// It made a notification.
    Notified,
    /// Its conditions do not hold.
    Unmatched,
    /// It should have made one and could not.
    Failed,
}

impl RuleOutcome {
    /// As the metrics name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Notified => "notified",
            Self::Unmatched => "unmatched",
            Self::Failed => "failed",
        }
    }
}

/// What one rule made of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleResult {
    pub(crate) rule: RuleName,
    pub(crate) version: u64,
    pub(crate) outcome: RuleOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notification: Option<NotificationId>,
    /// Why there is no notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// A leased event's end.
#[derive(Debug, Clone)]
pub(crate) struct EventEnd {
    pub(crate) lease: EventLease,
    /// In the rules' order.
    pub(crate) results: Vec<RuleResult>,
}

/// A row of `domain_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainEventRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: DomainEventId,
    pub(crate) source: String,
    pub(crate) event_id: String,
    pub(crate) kind: String,
    /// In the JSON format; none once a person was erased whom it told of.
    pub(crate) body: Option<Arc<str>>,
    pub(crate) state: DomainEventState,
    pub(crate) results: Vec<RuleResult>,
    pub(crate) received_at: Timestamp,
    pub(crate) done_at: Option<Timestamp>,
}

/// Which events.
#[derive(Debug, Clone, Default)]
pub(crate) struct DomainEventQuery {
    pub(crate) kind: Option<String>,
    /// Older than this one.
    pub(crate) before: Option<DomainEventId>,
    pub(crate) limit: u32,
}

/// What the janitor takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DomainEventSweep {
    /// Events that are done.
    Events,
    /// What rules could not do.
    RuleErrors,
    /// Versions of deleted rules, and the rules.
    Rules,
}

impl DomainEventSweep {
    pub(crate) const ALL: [Self; 3] = [Self::Events, Self::RuleErrors, Self::Rules];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "domain_events",
            Self::RuleErrors => "rule_errors",
            Self::Rules => "rules",
        }
    }
}
