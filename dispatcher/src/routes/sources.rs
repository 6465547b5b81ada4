use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use carillon_domain::{
    Category, ChannelKind, DeliveryId, NotificationId, NotificationState, Priority, Scope, SourceName,
    Target, Timestamp, ports::Unavailable,
};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Listing, Page, Problem, require_scope};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::sending::REPLAYED;
use crate::{
    Dispatcher,
    sources::{
        BouncedIn, Registration, Secret, Settings, SourceKind, TakenIn, read_settings, register, take,
        take_bounce,
    },
    store::SourceRow,
};

/// The name of the list, for its cursors.
const LIST: &str = "sources";

/// A source to make or replace. Never printed: it may hold a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceRequest {
    /// What sends the events.
    kind: SourceKind,
    /// Whom its notifications are for, as in a notification; absent for `dsn`.
    #[serde(default = "nobody")]
    #[schema(value_type = Vec<Target>, min_items = 1, max_items = 1_000)]
    targets: Value,
    /// The category of all its notifications. Absent: what the mapping says, else the source's name.
    #[schema(value_type = Option<Category>)]
    category: Option<String>,
    /// The channels of all its notifications, as in a notification.
    #[schema(value_type = Option<Vec<ChannelKind>>)]
    channels: Option<Value>,
    /// How much all its notifications hurry. Absent: what the mapping says.
    priority: Option<Priority>,
    /// What its payloads become; at most 32 KiB. Needed for the kind `json`, in the place of the built-in one for the
    /// others. `docs/integrations.md` says how it is written.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    mapping: Option<Box<RawValue>>,
    /// 16-256 visible ASCII characters: the key of the signature for `github`, else the token that the tool sends.
    /// Absent: as it is; null: none, and only API keys get in. No answer shows it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 16, max_length = 256)]
    secret: Option<Option<String>>,
}

/// Absent targets: told of as missing ones, except where the kind makes no notifications.
fn nobody() -> Value {
    Value::Array(Vec::new())
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A source.
#[derive(Serialize, ToSchema)]
pub(super) struct SourceAnswer {
    name: SourceName,
    kind: SourceKind,
    #[schema(value_type = Vec<Target>)]
    targets: Value,
    #[schema(required)]
    category: Option<String>,
    #[schema(required, value_type = Option<Vec<ChannelKind>>)]
    channels: Option<Value>,
    #[schema(required)]
    priority: Option<Priority>,
    #[schema(required, value_type = Option<Object>)]
    mapping: Option<Box<RawValue>>,
    /// Whether it has a secret.
    has_secret: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What became of a payload.
#[derive(Serialize, ToSchema)]
pub(super) struct TakenAnswer {
    /// The notifications, in the payload's order.
    data: Vec<TakenNotification>,
    /// What became nothing.
    ignored: Vec<IgnoredAnswer>,
}

/// A notification that was accepted.
#[derive(Serialize, ToSchema)]
struct TakenNotification {
    id: NotificationId,
    state: NotificationState,
}

/// A part of a payload that became nothing.
#[derive(Serialize, ToSchema)]
struct IgnoredAnswer {
    /// A JSON pointer into the payload.
    pointer: String,
    /// Why.
    reason: String,
}

/// Makes or replaces a source: a tool whose events become notifications. Needs the scope `sources:write`.
#[utoipa::path(
    put,
    path = "/v1/sources/{name}",
    tag = "Sources",
    params(("name" = SourceName, Path, description = "The source")),
    request_body = SourceRequest,
    responses(
        (status = 200, description = "Replaced", body = SourceAnswer),
        (status = 201, description = "Made", body = SourceAnswer),
        (status = 409, description = "The tenant has 100 sources"),
        (status = 422, description = "The request does not fit; pointers lead into the mapping too"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SourceName>,
    ApiJson(request): ApiJson<SourceRequest>,
) -> Result<(StatusCode, Json<SourceAnswer>), Problem> {
    require_scope(&principal, Scope::SourcesWrite)?;
    let registration = Registration {
        kind: request.kind,
        settings: Settings {
            targets: request.targets,
            category: request.category,
            channels: request.channels,
            priority: request.priority,
            mapping: request.mapping,
        },
        secret: match request.secret {
            None => Secret::Kept,
            Some(None) => Secret::None,
            Some(Some(secret)) => Secret::New(secret),
        },
    };
    let (made, row) = register(&dispatcher, &principal.tenant, &name, registration).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer(row)?)))
}

