use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use carillon_domain::{DomainEventId, NotificationId, RuleName, Scope, Timestamp, ports::Unavailable};
use carillon_runtime::http::{
    BodyLimit, Caller, FieldError, IdPath, Listing, Page, Paged, Problem, check_json, read_body,
    require_scope,
};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use super::{batch_items::BatchItems, sending::REPLAYED};
use crate::{
    Dispatcher,
    domain_events::{CloudEvent, MAX_BATCH, MAX_EVENT, Mode, binary, structured},
    store::domain_events::{DomainEventQuery, DomainEventRow, DomainEventState, RuleOutcome, RuleResult},
};

/// The name of the list, for its cursors.
const LIST: &str = "events";
/// The largest batch, in bytes.
const BATCH: BodyLimit = BodyLimit(8 * 1024 * 1024);

/// An event that was accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct EventAccepted {
    id: DomainEventId,
    /// Of an event that had been there before: how far it is.
    state: DomainEventState,
}

/// What became of a batch, in its order.
#[derive(Serialize, ToSchema)]
pub(super) struct EventBatchAnswer {
    data: Vec<EventBatchItem>,
}

/// What became of one event of a batch.
#[derive(Serialize, ToSchema)]
struct EventBatchItem {
    /// As if it had come alone: 202, 413 or 422.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<DomainEventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<DomainEventState>,
    /// Whether it had been there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// An event and what the rules made of it.
#[derive(Serialize, ToSchema)]
pub(super) struct EventAnswer {
    id: DomainEventId,
    state: DomainEventState,
    source: String,
    /// What its source calls it.
    event_id: String,
    r#type: String,
    /// In CloudEvents' JSON format; null once a person was erased whom it was about.
    #[schema(required, value_type = Option<Object>)]
    event: Option<Box<RawValue>>,
    received_at: Timestamp,
    /// When all rules had seen it.
    #[schema(required)]
    done_at: Option<Timestamp>,
    /// The rules that were for its type and source, in their order.
    rules: Vec<RuleResultAnswer>,
}

/// What one rule made of an event.
#[derive(Serialize, ToSchema)]
struct RuleResultAnswer {
    rule: RuleName,
    version: u64,
    outcome: RuleOutcome,
    #[schema(required)]
    notification_id: Option<NotificationId>,
    /// Why there is no notification.
    #[schema(required)]
    reason: Option<String>,
}

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Of this type alone.
    r#type: Option<String>,
}

/// Takes domain events in: CloudEvents 1.0 over HTTP, structured, binary (`ce-*` headers) or in a batch of up to 100, each
/// at most 64 KiB. 202 means that the event is committed; the rules see it afterwards. What has the same `source` and `id`
/// as an event before is that event, for as long as it is kept (7 days by default). Needs the scope `events:write`.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "Events",
    request_body(content(
        (Object = "application/cloudevents+json"),
        (Vec<Object> = "application/cloudevents-batch+json"),
        (Object = "application/json"),
    ), description = "The event, a list of them, or with `ce-*` headers its data"),
    responses(
        (status = 202, description = "Accepted, durably; of a batch: all of it", body = EventAccepted),
        (status = 207, description = "A part of a batch was accepted", body = EventBatchAnswer),
        (status = 413, description = "The event is larger than 64 KiB"),
        (status = 415, description = "No event, or in a format that is not JSON"),
        (status = 422, description = "The event is not valid, or no event of a batch is: then with the answer of 207"),
        (status = 503, description = "Overloaded, or the store is away"),
    ),
)]
pub(super) async fn receive(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    mut request: Request,
) -> Result<Response, Problem> {
    require_scope(&principal, Scope::EventsWrite)?;
    let mode = Mode::of(request.headers())?;
    let limit = match mode {
        Mode::Batch => BATCH,
        Mode::Structured | Mode::Binary => BodyLimit(MAX_EVENT),
    };
    request.extensions_mut().insert(limit);
    let headers = request.headers().clone();
    let body = read_body(request).await?;
    let event = match mode {
        Mode::Binary => binary(&headers, &body)?,
        Mode::Structured => {
            check_json(&body)?;
            structured(raw(&body)?, "").map_err(Problem::invalid)?
        }
        Mode::Batch => {
            check_json(&body)?;
            let items = items(&body)?;
            let (answers, events) = sorted(&items);
            let taken = dispatcher.event_intake.submit(&principal.tenant, &events).await?;
            return Ok(batch_answer(answers, taken));
        }
    };
    let taken = dispatcher
        .event_intake
        .submit(&principal.tenant, std::slice::from_ref(&event))
        .await?;
    let taken = taken.into_iter().next();
    let taken = taken.ok_or_else(|| Unavailable::new("taking an event in", "there is no answer"))?;
    let accepted = EventAccepted {
        id: taken.id,
        state: taken.state,
    };
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    if taken.replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn raw(body: &[u8]) -> Result<&RawValue, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::malformed(format!("The body is not JSON: {error}.")))
}

