use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{ExternalUserId, TenantId, Timestamp, UserId};
use carillon_policy::{QuietHours, QuietWindow, Zone};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Problem};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::acting::{known, mentioned};
use crate::{
    Dispatcher,
    policy::{ZoneOf, fields},
};

/// A user's quiet hours.
#[derive(Serialize, ToSchema)]
pub(super) struct QuietHoursAnswer {
    /// None: it is never quiet.
    windows: Vec<QuietWindow>,
    /// Whose wall clock they are read on.
    time_zone: Zone,
    /// Who named the time zone.
    time_zone_from: ZoneOf,
    /// Whether it is quiet now.
    quiet: bool,
    /// Until when it is quiet; null when it is not. At most 8 days ahead.
    #[schema(required)]
    until: Option<Timestamp>,
    /// When it gets quiet next; null when it never does, or never ceases to be.
    #[schema(required)]
    next: Option<Timestamp>,
}

async fn answer(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    user: UserId,
) -> Result<Json<QuietHoursAnswer>, Problem> {
    let choices = dispatcher.choices_of(tenant, user).await?;
    let now = dispatcher.ports.clock.now();
    let (until, next) = (choices.quiet_until(now), choices.quiet_from(now));
    Ok(Json(QuietHoursAnswer {
        windows: choices.quiet_hours.map_or_else(Vec::new, |hours| hours.windows),
        time_zone: choices.zone,
        time_zone_from: choices.zone_of,
        quiet: until.is_some(),
        until,
        next,
    }))
}

/// Shows a user's quiet hours, in which time zone they are read, and whether it is quiet now. The user's own token does, or the
/// scope `users:write`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/quiet-hours",
    tag = "Preferences",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 200, description = "The quiet hours", body = QuietHoursAnswer),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 404, description = "No such user"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<Json<QuietHoursAnswer>, Problem> {
    let id = known(&dispatcher, &principal, &user).await?;
    answer(&dispatcher, &principal.tenant, id).await
}

/// Replaces a user's quiet hours: the times of the week at which nothing but the inbox gets anything. They are read on the wall
/// clock of the user's time zone, else the tenant's, else UTC. The user's own token does, or the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/quiet-hours",
    tag = "Preferences",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    request_body = QuietHours,
    responses(
        (status = 200, description = "The quiet hours", body = QuietHoursAnswer),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
    ApiJson(hours): ApiJson<QuietHours>,
) -> Result<Json<QuietHoursAnswer>, Problem> {
    let id = mentioned(&dispatcher, &principal, &user).await?;
    let errors: Vec<_> = fields(hours.check(), "").collect();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    dispatcher.be_quiet(&principal.tenant, id, Some(hours)).await?;
    answer(&dispatcher, &principal.tenant, id).await
}

/// Removes a user's quiet hours: it is never quiet. The user's own token does, or the scope `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/quiet-hours",
    tag = "Preferences",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 204, description = "There are none"),
        (status = 403, description = "Neither the user's own token nor an API key with the scope `users:write`"),
        (status = 404, description = "No such user"),
    ),
)]
pub(super) async fn delete(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<StatusCode, Problem> {
    let id = known(&dispatcher, &principal, &user).await?;
    dispatcher.be_quiet(&principal.tenant, id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}
