use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Address, DeliveryId, EndpointId, EventId, ExternalUserId, NotificationId, Scope, SecretId, TenantId,
    Timestamp, ports::SigningKind,
};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Listing, Page, Paged, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    endpoints::{EndpointPatch, Fresh, NewEndpoint, RotateRequest},
    events::EventFilter,
    store::{
        endpoints::{AttemptQuery, EndpointAttempt, EndpointQuery, EndpointRow, EndpointState, SecretRow},
        outside::{Brings, DeliveryState},
    },
};

/// The name of the list of endpoints, for its cursors.
const LIST: &str = "endpoints";
/// The name of the log of attempts, for its cursors.
const ATTEMPTS: &str = "endpoint_attempts";

/// A registered webhook endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointAnswer {
    id: EndpointId,
    #[schema(value_type = String)]
    url: Address,
    #[schema(value_type = Vec<String>)]
    events: Vec<EventFilter>,
    /// Whose address it is; null for the tenant's own and for an erased user's.
    #[schema(required)]
    user: Option<ExternalUserId>,
    /// Whether it is told one thing at a time, in order.
    fifo: bool,
    #[schema(required)]
    description: Option<String>,
    state: EndpointState,
    /// Why it is disabled.
    #[schema(required)]
    reason: Option<String>,
    /// Since when nothing but failures came back; null while it is well.
    #[schema(required)]
    failing_since: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// What signs for it, newest first; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<SecretAnswer>>,
}

/// A secret that signs for an endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct SecretAnswer {
    id: SecretId,
    kind: SigningKind,
    /// `whpk_...`: what receivers check an Ed25519 signature with.
    #[schema(required)]
    public_key: Option<String>,
    created_at: Timestamp,
    /// When it stops signing; null for the newest.
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// `whsec_...` or `whsk_...`: shown this once, never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A test that is on its way.
#[derive(Serialize, ToSchema)]
pub(super) struct TestAnswer {
    event_id: EventId,
    /// `GET /v1/deliveries/{id}` tells what became of it.
    delivery_id: DeliveryId,
}

/// The key that signs what goes to plain URLs.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantKeyAnswer {
    /// `whpk_...`.
    #[schema(required)]
    public_key: Option<String>,
    created_at: Timestamp,
}

/// An attempt to tell an endpoint something.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointAttemptAnswer {
    /// `webhook-id` of the request.
    delivery_id: DeliveryId,
    #[schema(required)]
    notification_id: Option<NotificationId>,
    #[schema(required)]
    event_id: Option<EventId>,
    /// The event's kind; null when its retention ended.
    #[schema(required)]
    event: Option<String>,
    /// Where the delivery stands now.
    delivery_state: DeliveryState,
    number: u32,
    started_at: Timestamp,
    #[schema(required)]
    ended_at: Option<Timestamp>,
    /// `delivered`, `retry`, `gone`, `rejected`, or `lost` when its process ended first; null while it runs.
    #[schema(required)]
    outcome: Option<String>,
    /// The HTTP status.
    #[schema(required)]
    status: Option<u16>,
    #[schema(required)]
    reason: Option<String>,
    /// The beginning of the answer's body.
    #[schema(required)]
    excerpt: Option<String>,
    /// When the next one follows.
    #[schema(required)]
    next_at: Option<Timestamp>,
}

/// A delivery that is sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct ResendAnswer {
    id: DeliveryId,
    state: DeliveryState,
}

/// Which endpoints are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EndpointFilter {
    /// Only this user's.
    #[param(value_type = Option<String>)]
    user: Option<ExternalUserId>,
}