/// The events of a batch as they came. A batch may be empty.
fn items(body: &[u8]) -> Result<Vec<Box<RawValue>>, Problem> {
    if serde_json::from_slice::<[(); 0]>(body).is_ok() {
        return Ok(Vec::new());
    }
    let items: BatchItems<MAX_BATCH> = serde_json::from_slice(body)
        .map_err(|_| Problem::field("", "must be a list of at most 100 events"))?;
    Ok(items.each("", |item, _| item.to_owned()))
}

/// The events that are valid, and for each item why it is none.
fn sorted(items: &[Box<RawValue>]) -> (Vec<Option<EventBatchItem>>, Vec<CloudEvent>) {
    let refused = |status: StatusCode, errors| EventBatchItem {
        status: status.as_u16(),
        id: None,
        state: None,
        replayed: None,
        errors,
    };
    let mut events = Vec::with_capacity(items.len());
    let answers = items.iter().enumerate().map(|(index, item)| {
        let at = format!("/{index}");
        if item.get().len() > MAX_EVENT {
            let error = FieldError::new(at, "must be at most 65536 bytes");
            return Some(refused(StatusCode::PAYLOAD_TOO_LARGE, vec![error]));
        }
        match structured(item, &at) {
            Ok(event) => {
                events.push(event);
                None
            }
            Err(errors) => Some(refused(StatusCode::UNPROCESSABLE_ENTITY, errors)),
        }
    });
    (answers.collect(), events)
}

fn batch_answer(
    answers: Vec<Option<EventBatchItem>>,
    taken: Vec<crate::domain_events::TakenEvent>,
) -> Response {
    let all = answers.len();
    let accepted = taken.len();
    let mut taken = taken.into_iter();
    let data = answers.into_iter().filter_map(|refused| {
        refused.or_else(|| {
            let taken = taken.next()?;
            Some(EventBatchItem {
                status: StatusCode::ACCEPTED.as_u16(),
                id: Some(taken.id),
                state: Some(taken.state),
                replayed: Some(taken.replayed),
                errors: Vec::new(),
            })
        })
    });
    let data = data.collect();
    let status = match accepted {
        accepted if accepted == all => StatusCode::ACCEPTED,
        0 => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::MULTI_STATUS,
    };
    (status, Json(EventBatchAnswer { data })).into_response()
}

/// Shows an event and what each rule made of it. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    tag = "Events",
    params(("id" = DomainEventId, Path, description = "The event")),
    responses(
        (status = 200, description = "The event", body = EventAnswer),
        (status = 404, description = "No such event, or it is not kept any more"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<DomainEventId>,
) -> Result<Json<EventAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let row = dispatcher
        .store
        .event(&principal.tenant, id)
        .await
        .map_err(Unavailable::from)?;
    answer(row.ok_or_else(Problem::not_found)?).map(Json)
}

/// Lists events, newest first. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "Events",
    params(Page, EventsQuery),
    responses((status = 200, description = "The events", body = Listing<EventAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    Paged(page, query): Paged<EventsQuery>,
) -> Result<Json<Listing<EventAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let query = DomainEventQuery {
        kind: query.r#type,
        before: page.after(LIST)?,
        limit: page.fetch(),
    };
    let rows = dispatcher
        .store
        .events(&principal.tenant, &query)
        .await
        .map_err(Unavailable::from)?;
    let listing = Listing::from_rows(LIST, &page, rows, |row| row.id, answer);
    let data = listing.data.into_iter().collect::<Result<_, _>>()?;
    Ok(Json(Listing {
        data,
        next: listing.next,
    }))
}

fn answer(row: DomainEventRow) -> Result<EventAnswer, Problem> {
    let event = row.body.map(|body| RawValue::from_string(body.to_string()));
    Ok(EventAnswer {
        id: row.id,
        state: row.state,
        source: row.source,
        event_id: row.event_id,
        r#type: row.kind,
        event: event.transpose().map_err(|error| Problem::internal(&error))?,
        received_at: row.received_at,
        done_at: row.done_at,
        rules: row.results.into_iter().map(RuleResultAnswer::from).collect(),
    })
}

impl From<RuleResult> for RuleResultAnswer {
    fn from(result: RuleResult) -> Self {
        Self {
            rule: result.rule,
            version: result.version,
            outcome: result.outcome,
            notification_id: result.notification,
            reason: result.reason,
        }
    }
}

/// A stored event's JSON, as it was handed in.
pub(super) async fn stored_event(
    dispatcher: &Dispatcher,
    tenant: &carillon_domain::TenantId,
    id: DomainEventId,
) -> Result<Option<CloudEvent>, Problem> {
    let row = dispatcher
        .store
        .event(tenant, id)
        .await
        .map_err(Unavailable::from)?;
    let Some(body) = row.and_then(|row| row.body) else {
        return Ok(None);
    };
    match serde_json::from_str(&body).map_err(|error| Problem::internal(&error))? {
        Value::Object(members) => Ok(Some(CloudEvent::stored(members))),
        _ => Ok(None),
    }
}
