//! `GET /v1/stream`: a user's mailbox and topics as server-sent events.

pub(crate) mod activity;
mod asked;
mod credential;
pub(crate) mod event;
mod open;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use carillon_domain::{Caller, Principal, TenantId, Timestamp, UserCaller};
use carillon_runtime::{
    edge::{TakeOver, stream_head},
    http::{Problem, require_user, set_stream_cookie},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};

use self::{asked::Asked, credential::Admission, open::Plan};
use crate::{connection::StreamBody, hub::Hub};

/// What a stream remembers of its opening.
pub(crate) struct Stream {
    pub(crate) principal: Principal,
}

impl Stream {
    /// When the stream ends unless the client comes back with another credential.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        match &self.principal.caller {
            Caller::User(user) => user.expires_at,
            Caller::Key(_) | Caller::Worker(_) | Caller::Operator => None,
        }
    }
}

/// Streams the caller's mailbox and topics as server-sent events. See `docs/protocol.md` for the events.
#[utoipa::path(
    get,
    path = "/v1/stream",
    tag = "stream",
    params(
        ("topic" = Option<Vec<String>>, Query, description = "Topics, each `NAME` or `NAME@EPOCH-SEQ`, at most 64"),
        ("inbox" = Option<bool>, Query, description = "`false` leaves the mailbox out"),
        ("device" = Option<String>, Query, description = "Names the device when the token does not"),
        ("last_event_id" = Option<String>, Query,
            description = "Where to go on: a position or `earliest`; also `lastEventID`, `lastEventId`, `evs_last_event_id`"),
        ("Last-Event-ID" = Option<String>, Header, description = "As `last_event_id`, which it beats"),
    ),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        (status = 204, description = "Logged out: do not come back"),
        (status = 400, description = "Malformed, an unknown or repeated parameter, or a bearer credential in the URL"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "A topic that the token does not grant, or a foreign page's cookie"),
        (status = 429, description = "As many connections as a user may have"),
    ),
    security(("bearer" = []), ("ticket" = []), ("stream_cookie" = []))
)]
pub(crate) async fn stream(
    State(hub): State<Arc<Hub>>,
    take_over: Option<TakeOver>,
    request: Parts,
) -> Result<Response, Problem> {
    let config = &hub.shared.config;
    let tenant = request.extensions.get::<TenantId>().cloned().unwrap_or_default();
    let asked = Asked::read(&request.uri, &request.headers, config.stream_topics_limit)?;
    let authenticate = &*hub.ports.authenticate;
    let origins = &config.allowed_origins;
    let admission =
        credential::admit(authenticate, &tenant, asked.ticket.as_deref(), &request, origins).await?;
    let Admission::Admitted(principal, cookie) = admission else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let user = Arc::clone(require_user(&principal)?);
    check_grants(&asked, &user)?;
    let limit = config.connections_per_user;
    if limit > 0 && hub.table.count_of_user(&tenant, user.id) >= limit {
        let problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "The user has too many connections.",
        );
        return Err(Problem {
            retry_after: Some(5),
            ..problem
        });
    }
    let mut headers = stream_headers();
    if let Some(cookie) = cookie.and_then(|value| set_stream_cookie(&request.extensions, &tenant, &value)) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    let retry = event::retry(hub.shared.retry_ms());
    if hub.shared.is_draining() {
        // Native EventSource gives up on anything but a 200.
        let pause = rand::random_range(5_000..=30_000);
        let body = [event::retry(pause).into(), event::bye("shutdown", pause)].concat();
        return Ok((headers, body).into_response());
    }
    let plan = Plan {
        tenant,
        device: user.device.clone().or(asked.device),
        user,
        inbox: asked.inbox,
        topics: asked.topics,
    };
    let stream = Stream { principal };
    let Some(take_over) = take_over else {
        let connection = hub.adopt_body(stream);
        connection.send(&Bytes::from(retry));
        hub.shared
            .runtime
            .spawn(Arc::clone(&hub).begin(Arc::clone(&connection), plan));
        return Ok((headers, Body::new(StreamBody::new(hub, connection))).into_response());
    };
    // Without chunks: an event is written to all its readers as the same bytes, and the end of the connection is the
    // end of the stream.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let head = [stream_head(StatusCode::OK, &headers), retry.into()].concat();
    Ok(take_over
        .take(head.into(), move |taken| hub.adopt_stream(taken, stream, plan))
        .await)
}

fn check_grants(asked: &Asked, user: &UserCaller) -> Result<(), Problem> {
    match asked
        .topics
        .iter()
        .find(|(topic, _)| !user.topics.may_subscribe(topic))
    {
        Some((topic, _)) => Err(Problem::forbidden(format!(
            "The token does not grant the topic {topic}."
        ))),
        None => Ok(()),
    }
}

fn stream_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers
}
