use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use carillon_domain::{NotificationId, NotificationState, Scope};
use carillon_runtime::http::{
    ApiJsonBytes, ApiQuery, Caller, FieldError, IdPath, Problem, parse_part, require_scope,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    batch_items::BatchItems,
    dry_run::{self, DryRunAnswer},
};
use crate::{
    Dispatcher, idempotency,
    intake::{Submission, Taken},
    store::{Cancelled, NewNotification},
    validation::{SendRequest, accept},
};

const SEND: &str = "POST /v1/notifications";
const SEND_BATCH: &str = "POST /v1/notifications/batch";
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A notification that was accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    id: NotificationId,
    state: NotificationState,
}

/// Notifications that were accepted, in the request's order.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedBatch {
    data: Vec<Accepted>,
}

/// How to send.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SendQuery {
    /// Answers 200 with who would get it where, and what it would say; sends and writes nothing, and keeps no key.
    dry_run: Option<bool>,
}

/// Several notifications: all are accepted, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchRequest {
    /// 1-1,000.
    #[schema(value_type = Vec<SendRequest>, min_items = 1, max_items = 1_000)]
    notifications: BatchItems<1_000>,
}

/// What became of a cancellation.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelAnswer {
    id: NotificationId,
    state: NotificationState,
    /// Deliveries that are under way and cannot be stopped; asked again, those that still are.
    in_flight: u64,
    /// Inbox entries that this call took back.
    recalled: u64,
}

/// Notifications of a batch that are worked out in one go where templates render: others get their turn in between.
const TOGETHER: usize = 32;

/// Sends a notification. The answer means that it is committed and synced: it ends in a state that `GET` shows. Needs
/// the scope `notifications:write`.
#[utoipa::path(
    post,
    path = "/v1/notifications",
    tag = "Notifications",
    request_body = SendRequest,
    params(SendQuery, ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key and body, the request gets the first answer again; kept 24 h")),
    responses(
        (status = 200, description = "A dry run: what it would do", body = DryRunAnswer),
        (status = 202, description = "Accepted, durably", body = Accepted),
        (status = 409, description = "The first request with this key is not answered yet"),
        (status = 422, description = "The request does not fit, or the key was used with another body"),
        (status = 503, description = "Overloaded, or the store is away"),
    ),
)]
pub(super) async fn send(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<SendQuery>,
    ApiJsonBytes(request, bytes): ApiJsonBytes<SendRequest>,
) -> Result<Response, Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    let key = idempotency::key(&headers)?;
    let mut offer = dispatcher
        .offer(&principal.tenant, std::iter::once(&request))
        .await?;
    if request.is_critical() {
        require_scope(&principal, Scope::NotificationsCritical)?;
        offer.critical = true;
    }
    let (offer, now) = (Arc::new(offer), dispatcher.ports.clock.now());
    let accepted = dispatcher.worked_out(&offer, move |offer| {
        let mut errors = Vec::new();
        accept(request, offer, now, "", &mut errors).ok_or(errors)
    });
    let notification = accepted.await?.map_err(Problem::invalid)?;
    if query.dry_run.unwrap_or_default() {
        let answer = dry_run::dry_run(&dispatcher, &principal.tenant, offer, notification).await?;
        return Ok(answer.into_response());
    }
    let mut body = String::with_capacity(80);
    write_accepted(&mut body, &notification);
    let submission = Submission {
        tenant: principal.tenant,
        notifications: vec![notification],
        body: Arc::from(body),
        key: key.map(|key| (SEND, key, bytes)),
    };
    submit(&dispatcher, submission).await
}

