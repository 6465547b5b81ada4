use std::{borrow::Cow, sync::Arc};

use axum::{Json, extract::State};
use carillon_domain::{Address, ChannelKind, DeliveryId, Scope, Timestamp, ports::Unavailable};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Listing, Page, Paged, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Dispatcher,
    store::outside::{SuppressionQuery, SuppressionRow},
};

/// The name of the list of suppressions, for its cursors.
const LIST: &str = "suppressions";
/// The longest note.
const MAX_DETAIL: usize = 1_024;

/// An address that nothing is sent to.
#[derive(Serialize, ToSchema)]
pub(super) struct SuppressionAnswer {
    #[schema(value_type = String)]
    channel: ChannelKind,
    #[schema(value_type = String)]
    address: Address,
    /// `bounced`, `gone` or `manual`.
    reason: String,
    #[schema(required)]
    detail: Option<String>,
    /// The delivery that told.
    #[schema(required)]
    delivery_id: Option<DeliveryId>,
    at: Timestamp,
}

/// What is to be suppressed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SuppressRequest {
    #[schema(value_type = String)]
    channel: ChannelKind,
    /// In any spelling that the channel knows.
    #[schema(value_type = String)]
    address: Address,
    /// A note of at most 1,024 bytes.
    #[serde(default)]
    detail: Option<String>,
}

/// Which suppressions are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SuppressionFilter {
    /// Only over this channel.
    #[param(value_type = Option<String>)]
    channel: Option<ChannelKind>,
}

/// Lists suppressed addresses by channel and address. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/suppressions",
    operation_id = "list_suppressions",
    tag = "Deliveries",
    params(Page, SuppressionFilter),
    responses((status = 200, description = "The suppressions", body = Listing<SuppressionAnswer>)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    Paged(page, filter): Paged<SuppressionFilter>,
) -> Result<Json<Listing<SuppressionAnswer>>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let query = SuppressionQuery {
        channel: filter.channel,
        after: page.after(LIST)?,
        limit: page.fetch(),
    };
    let rows = dispatcher
        .store
        .suppressions(&principal.tenant, &query)
        .await
        .map_err(Unavailable::from)?;
    Ok(Json(Listing::from_rows(
        LIST,
        &page,
        rows,
        |row| (row.channel.clone(), row.address.clone()),
        answer,
    )))
}

/// Suppresses an address: nothing is sent to it, however urgent, until it is lifted. One that is suppressed already stays
/// as it is. Needs the scope `deliveries:write`.
#[utoipa::path(
    post,
    path = "/v1/suppressions",
    operation_id = "suppress_address",
    tag = "Deliveries",
    request_body = SuppressRequest,
    responses(
        (status = 200, description = "It is suppressed", body = SuppressionAnswer),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn suppress(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<SuppressRequest>,
) -> Result<(StatusCode, Json<SuppressionAnswer>), Problem> {
    require_scope(&principal, Scope::DeliveriesWrite)?;
    if request
        .detail
        .as_ref()
        .is_some_and(|detail| detail.len() > MAX_DETAIL)
    {
        return Err(Problem::field("/detail", "must be at most 1024 bytes"));
    }
    if request
        .detail
        .as_ref()
        .is_some_and(|detail| detail.contains('\0'))
    {
        return Err(Problem::field("/detail", "must not contain U+0000"));
    }
    let address = canonical(&dispatcher, &request.channel, request.address)
        .map_err(|error| Problem::field("/address", error.0))?;
    let row = SuppressionRow {
        tenant: principal.tenant.clone(),
        channel: request.channel,
        address,
        reason: Cow::Borrowed("manual"),
        detail: request.detail,
        delivery: None,
        at: dispatcher.ports.clock.now(),
    };
    let stands = dispatcher.store.suppress(&row).await.map_err(Unavailable::from)?;
    Ok((StatusCode::OK, Json(answer(stands))))
}

/// Lifts a suppression. The address stands percent-encoded in the path. Needs the scope `deliveries:write`.
#[utoipa::path(
    delete,
    path = "/v1/suppressions/{channel}/{address}",
    operation_id = "lift_suppression",
    tag = "Deliveries",
    params(
        ("channel" = String, Path, description = "The channel"),
        ("address" = String, Path, description = "The address"),
    ),
    responses(
        (status = 204, description = "Lifted"),
        (status = 404, description = "It was not suppressed"),
    ),
)]
pub(super) async fn lift(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath((channel, address)): IdPath<(ChannelKind, Address)>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::DeliveriesWrite)?;
    // What is no address of the channel may still stand in the list.
    let spelled = canonical(&dispatcher, &channel, address.clone()).unwrap_or_else(|_| address.clone());
    for address in [spelled, address] {
        let lifted = dispatcher
            .store
            .lift_suppression(&principal.tenant, &channel, &address)
            .await
            .map_err(Unavailable::from)?;
        if lifted {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(Problem::not_found())
}

/// As the channel spells it; a channel that is not here takes any text.
fn canonical(
    dispatcher: &Dispatcher,
    channel: &ChannelKind,
    address: Address,
) -> Result<Address, carillon_domain::Invalid> {
    let known = dispatcher
        .ports
        .channels
        .iter()
        .find(|known| known.kind() == *channel);
    match known {
        Some(known) => known.check(address.as_str()).map(|checked| checked.address),
        None => Ok(address),
    }
}

fn answer(row: SuppressionRow) -> SuppressionAnswer {
    SuppressionAnswer {
        channel: row.channel,
        address: row.address,
        reason: row.reason.into_owned(),
        detail: row.detail,
        delivery_id: row.delivery,
        at: row.at,
    }
}
