use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Address, Category, ChannelKind, DeliveryId, ExternalUserId, RedriveId, Scope, TenantId, Timestamp,
    ports::Unavailable,
};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Listing, Page, Paged, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deliveries::{OutsideDeliveryAnswer, answer, names};
use crate::{
    Dispatcher,
    store::outside::{DeadFilter, DeadQuery, RedriveRow},
};

/// The name of the list of dead letters, for its cursors.
const LIST: &str = "dead_letters";
/// The name of the list of redrives, for its cursors.
const REDRIVES: &str = "redrives";
/// The most ids that one redrive names.
const MAX_IDS: usize = 1_000;

/// Which dead letters.
#[derive(Debug, Default, Deserialize, ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeadLetterFilter {
    /// Only over this channel.
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    channel: Option<ChannelKind>,
    /// Only of notifications of this category.
    #[param(value_type = Option<String>)]
    category: Option<Category>,
    /// Only those whose reason contains this text.
    reason: Option<String>,
    /// Only for this user.
    #[param(value_type = Option<String>)]
    user: Option<ExternalUserId>,
    /// Only to this address, in its channel's spelling, or to the endpoint with this id.
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    address: Option<Address>,
    /// Only those that died at this time or later.
    since: Option<Timestamp>,
}

/// Which dead letters to try again: exactly one of the three.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedriveRequest {
    /// These, at most 1,000.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    ids: Option<Vec<DeliveryId>>,
    /// All that match.
    #[serde(default)]
    filter: Option<DeadLetterFilter>,
    /// All there are; only `true` means anything.
    #[serde(default)]
    all: Option<bool>,
}

/// A redrive and how far it is.
#[derive(Serialize, ToSchema)]
pub(super) struct RedriveAnswer {
    id: RedriveId,
    /// `running` until all that matched were looked at; then `done`. Whether they arrive their own states tell.
    state: &'static str,
    /// Dead letters that matched when it began. Fewer may be left for it: somebody else may have sent one again.
    total: u64,
    /// Dead letters that it made pending again. It ends below `total` where a resend or another redrive was first, or
    /// where the notification was cancelled.
    done: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Lists dead letters, newest first: deliveries that are not tried any more, each with its last outcome. Needs the scope
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    operation_id = "list_dead_letters",
    tag = "Deliveries",
    params(Page, DeadLetterFilter),
    responses((status = 200, description = "The dead letters", body = Listing<OutsideDeliveryAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    Paged(page, filter): Paged<DeadLetterFilter>,
) -> Result<Json<Listing<OutsideDeliveryAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let tenant = &principal.tenant;
    let before = page.after(LIST)?;
    let Some(filter) = resolved(&dispatcher, tenant, filter).await? else {
        return Ok(Json(Listing {
            data: Vec::new(),
            next: None,
        }));
    };
    let query = DeadQuery {
        filter,
        before,
        limit: page.fetch(),
    };
    let rows = dispatcher
        .store
        .dead_letters(tenant, &query)
        .await
        .map_err(Unavailable::from)?;
    let names = names(&dispatcher, tenant, &rows).await?;
    Ok(Json(Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| row.id,
        |row| answer(row, &names),
    )))
}

/// Makes dead letters pending again: last in their order, with as much time to live as they had at first (an hour at
/// least), and with the same ids, so that receivers can tell a repeat. What belongs to a cancelled notification is left
/// out. Needs the scope `deliveries:write`.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/redrive",
    operation_id = "redrive_dead_letters",
    tag = "Deliveries",
    request_body = RedriveRequest,
    responses(
        (status = 202, description = "Begun; `/v1/redrives/{id}` tells how far it is", body = RedriveAnswer),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn redrive(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<RedriveRequest>,
) -> Result<(StatusCode, Json<RedriveAnswer>), Problem> {
    require_scope(&principal, Scope::DeliveriesWrite)?;
    let tenant = &principal.tenant;
    let filter = match request {
        RedriveRequest {
            ids: Some(ids),
            filter: None,
            all: None,
        } => {
            if !(1..=MAX_IDS).contains(&ids.len()) {
                return Err(Problem::field("/ids", "must have 1 to 1000 items"));
            }
            Some(DeadFilter {
                ids: Some(ids),
                ..DeadFilter::default()
            })
        }
        RedriveRequest {
            ids: None,
            filter: Some(filter),
            all: None,
        } => resolved(&dispatcher, tenant, filter).await?,
        RedriveRequest {
            ids: None,
            filter: None,
            all: Some(true),
        } => Some(DeadFilter::default()),
        _ => {
            return Err(Problem::field(
                "",
                "expected exactly one of \"ids\", \"filter\" and \"all\": true",
            ));
        }
    };
    // Nobody is called so: nothing matches.
    let filter = filter.unwrap_or_else(|| DeadFilter {
        ids: Some(Vec::new()),
        ..DeadFilter::default()
    });
    let row = dispatcher
        .store
        .begin_redrive(dispatcher.ports.clock.now(), tenant, &filter)
        .await
        .map_err(Unavailable::from)?;
    dispatcher.redriver.wake();
    Ok((StatusCode::ACCEPTED, Json(redrive_answer(row))))
}

/// Shows how far a redrive is. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/redrives/{id}",
    operation_id = "show_redrive",
    tag = "Deliveries",
    params(("id" = RedriveId, Path, description = "The redrive")),
    responses(
        (status = 200, description = "The redrive", body = RedriveAnswer),
        (status = 404, description = "No such redrive"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<RedriveId>,
) -> Result<Json<RedriveAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let row = dispatcher
        .store
        .redrive(&principal.tenant, id)
        .await
        .map_err(Unavailable::from)?;
    row.map(|row| Json(redrive_answer(row)))
        .ok_or_else(Problem::not_found)
}

/// Lists redrives, newest first. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/redrives",
    operation_id = "list_redrives",
    tag = "Deliveries",
    params(Page),
    responses((status = 200, description = "The redrives", body = Listing<RedriveAnswer>)),
)]
pub(super) async fn redrives(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<RedriveAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let before = page.after(REDRIVES)?;
    let rows = dispatcher
        .store
        .redrives(&principal.tenant, before, page.fetch())
        .await
        .map_err(Unavailable::from)?;
    Ok(Json(Listing::from_rows(
        REDRIVES,
        &page,
        rows,
        |row| row.id,
        redrive_answer,
    )))
}

/// The filter with the user's internal id; none when nobody is called so.
async fn resolved(
    dispatcher: &Dispatcher,
    tenant: &TenantId,
    filter: DeadLetterFilter,
) -> Result<Option<DeadFilter>, Problem> {
    if filter.reason.as_ref().is_some_and(|reason| reason.contains('\0')) {
        // No reason holds one.
        return Ok(None);
    }
    let user = match &filter.user {
        None => None,
        Some(name) => match dispatcher.ports.directory.find(tenant, name).await? {
            Some(user) => Some(user),
            None => return Ok(None),
        },
    };
    Ok(Some(DeadFilter {
        ids: None,
        channel: filter.channel,
        category: filter.category,
        reason: filter.reason,
        user,
        address: filter.address,
        since: filter.since,
    }))
}

fn redrive_answer(row: RedriveRow) -> RedriveAnswer {
    RedriveAnswer {
        id: row.id,
        state: if row.is_done { "done" } else { "running" },
        total: row.total,
        done: row.done,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}
