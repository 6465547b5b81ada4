//! Registered webhook endpoints: where a tenant's programs, or a user's own, are told what happens.

mod closer;
mod error;
mod request;
mod secrets;

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    ChannelKind, Clock, DeliveryId, EndpointId, EventId, SecretId, TenantId, Timestamp,
    ports::{
        Channel, CheckedAddress, Directory, Operation, Seal, SigningKey, SigningKeys, SigningKind,
        Unavailable,
    },
};
use carillon_runtime::http::FieldError;
use serde_json::json;

pub(crate) use closer::Closer;
pub(crate) use error::EndpointError;
pub(crate) use request::{EndpointPatch, NewEndpoint, RotateRequest};

use crate::{
    config::WebhooksConfig,
    events::{EventKind, body},
    store::{
        Store,
        endpoints::{
            AttemptQuery, EndpointAttempt, EndpointChange, EndpointQuery, EndpointRow, EndpointState,
            EventRow, SecretAdded, SecretRemoved, SecretRow, strand,
        },
        outside::{Brings, DeliveryState, OutsideRow, Resent, WorkRow},
    },
    wake::Wake,
};

/// Endpoints that a tenant may have of its own: all are looked at whenever something happens.
const TENANT_ENDPOINTS: u64 = 100;
/// Endpoints that one user may have.
const USER_ENDPOINTS: u64 = 16;
/// Secrets of an endpoint that may sign at a time.
const SECRETS: u64 = 5;
/// Deliveries that one transaction moves with their endpoint.
const MOVED: usize = 2_000;

/// A secret that was just made: shown this once.
pub(crate) struct Fresh {
    pub(crate) row: SecretRow,
    pub(crate) secret: SigningKey,
}

/// Registers endpoints and keeps their secrets.
pub(crate) struct Endpoints {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The channel that knows what a URL may be; none where webhooks are off.
    pub(crate) channel: Option<Arc<dyn Channel>>,
    pub(crate) seal: Option<Arc<dyn Seal>>,
    pub(crate) keys: Option<Arc<dyn SigningKeys>>,
    pub(crate) config: WebhooksConfig,
    /// Wakes who tries deliveries.
    pub(crate) deliverer: Arc<Wake>,
    /// Wakes who plans what is accepted.
    pub(crate) relay: Arc<Wake>,
    /// Wakes who ends what waits for endpoints that are closed.
    pub(crate) closer: Arc<Wake>,
}

impl Endpoints {
    /// The channel `webhook` of a node.
    pub(crate) fn channel_of(channels: &[Arc<dyn Channel>]) -> Option<Arc<dyn Channel>> {
        channels
            .iter()
            .find(|channel| channel.kind() == ChannelKind::webhook())
            .cloned()
    }

    /// Registers an endpoint and makes its first secret.
    pub(crate) async fn create(
        &self,
        tenant: &TenantId,
        request: NewEndpoint,
    ) -> Result<(EndpointRow, Fresh), EndpointError> {
        let now = self.clock.now();
        let mut errors = Vec::new();
        let place = self.place(&request.url, &mut errors);
        let events = request::events(request.user.is_some(), request.events, &mut errors);
        request::description(request.description.as_deref(), &mut errors);
        let Some(CheckedAddress { address, lane }) = place.filter(|_| errors.is_empty()) else {
            return Err(EndpointError::Invalid(errors));
        };
        let user = match &request.user {
            None => None,
            Some(user) => {
                let found = self.directory.resolve(tenant, std::slice::from_ref(user)).await?;
                found.into_iter().next()
            }
        };
        let row = EndpointRow {
            tenant: tenant.clone(),
            id: EndpointId::at(now),
            user,
            url: address,
            lane,
            events,
            fifo: request.fifo.unwrap_or(false),
            description: request.description,
            state: EndpointState::Enabled,
            reason: None,
            failing_since: None,
            created_at: now,
            updated_at: now,
        };
        let fresh = self.fresh(now, tenant, Some(row.id), request.secret_kind.unwrap_or_default())?;
        let most = if user.is_some() {
            USER_ENDPOINTS
        } else {
            TENANT_ENDPOINTS
        };
        if !self.store.create_endpoint(&row, &fresh.row, most).await? {
            return Err(EndpointError::Full);
        }
        Ok((row, fresh))
    }

    /// Endpoints, newest first.
    pub(crate) async fn list(
        &self,
        tenant: &TenantId,
        query: &EndpointQuery,
    ) -> Result<Vec<EndpointRow>, EndpointError> {
        Ok(self.store.endpoints(tenant, query).await?)
    }