/// Registers a webhook endpoint: a tenant's own, which is told events, or a user's address, which gets his
/// notifications. The answer has its secret, this once. Needs the scope `webhooks:write`.
#[utoipa::path(
    post,
    path = "/v1/webhooks/endpoints",
    operation_id = "create_endpoint",
    tag = "Webhooks",
    request_body = NewEndpoint,
    responses(
        (status = 201, description = "Registered; the secret is shown this once", body = EndpointAnswer),
        (status = 409, description = "There are as many as there may be"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn create(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<NewEndpoint>,
) -> Result<(StatusCode, Json<EndpointAnswer>), Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let (row, fresh) = dispatcher.endpoints.create(&principal.tenant, request).await?;
    let mut answer = one(&dispatcher, &principal.tenant, row).await?;
    answer.secrets = Some(vec![shown_once(fresh)]);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Lists webhook endpoints, newest first. Needs the scope `webhooks:write`.
#[utoipa::path(
    get,
    path = "/v1/webhooks/endpoints",
    operation_id = "list_endpoints",
    tag = "Webhooks",
    params(Page, EndpointFilter),
    responses((status = 200, description = "The endpoints", body = Listing<EndpointAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    Paged(page, filter): Paged<EndpointFilter>,
) -> Result<Json<Listing<EndpointAnswer>>, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let tenant = &principal.tenant;
    let mut query = EndpointQuery {
        user: None,
        before: page.after(LIST)?,
        limit: page.fetch(),
    };
    if let Some(name) = &filter.user {
        query.user = dispatcher.ports.directory.find(tenant, name).await?;
        if query.user.is_none() {
            return Ok(Json(Listing {
                data: Vec::new(),
                next: None,
            }));
        }
    }
    let rows = dispatcher.endpoints.list(tenant, &query).await?;
    let users: Vec<_> = rows.iter().filter_map(|row| row.user).collect();
    let names = dispatcher.ports.directory.names(tenant, &users).await?;
    let mut names = names.into_iter();
    Ok(Json(Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| row.id,
        |row| {
            let user = row.user.and_then(|_| names.next().flatten());
            answer(row, user)
        },
    )))
}

/// Shows a webhook endpoint and what signs for it; never a secret. Needs the scope `webhooks:write`.
#[utoipa::path(
    get,
    path = "/v1/webhooks/endpoints/{id}",
    operation_id = "show_endpoint",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses(
        (status = 200, description = "The endpoint", body = EndpointAnswer),
        (status = 404, description = "No such endpoint"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Json<EndpointAnswer>, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let (row, secrets) = dispatcher.endpoints.show(&principal.tenant, id).await?;
    let mut answer = one(&dispatcher, &principal.tenant, row).await?;
    answer.secrets = Some(secrets.into_iter().map(secret).collect());
    Ok(Json(answer))
}

/// Changes a webhook endpoint; what is absent stays. Needs the scope `webhooks:write`.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/endpoints/{id}",
    operation_id = "change_endpoint",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    request_body = EndpointPatch,
    responses(
        (status = 200, description = "Changed", body = EndpointAnswer),
        (status = 404, description = "No such endpoint"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn change(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
    ApiJson(patch): ApiJson<EndpointPatch>,
) -> Result<Json<EndpointAnswer>, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let row = dispatcher.endpoints.change(&principal.tenant, id, patch).await?;
    Ok(Json(one(&dispatcher, &principal.tenant, row).await?))
}

/// Deletes a webhook endpoint with its secrets; what waits for it becomes a dead letter. Needs the scope
/// `webhooks:write`.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/endpoints/{id}",
    operation_id = "delete_endpoint",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "No such endpoint"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    dispatcher.endpoints.delete(&principal.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enables a webhook endpoint that was disabled. What was dead-lettered meanwhile is redriven only on request. Needs the
/// scope `webhooks:write`.
#[utoipa::path(
    post,
    path = "/v1/webhooks/endpoints/{id}/enable",
    operation_id = "enable_endpoint",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses(
        (status = 200, description = "Enabled", body = EndpointAnswer),
        (status = 404, description = "No such endpoint"),
    ),
)]
pub(super) async fn enable(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Json<EndpointAnswer>, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let row = dispatcher.endpoints.enable(&principal.tenant, id).await?;
    Ok(Json(one(&dispatcher, &principal.tenant, row).await?))
}

/// Makes a new secret. The earlier ones go on signing beside it for a while, each with a signature of its own. Needs the
/// scope `webhooks:write`.
#[utoipa::path(
    post,
    path = "/v1/webhooks/endpoints/{id}/secrets",
    operation_id = "rotate_endpoint_secret",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    request_body = RotateRequest,
    responses(
        (status = 201, description = "Made; shown this once", body = SecretAnswer),
        (status = 404, description = "No such endpoint"),
        (status = 409, description = "Too many sign already"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn rotate(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
    ApiJson(request): ApiJson<RotateRequest>,
) -> Result<(StatusCode, Json<SecretAnswer>), Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let fresh = dispatcher
        .endpoints
        .rotate(&principal.tenant, id, request)
        .await?;
    Ok((StatusCode::CREATED, Json(shown_once(fresh))))
}

/// Removes a secret at once. Needs the scope `webhooks:write`.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/endpoints/{id}/secrets/{secret}",
    operation_id = "delete_endpoint_secret",
    tag = "Webhooks",
    params(
        ("id" = EndpointId, Path, description = "The endpoint"),
        ("secret" = SecretId, Path, description = "The secret"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "No such endpoint or secret"),
        (status = 409, description = "Nothing else signs without an end"),
    ),
)]
pub(super) async fn remove_secret(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath((id, secret)): IdPath<(EndpointId, SecretId)>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    dispatcher
        .endpoints
        .remove_secret(&principal.tenant, id, secret)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a webhook endpoint an event of the kind `webhook.test`. Needs the scope `webhooks:write`.
#[utoipa::path(
    post,
    path = "/v1/webhooks/endpoints/{id}/test",
    operation_id = "test_endpoint",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses(
        (status = 202, description = "On its way", body = TestAnswer),
        (status = 404, description = "No such endpoint"),
        (status = 409, description = "The endpoint is disabled"),
    ),
)]
pub(super) async fn test(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
) -> Result<(StatusCode, Json<TestAnswer>), Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let (event_id, delivery_id) = dispatcher.endpoints.test(&principal.tenant, id).await?;
    let answer = TestAnswer {
        event_id,
        delivery_id,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Lists the attempts to tell a webhook endpoint something, those of the newest delivery first. Needs the scope
/// `webhooks:write`.
#[utoipa::path(
    get,
    path = "/v1/webhooks/endpoints/{id}/attempts",
    operation_id = "list_endpoint_attempts",
    tag = "Webhooks",
    params(("id" = EndpointId, Path, description = "The endpoint"), Page),
    responses(
        (status = 200, description = "The attempts", body = Listing<EndpointAttemptAnswer>),
        (status = 404, description = "No such endpoint"),
    ),
)]
pub(super) async fn attempts(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<EndpointId>,
    page: Page,
) -> Result<Json<Listing<EndpointAttemptAnswer>>, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let query = AttemptQuery {
        before: page.after(ATTEMPTS)?,
        limit: page.fetch(),
    };
    let rows = dispatcher
        .endpoints
        .attempts(&principal.tenant, id, &query)
        .await?;
    Ok(Json(Listing::from_rows(
        ATTEMPTS,
        &page,
        rows,
        |row| (row.delivery, row.attempt.number),
        attempt,
    )))
}

