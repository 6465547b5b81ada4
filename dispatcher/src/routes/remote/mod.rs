//! Channels that workers bring: `/v1/channels`.

mod answers;
mod channels;
mod news;
mod pull;
mod stream;
mod work;

use std::sync::Arc;

use axum::http::StatusCode;
use carillon_domain::{Caller as Kind, ChannelKind, Principal, TenantId};
use carillon_runtime::http::{Problem, Served, require_channel};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Dispatcher,
    intake::busy,
    remote::{Holder, NewsError, RemoteError},
};

/// The most items of a request, and of a pull.
const MOST: usize = 100;

pub(super) fn router() -> OpenApiRouter<Arc<Dispatcher>> {
    OpenApiRouter::new()
        .routes(routes!(channels::list))
        .routes(routes!(channels::announce, channels::withdraw))
        .routes(routes!(pull::pull))
        .routes(routes!(stream::stream))
        .routes(routes!(answers::outcomes))
        .routes(routes!(answers::extend))
        .routes(routes!(news::receipts))
        .routes(routes!(news::events))
}

/// Lets the channel's workers pass. Answers whose deliveries they serve.
fn worker(dispatcher: &Dispatcher, principal: &Principal, kind: &ChannelKind) -> Result<Served, Problem> {
    let served = require_channel(principal, kind)?;
    let own = |channel: &Arc<dyn carillon_domain::ports::Channel>| channel.kind() == *kind;
    if kind.is_in_app() || dispatcher.ports.channels.iter().any(own) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "Carillon brings this channel itself.",
        ));
    }
    Ok(served)
}

/// Who holds what is pulled.
fn holder(principal: &Principal, stream: Option<u64>) -> Holder {
    let key = match &principal.caller {
        Kind::Key(key) => Some(key.id),
        Kind::Worker(worker) => Some(worker.id),
        Kind::Operator | Kind::User(_) => None,
    };
    Holder { key, stream }
}

/// The tenant that an item is about: a tenant's worker need not name it, everybody's must. The error is for the item.
fn item_tenant(served: &Served, named: Option<TenantId>) -> Result<TenantId, &'static str> {
    match (served, named) {
        (Served::Tenant(own), None) => Ok(own.clone()),
        (Served::Tenant(own), Some(named)) if *own == named => Ok(named),
        (Served::Tenant(_), Some(_)) => Err("the key is not this tenant's"),
        (Served::All, Some(named)) => Ok(named),
        (Served::All, None) => Err("required with a key for all tenants"),
    }
}

/// A lease as workers see it: opaque to them. The attempt's number fences.
fn lease_text(number: u32, tenant: &TenantId) -> String {
    format!("{number}.{tenant}")
}

/// The tenant of a lease and its attempt's number; none for what we did not give to this worker.
fn parse_lease(served: &Served, text: &str) -> Option<(TenantId, u32)> {
    let (number, tenant) = text.split_once('.')?;
    let tenant: TenantId = tenant.parse().ok()?;
    let allowed = match served {
        Served::All => true,
        Served::Tenant(own) => *own == tenant,
    };
    let number = number.parse().ok()?;
    allowed.then_some((tenant, number))
}

impl From<RemoteError> for Problem {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::NotAnnounced => Self::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "The channel is not announced: PUT /v1/channels/{kind} first.",
            ),
            RemoteError::Overloaded => busy("Too many workers wait on this node. Try again."),
            RemoteError::Revoked => Self::unauthorized(),
            RemoteError::Away(cause) => cause.into(),
        }
    }
}

impl From<NewsError> for Problem {
    fn from(error: NewsError) -> Self {
        match error {
            NewsError::Remote(error) => error.into(),
            NewsError::Mailbox(error) => error.into(),
        }
    }
}