    /// One endpoint with the secrets that sign for it.
    pub(crate) async fn show(
        &self,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<(EndpointRow, Vec<SecretRow>), EndpointError> {
        let found = self.store.endpoint(self.clock.now(), tenant, id).await?;
        found.ok_or(EndpointError::NotFound)
    }

    /// Changes an endpoint. What waits goes where it is now.
    pub(crate) async fn change(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        patch: EndpointPatch,
    ) -> Result<EndpointRow, EndpointError> {
        let (before, _) = self.show(tenant, id).await?;
        let state = patch.state();
        let mut errors = Vec::new();
        let url = patch
            .url
            .as_deref()
            .and_then(|url| self.place(url, &mut errors))
            .map(|checked| (checked.address, checked.lane));
        let events = patch
            .events
            .map(|events| request::events(before.user.is_some(), Some(events), &mut errors));
        let description = patch.description;
        request::description(description.as_ref().and_then(Option::as_deref), &mut errors);
        if !errors.is_empty() {
            return Err(EndpointError::Invalid(errors));
        }
        let change = EndpointChange {
            url,
            events,
            fifo: patch.fifo,
            description,
            state,
        };
        self.update(tenant, id, &change).await
    }

    /// Enables an endpoint that was disabled.
    pub(crate) async fn enable(
        &self,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<EndpointRow, EndpointError> {
        let change = EndpointChange {
            state: Some(EndpointState::Enabled),
            ..EndpointChange::default()
        };
        self.update(tenant, id, &change).await
    }

    async fn update(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        change: &EndpointChange,
    ) -> Result<EndpointRow, EndpointError> {
        let now = self.clock.now();
        let moved = self.store.update_endpoint(now, tenant, id, change, MOVED).await?;
        let moved = moved.ok_or(EndpointError::NotFound)?;
        if moved.from.is_some() {
            while self.store.move_work(now, &moved, MOVED).await? {}
        }
        self.deliverer.wake();
        self.closer.wake();
        Ok(moved.row)
    }

    /// Deletes an endpoint; what waits for it becomes a dead letter.
    pub(crate) async fn delete(&self, tenant: &TenantId, id: EndpointId) -> Result<(), EndpointError> {
        let now = self.clock.now();
        if !self.store.delete_endpoint(now, tenant, id).await? {
            return Err(EndpointError::NotFound);
        }
        self.deliverer.wake();
        self.closer.wake();
        Ok(())
    }

    /// Makes another secret; the earlier ones sign beside it for a while, so that receivers can change over.
    pub(crate) async fn rotate(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        request: RotateRequest,
    ) -> Result<Fresh, EndpointError> {
        let grace = match request.grace {
            None => self.config.secret_grace.duration(),
            Some(seconds @ 0..=request::LONGEST_GRACE) => Duration::from_secs(seconds.unsigned_abs()),
            Some(_) => {
                return Err(EndpointError::Invalid(vec![FieldError::new(
                    "/grace",
                    "must be between 0 and 2592000 seconds",
                )]));
            }
        };
        let kind = match request.secret_kind {
            Some(kind) => kind,
            None => {
                let (_, secrets) = self.show(tenant, id).await?;
                secrets.first().map_or(SigningKind::Hmac, |newest| newest.kind)
            }
        };
        let now = self.clock.now();
        let fresh = self.fresh(now, tenant, Some(id), kind)?;
        match self
            .store
            .add_secret(now, &fresh.row, now.after(grace), SECRETS)
            .await?
        {
            SecretAdded::Done => Ok(fresh),
            SecretAdded::NotFound => Err(EndpointError::NotFound),
            SecretAdded::Full => Err(EndpointError::TooManySecrets),
        }
    }

    /// Removes a secret at once.
    pub(crate) async fn remove_secret(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        secret: SecretId,
    ) -> Result<(), EndpointError> {
        match self.store.remove_secret(tenant, id, secret).await? {
            SecretRemoved::Done => Ok(()),
            SecretRemoved::NotFound => Err(EndpointError::NotFound),
            SecretRemoved::Last => Err(EndpointError::LastSecret),
        }
    }

    /// Sends an endpoint a test of its own.
    pub(crate) async fn test(
        &self,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<(EventId, DeliveryId), EndpointError> {
        let (row, _) = self.show(tenant, id).await?;
        if row.state != EndpointState::Enabled {
            return Err(EndpointError::Disabled);
        }
        let now = self.clock.now();
        let kind = EventKind::WebhookTest;
        let event = EventRow {
            tenant: tenant.clone(),
            id: EventId::at(now),
            kind: kind.as_str(),
            body: body(kind, now, &json!({ "endpoint_id": row.id })),
            at: now,
        };
        let outside = told(now, &row, event.id, now.after(self.config.event_ttl.duration()));
        let work = WorkRow::of(&outside, strand(row.id, row.fifo), Operation::Deliver);
        self.store.send_event(&event, &outside, &work).await?;
        self.deliverer.wake();
        Ok((event.id, outside.id))
    }

    /// What an endpoint was told, newest first.
    pub(crate) async fn attempts(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        query: &AttemptQuery,
    ) -> Result<Vec<EndpointAttempt>, EndpointError> {
        self.show(tenant, id).await?;
        Ok(self.store.endpoint_attempts(tenant, id, query).await?)
    }

    /// Sends what ended once more.
    pub(crate) async fn resend(&self, tenant: &TenantId, id: DeliveryId) -> Result<(), EndpointError> {
        match self.store.resend(self.clock.now(), tenant, id).await? {
            Resent::Done => {
                self.deliverer.wake();
                Ok(())
            }
            Resent::NotFound => Err(EndpointError::NotFound),
            Resent::Conflict(bar) => Err(EndpointError::NotResendable(bar)),
        }
    }

    fn place(&self, url: &str, errors: &mut Vec<FieldError>) -> Option<CheckedAddress> {
        let Some(channel) = &self.channel else {
            errors.push(FieldError::new("/url", "webhooks are not enabled on this server"));
            return None;
        };
        channel
            .check(url)
            .map_err(|error| errors.push(FieldError::new("/url", error.0)))
            .ok()
    }
}

/// A delivery of an event to an endpoint.
pub(crate) fn told(now: Timestamp, row: &EndpointRow, event: EventId, until: Timestamp) -> OutsideRow {
    OutsideRow {
        tenant: row.tenant.clone(),
        id: DeliveryId::at(now),
        brings: Brings::Event(event),
        user: None,
        step: 0,
        name: None,
        channel: ChannelKind::webhook(),
        address: row.id.to_string().parse().unwrap_or_else(|_| row.url.clone()),
        device: None,
        lane: Arc::clone(&row.lane),
        locale: None,
        state: DeliveryState::Pending,
        reason: None,
        provider_id: None,
        collapse: None,
        created_at: now,
        expires_at: until,
    }
}

impl From<Unavailable> for EndpointError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}