/// Shows a source. Needs the scope `sources:write`.
#[utoipa::path(
    get,
    path = "/v1/sources/{name}",
    tag = "Sources",
    params(("name" = SourceName, Path, description = "The source")),
    responses(
        (status = 200, description = "The source", body = SourceAnswer),
        (status = 404, description = "No such source"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SourceName>,
) -> Result<Json<SourceAnswer>, Problem> {
    require_scope(&principal, Scope::SourcesWrite)?;
    let row = dispatcher
        .store
        .source(&principal.tenant, &name)
        .await
        .map_err(Unavailable::from)?;
    answer(row.ok_or_else(Problem::not_found)?).map(Json)
}

/// Lists sources by name. Needs the scope `sources:write`.
#[utoipa::path(
    get,
    path = "/v1/sources",
    tag = "Sources",
    params(Page),
    responses((status = 200, description = "The sources", body = Listing<SourceAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<SourceAnswer>>, Problem> {
    require_scope(&principal, Scope::SourcesWrite)?;
    let after: Option<SourceName> = page.after(LIST)?;
    let rows = dispatcher
        .store
        .sources(&principal.tenant, after.as_ref(), page.fetch())
        .await
        .map_err(Unavailable::from)?;
    let listing = Listing::from_rows(LIST, &page, rows, |row| row.name.clone(), answer);
    let data = listing.data.into_iter().collect::<Result<_, _>>()?;
    Ok(Json(Listing {
        data,
        next: listing.next,
    }))
}

/// Removes a source: what it sends is refused. Needs the scope `sources:write`.
#[utoipa::path(
    delete,
    path = "/v1/sources/{name}",
    tag = "Sources",
    params(("name" = SourceName, Path, description = "The source")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such source"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(name): IdPath<SourceName>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::SourcesWrite)?;
    let deleted = dispatcher
        .store
        .delete_source(&principal.tenant, &name)
        .await
        .map_err(Unavailable::from)?;
    if deleted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Takes in what a tool says, at most 2 MiB of JSON. Needs the source's token (as a bearer token, as the password of basic
/// authentication, or in `X-Carillon-Token`), for GitHub its signature, or an API key with the scope `notifications:write`.
/// What the tool says again under its own keys is accepted once; kept 24 h.
#[utoipa::path(
    post,
    path = "/v1/in/{source}",
    tag = "Sources",
    params(("source" = SourceName, Path, description = "The source")),
    request_body(content = Object, description = "Whatever the tool sends"),
    responses(
        (status = 202, description = "Accepted, durably", body = TakenAnswer),
        (status = 200, description = "Understood, and nothing is sent", body = TakenAnswer),
        (status = 401, description = "Neither the source's own credential nor an API key"),
        (status = 422, description = "Nothing of the payload fits the mapping; pointers lead into the payload. Where something does, the rest is under `ignored`"),
        (status = 503, description = "Overloaded, or the store is away"),
    ),
)]
pub(super) async fn receive(
    State(dispatcher): State<Arc<Dispatcher>>,
    IdPath(source): IdPath<SourceName>,
    request: Request,
) -> Result<Response, Problem> {
    let taken = take(&dispatcher, &source, request).await?;
    let (status, replayed) = (taken.status(), taken.replayed);
    let mut response = (status, Json(TakenAnswer::from(taken))).into_response();
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// What became of a bounce.
#[derive(Serialize, ToSchema)]
pub(super) struct BouncedAnswer {
    /// Deliveries of which a failure is told.
    data: Vec<BouncedDelivery>,
    /// Why the rest tells nothing.
    ignored: Vec<&'static str>,
}

/// A delivery of which a failure is told.
#[derive(Serialize, ToSchema)]
struct BouncedDelivery {
    delivery_id: DeliveryId,
    /// Whether its address is dead: it is suppressed.
    suppressed: bool,
}

/// Takes a bounce in: a raw delivery status notification (RFC 3464), at most 1 MiB. An email that is lost is a
/// dead letter with the reason, and its notification gets the receipt `failed`; a dead address is suppressed and retired. A
/// report about another mailbox than the delivery's own, of a forwarded copy, is a receipt alone. Needs the token of the source `dsn`, an API key with the scope
/// `notifications:write`, or, for the deliveries of every tenant, a worker's key for all tenants with the scope
/// `channel:email`. Taken in twice, it is as once.
#[utoipa::path(
    post,
    path = "/v1/in/dsn",
    tag = "Sources",
    request_body(content = String, content_type = "message/rfc822", description = "The message as it came; or `multipart/report`: its body alone"),
    responses(
        (status = 200, description = "Understood", body = BouncedAnswer),
        (status = 401, description = "Neither the source's own credential nor an API key"),
        (status = 413, description = "More than 1 MiB"),
        (status = 422, description = "It is no delivery status notification"),
    ),
)]
pub(super) async fn bounce(
    State(dispatcher): State<Arc<Dispatcher>>,
    request: Request,
) -> Result<Json<BouncedAnswer>, Problem> {
    let BouncedIn { bounced, ignored } = take_bounce(&dispatcher, request).await?;
    let data = bounced
        .into_iter()
        .map(|(delivery_id, suppressed)| BouncedDelivery {
            delivery_id,
            suppressed,
        })
        .collect();
    Ok(Json(BouncedAnswer { data, ignored }))
}

impl From<TakenIn> for TakenAnswer {
    fn from(taken: TakenIn) -> Self {
        let state = NotificationState::Accepted;
        Self {
            data: taken
                .accepted
                .into_iter()
                .map(|id| TakenNotification { id, state })
                .collect(),
            ignored: taken
                .ignored
                .into_iter()
                .map(|(pointer, reason)| IgnoredAnswer { pointer, reason })
                .collect(),
        }
    }
}

fn answer(row: SourceRow) -> Result<SourceAnswer, Problem> {
    let (kind, settings) = read_settings(&row)?;
    Ok(SourceAnswer {
        name: row.name,
        kind,
        targets: settings.targets,
        category: settings.category,
        channels: settings.channels,
        priority: settings.priority,
        mapping: settings.mapping,
        has_secret: row.sealed.is_some(),
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}
