//! What the store takes and gives for endpoints, the same for every backend.

use std::sync::Arc;

use carillon_domain::{
    Address, ChannelKind, DeliveryId, EndpointId, EventId, SecretId, TenantId, Timestamp, UserId,
    ports::{Lane, SigningKind},
};

use crate::{
    events::EventFilter,
    store::outside::{AttemptDetail, Brings, DeliveryState, LaneKey},
};

/// Whether an endpoint is told anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndpointState {
    /// It is.
    Enabled,
    /// It is not, until somebody enables it again.
    Disabled,
    /// It goes as soon as nothing waits for it. Never shown.
    #[serde(skip)]
    Deleted,
}

impl EndpointState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A row of `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: EndpointId,
    /// Nobody: it is the tenant's own.
    pub(crate) user: Option<UserId>,
    pub(crate) url: Address,
    pub(crate) lane: Lane,
    pub(crate) events: Vec<EventFilter>,
    pub(crate) fifo: bool,
    pub(crate) description: Option<String>,
    pub(crate) state: EndpointState,
    /// Why it is disabled.
    pub(crate) reason: Option<String>,
    pub(crate) failing_since: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl EndpointRow {
    /// Where its work is.
    pub(crate) fn lane_key(&self) -> LaneKey {
        LaneKey {
            tenant: self.tenant.clone(),
            channel: ChannelKind::webhook(),
            lane: Arc::clone(&self.lane),
            strand: strand(self.id, self.fifo),
        }
    }
}

/// The strand of an endpoint's work: its own where order counts.
pub(crate) fn strand(id: EndpointId, fifo: bool) -> Arc<str> {
    Arc::from(if fifo { id.to_string() } else { String::new() })
}

/// A user's endpoint, as planning needs it.
#[derive(Debug, Clone)]
pub(crate) struct UserEndpoint {
    pub(crate) user: UserId,
    pub(crate) id: EndpointId,
    pub(crate) lane: Lane,
    pub(crate) fifo: bool,
}

/// What to change about an endpoint; what is none stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointChange {
    pub(crate) url: Option<(Address, Lane)>,
    pub(crate) events: Option<Vec<EventFilter>>,
    pub(crate) fifo: Option<bool>,
    pub(crate) description: Option<Option<String>>,
    /// Enabled or disabled. Whoever is enabled begins anew.
    pub(crate) state: Option<EndpointState>,
}

impl EndpointChange {
    /// The row as it is afterwards.
    pub(crate) fn apply(&self, now: Timestamp, row: &EndpointRow) -> EndpointRow {
        let mut row = row.clone();
        row.updated_at = now;
        if let Some((url, lane)) = &self.url {
            (row.url, row.lane) = (url.clone(), Arc::clone(lane));
        }
        if let Some(events) = &self.events {
            row.events.clone_from(events);
        }
        if let Some(fifo) = self.fifo {
            row.fifo = fifo;
        }
        if let Some(description) = &self.description {
            row.description.clone_from(description);
        }
        match self.state {
            Some(EndpointState::Enabled) => {
                (row.state, row.reason, row.failing_since) = (EndpointState::Enabled, None, None);
            }
            Some(state) if row.state == EndpointState::Enabled => {
                (row.state, row.reason) = (state, Some("disabled by request".to_owned()));
            }
            _ => {}
        }
        row
    }
}

/// An endpoint after a change.
#[derive(Debug, Clone)]
pub(crate) struct EndpointMoved {
    pub(crate) row: EndpointRow,
    /// Where more of its work still is.
    pub(crate) from: Option<LaneKey>,
}

/// A row of `endpoint_secrets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretRow {
    pub(crate) tenant: TenantId,
    /// None: it is the tenant's own.
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) id: SecretId,
    pub(crate) kind: SigningKind,
    pub(crate) public: Option<String>,
    pub(crate) sealed: String,
    pub(crate) created_at: Timestamp,
    /// When it stops signing.
    pub(crate) expires_at: Option<Timestamp>,
}

impl SecretRow {
    /// Whose it is, as stored.
    pub(crate) fn endpoint_text(&self) -> String {
        self.endpoint.map_or_else(String::new, |id| id.to_string())
    }
}

/// What a list of endpoints asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointQuery {
    /// Only this user's.
    pub(crate) user: Option<UserId>,
    pub(crate) before: Option<EndpointId>,
    pub(crate) limit: u32,
}

/// What became of a new secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretAdded {
    Done,
    NotFound,
    /// Too many sign already.
    Full,
}

/// What became of a secret that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretRemoved {
    Done,
    NotFound,
    /// Nothing would sign any more.
    Last,
}

/// A row of `events`.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: EventId,
    pub(crate) kind: &'static str,
    /// JSON, exactly as it is sent and signed.
    pub(crate) body: String,
    pub(crate) at: Timestamp,
}

/// What a list of attempts asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptQuery {
    pub(crate) before: Option<(DeliveryId, u32)>,
    pub(crate) limit: u32,
}

/// An attempt to tell an endpoint something.
#[derive(Debug, Clone)]
pub(crate) struct EndpointAttempt {
    pub(crate) delivery: DeliveryId,
    pub(crate) brings: Brings,
    /// The event's kind; none of a notification, and of an event whose retention ended.
    pub(crate) kind: Option<String>,
    /// Where the delivery stands.
    pub(crate) state: DeliveryState,
    pub(crate) attempt: AttemptDetail,
}