/// The key that signs what goes to plain URLs of this tenant, made on first use. Needs the scope `webhooks:write`.
#[utoipa::path(
    get,
    path = "/v1/webhooks/key",
    operation_id = "show_webhook_key",
    tag = "Webhooks",
    responses((status = 200, description = "The public key", body = TenantKeyAnswer)),
)]
pub(super) async fn key(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
) -> Result<Json<TenantKeyAnswer>, Problem> {
    require_scope(&principal, Scope::WebhooksWrite)?;
    let row = dispatcher.endpoints.tenant_key(&principal.tenant).await?;
    Ok(Json(TenantKeyAnswer {
        public_key: row.public,
        created_at: row.created_at,
    }))
}

/// Sends a delivery that ended once more, with the same id, so that the receiver can tell a repeat; it goes last in its
/// order. What arrived before and does not arrive again stays `accepted` or `delivered`. Needs the scope `deliveries:write`.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/resend",
    operation_id = "resend_delivery",
    tag = "Deliveries",
    params(("id" = DeliveryId, Path, description = "The delivery")),
    responses(
        (status = 202, description = "It is pending again", body = ResendAnswer),
        (status = 404, description = "No such delivery"),
        (status = 409, description = "It is still being tried or taken back, it was not sent, or its notification was cancelled"),
    ),
)]
pub(super) async fn resend(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<DeliveryId>,
) -> Result<(StatusCode, Json<ResendAnswer>), Problem> {
    require_scope(&principal, Scope::DeliveriesWrite)?;
    dispatcher.endpoints.resend(&principal.tenant, id).await?;
    let answer = ResendAnswer {
        id,
        state: DeliveryState::Pending,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

async fn one(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    row: EndpointRow,
) -> Result<EndpointAnswer, Problem> {
    let user = match row.user {
        None => None,
        Some(user) => {
            let names = dispatcher.ports.directory.names(tenant, &[user]).await?;
            names.into_iter().next().flatten()
        }
    };
    Ok(answer(row, user))
}

fn answer(row: EndpointRow, user: Option<ExternalUserId>) -> EndpointAnswer {
    EndpointAnswer {
        id: row.id,
        url: row.url,
        events: row.events,
        user,
        fifo: row.fifo,
        description: row.description,
        state: row.state,
        reason: row.reason,
        failing_since: row.failing_since,
        created_at: row.created_at,
        updated_at: row.updated_at,
        secrets: None,
    }
}

fn secret(row: SecretRow) -> SecretAnswer {
    SecretAnswer {
        id: row.id,
        kind: row.kind,
        public_key: row.public,
        created_at: row.created_at,
        expires_at: row.expires_at,
        secret: None,
    }
}

fn shown_once(fresh: Fresh) -> SecretAnswer {
    let text = fresh.secret.expose().to_owned();
    SecretAnswer {
        secret: Some(text),
        ..secret(fresh.row)
    }
}

fn attempt(row: EndpointAttempt) -> EndpointAttemptAnswer {
    let (notification_id, event_id) = match row.brings {
        Brings::Notification(id) => (Some(id), None),
        Brings::Event(id) => (None, Some(id)),
    };
    let event = match row.brings {
        Brings::Notification(_) => Some("notification.created".to_owned()),
        Brings::Event(_) => row.kind,
    };
    EndpointAttemptAnswer {
        delivery_id: row.delivery,
        notification_id,
        event_id,
        event,
        delivery_state: row.state,
        number: row.attempt.number,
        started_at: row.attempt.started_at,
        ended_at: row.attempt.ended_at,
        outcome: row.attempt.outcome,
        status: row.attempt.status,
        reason: row.attempt.reason,
        excerpt: row.attempt.excerpt,
        next_at: row.attempt.next_at,
    }
}