/// Sends several notifications in one transaction: all are accepted, or none. Needs the scope `notifications:write`.
#[utoipa::path(
    post,
    path = "/v1/notifications/batch",
    tag = "Notifications",
    request_body = BatchRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "As for a single notification; one key for all")),
    responses(
        (status = 202, description = "All accepted, durably, in the request's order", body = AcceptedBatch),
        (status = 409, description = "The first request with this key is not answered yet"),
        (status = 422, description = "None accepted; pointers name the items"),
        (status = 503, description = "Overloaded, or the store is away"),
    ),
)]
pub(super) async fn send_batch(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    headers: HeaderMap,
    ApiJsonBytes(request, bytes): ApiJsonBytes<BatchRequest>,
) -> Result<Response, Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    let key = idempotency::key(&headers)?;
    let now = dispatcher.ports.clock.now();
    let requests: Vec<Result<SendRequest, FieldError>> =
        request.notifications.each("/notifications", parse_part);
    let readable = requests.iter().filter_map(|request| request.as_ref().ok());
    let mut offer = dispatcher.offer(&principal.tenant, readable).await?;
    let mut readable = requests.iter().filter_map(|request| request.as_ref().ok());
    if readable.any(SendRequest::is_critical) {
        require_scope(&principal, Scope::NotificationsCritical)?;
        offer.critical = true;
    }
    let offer = Arc::new(offer);
    let mut requests = (0..).zip(requests);
    let mut worked_out = Vec::new();
    loop {
        let some: Vec<(usize, _)> = requests.by_ref().take(TOGETHER).collect();
        if some.is_empty() {
            break;
        }
        let done = dispatcher.worked_out(&offer, move |offer| {
            let one = |(index, request): (usize, Result<SendRequest, FieldError>)| {
                let (mut errors, at) = (Vec::new(), format!("/notifications/{index}"));
                let request = request.map_err(|error| vec![error])?;
                accept(request, offer, now, &at, &mut errors).ok_or(errors)
            };
            some.into_iter().map(one).collect::<Vec<_>>()
        });
        worked_out.extend(done.await?);
    }
    let mut worked_out = worked_out.into_iter();
    let mut notifications = request.notifications.read_each("/notifications", |_, _| {
        worked_out.next().unwrap_or(Err(Vec::new()))
    })?;
    // One after the other in the order of the request, which is the order in which they are planned.
    for (micros, notification) in (0..).zip(&mut notifications) {
        notification.id = NotificationId::at(now.after(Duration::from_micros(micros)));
    }
    let mut body = String::with_capacity(notifications.len() * 72 + 16);
    body.push_str("{\"data\":[");
    for (index, notification) in notifications.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        write_accepted(&mut body, notification);
    }
    body.push_str("]}");
    let submission = Submission {
        tenant: principal.tenant,
        notifications,
        body: Arc::from(body),
        key: key.map(|key| (SEND_BATCH, key, bytes)),
    };
    submit(&dispatcher, submission).await
}

/// Withdraws a notification: what is not planned is never sent, open inbox entries are recalled. Cancelling twice is
/// cancelling once. Needs the scope `notifications:write`.
#[utoipa::path(
    post,
    path = "/v1/notifications/{id}/cancel",
    tag = "Notifications",
    params(("id" = NotificationId, Path, description = "The notification")),
    responses(
        (status = 200, description = "Cancelled", body = CancelAnswer),
        (status = 404, description = "No such notification"),
        (status = 409, description = "It expired"),
    ),
)]
pub(super) async fn cancel(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<NotificationId>,
) -> Result<axum::Json<CancelAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsWrite)?;
    match dispatcher.cancel(&principal.tenant, id).await? {
        Cancelled::NotFound => Err(Problem::not_found()),
        Cancelled::Expired => Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "The notification has expired.",
        )),
        Cancelled::Done { recalled, in_flight } => Ok(axum::Json(CancelAnswer {
            id,
            state: NotificationState::Cancelled,
            in_flight,
            recalled,
        })),
    }
}

/// [`Accepted`] as JSON: also what an idempotency key keeps.
fn write_accepted(body: &mut String, notification: &NewNotification) {
    let _ = write!(body, "{{\"id\":\"{}\",\"state\":\"accepted\"}}", notification.id);
}

async fn submit(dispatcher: &Dispatcher, submission: Submission) -> Result<Response, Problem> {
    let body = Arc::clone(&submission.body);
    let answer = |status, body: Bytes| {
        (
            status,
            [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            body,
        )
            .into_response()
    };
    match dispatcher.intake.submit(submission).await? {
        Taken::New => Ok(answer(
            StatusCode::ACCEPTED,
            Bytes::copy_from_slice(body.as_bytes()),
        )),
        Taken::Before { status, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED);
            let mut response = answer(status, Bytes::from(body));
            response
                .headers_mut()
                .insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
    }
}
