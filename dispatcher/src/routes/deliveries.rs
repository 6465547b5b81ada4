use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::State};
use carillon_domain::{
    ChannelKind, DeliveryId, EventId, ExternalUserId, NotificationId, Scope, TenantId, Timestamp, UserId,
    ports::Unavailable,
};
use carillon_runtime::http::{Caller, IdPath, Problem, require_scope};
use serde::Serialize;
use utoipa::ToSchema;

use super::breakers::shown_lane;
use crate::{
    Dispatcher,
    store::outside::{AttemptDetail, Brings, DeliveryState, OutsideDetail},
};

/// A delivery over a channel outside the inbox.
#[derive(Serialize, ToSchema)]
pub(super) struct OutsideDeliveryAnswer {
    id: DeliveryId,
    /// What it brings; null for an event.
    #[schema(required)]
    notification_id: Option<NotificationId>,
    /// What it brings; null for a notification.
    #[schema(required)]
    event_id: Option<EventId>,
    /// Whom it is for; null for an event, a plain address and an erased user.
    #[schema(required)]
    user: Option<ExternalUserId>,
    #[schema(value_type = String)]
    channel: ChannelKind,
    address: String,
    /// What fails together with it: the provider, or the endpoint's host.
    #[schema(required)]
    lane: Option<String>,
    state: DeliveryState,
    /// Why, as the last attempt or whoever ended it said.
    #[schema(required)]
    reason: Option<String>,
    /// What the last attempt said.
    #[schema(required)]
    outcome: Option<String>,
    attempt_count: u32,
    created_at: Timestamp,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    #[schema(required)]
    ended_at: Option<Timestamp>,
    /// When the next attempt may begin; null while one runs and once it ended.
    #[schema(required)]
    next_at: Option<Timestamp>,
    /// Absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<OutsideAttemptAnswer>>,
}

/// One try.
#[derive(Serialize, ToSchema)]
pub(super) struct OutsideAttemptAnswer {
    number: u32,
    /// `deliver`, `replace` or `recall`.
    operation: String,
    started_at: Timestamp,
    #[schema(required)]
    ended_at: Option<Timestamp>,
    /// `delivered`, `accepted`, `retry`, `gone`, `rejected`, `skipped`, `unsent` when it did not begin in time, or `lost` when its process ended first; null
    /// while it runs.
    #[schema(required)]
    outcome: Option<String>,
    /// The far end's status.
    #[schema(required)]
    status: Option<u16>,
    #[schema(required)]
    reason: Option<String>,
    /// The beginning of what the far end answered.
    #[schema(required)]
    excerpt: Option<String>,
    /// When the next one follows.
    #[schema(required)]
    next_at: Option<Timestamp>,
}

/// Shows a delivery over a channel outside the inbox with its attempts. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/deliveries/{id}",
    operation_id = "show_delivery",
    tag = "Deliveries",
    params(("id" = DeliveryId, Path, description = "The delivery")),
    responses(
        (status = 200, description = "The delivery", body = OutsideDeliveryAnswer),
        (status = 404, description = "No such delivery"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<DeliveryId>,
) -> Result<Json<OutsideDeliveryAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let found = dispatcher
        .store
        .delivery(&principal.tenant, id)
        .await
        .map_err(Unavailable::from)?;
    let (detail, attempts) = found.ok_or_else(Problem::not_found)?;
    let names = names(&dispatcher, &principal.tenant, std::slice::from_ref(&detail)).await?;
    let mut shown = answer(detail, &names);
    shown.attempts = Some(attempts.into_iter().map(attempt).collect());
    Ok(Json(shown))
}

/// The tenant's own names of those whom deliveries are for.
pub(super) async fn names(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    details: &[OutsideDetail],
) -> Result<HashMap<UserId, ExternalUserId>, Unavailable> {
    let users: Vec<UserId> = details.iter().filter_map(|detail| detail.user).collect();
    let names = dispatcher.ports.directory.names(tenant, &users).await?;
    Ok(users
        .into_iter()
        .zip(names)
        .filter_map(|(user, name)| Some((user, name?)))
        .collect())
}

pub(super) fn answer(
    detail: OutsideDetail,
    names: &HashMap<UserId, ExternalUserId>,
) -> OutsideDeliveryAnswer {
    let (notification_id, event_id) = match detail.brings {
        Brings::Notification(id) => (Some(id), None),
        Brings::Event(id) => (None, Some(id)),
    };
    OutsideDeliveryAnswer {
        id: detail.id,
        notification_id,
        event_id,
        user: detail.user.and_then(|user| names.get(&user).cloned()),
        lane: detail.lane.map(|lane| shown_lane(&detail.channel, &lane, false)),
        channel: detail.channel,
        address: detail.address,
        state: detail.state,
        reason: detail.reason,
        outcome: detail.outcome,
        attempt_count: detail.attempts,
        created_at: detail.created_at,
        expires_at: detail.expires_at,
        ended_at: detail.ended_at,
        next_at: detail.next_at,
        attempts: None,
    }
}

pub(super) fn attempt(detail: AttemptDetail) -> OutsideAttemptAnswer {
    OutsideAttemptAnswer {
        number: detail.number,
        operation: detail.operation,
        started_at: detail.started_at,
        ended_at: detail.ended_at,
        outcome: detail.outcome,
        status: detail.status,
        reason: detail.reason,
        excerpt: detail.excerpt,
        next_at: detail.next_at,
    }
}
