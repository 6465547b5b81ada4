use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{Address, ChannelKind, DeliveryId, TenantId};
use carillon_runtime::http::{ApiJson, Caller, FieldError, IdPath, Problem, Served};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{answers::count, item_tenant, worker};
use crate::{
    Dispatcher,
    remote::{InboundEvent, Receipt, ReceiptKind},
    store::outside::About,
    validation::is_action_id,
};

/// The longest event kind, in bytes.
const MAX_KIND: usize = 64;

/// News of what was delivered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptsRequest {
    #[schema(min_items = 1, max_items = 100)]
    receipts: Vec<ReceiptItem>,
}

/// News of one delivery: named by its id, or by the far end's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReceiptItem {
    /// Whose; required with a key for all tenants.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    #[serde(default)]
    delivery: Option<DeliveryId>,
    #[serde(default)]
    provider_id: Option<String>,
    kind: ReceiptWord,
    /// With `acted`: which button.
    #[serde(default)]
    action: Option<String>,
    /// With `failed`: why.
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ReceiptWord {
    /// It arrived.
    Delivered,
    /// It was on a screen.
    Seen,
    /// Somebody read it: acknowledges.
    Read,
    /// Somebody followed its link: acknowledges as read.
    Clicked,
    /// Somebody put it away: acknowledges.
    Dismissed,
    /// Somebody did something about it: acknowledges.
    Acted,
    /// It will never arrive.
    Failed,
}

/// What became of each item.
#[derive(Serialize, ToSchema)]
pub(super) struct NewsAnswer {
    results: Vec<NewsResult>,
}

#[derive(Serialize, ToSchema)]
struct NewsResult {
    /// `ok`; `not_found`: there is no such delivery; `ignored`: it concerns nothing here.
    status: &'static str,
}

/// Tells what happened at the far end to what was delivered. `read`, `clicked`, `dismissed` and `acted` acknowledge the
/// notification on every device. Needs a key with the scope `channel:{kind}`.
#[utoipa::path(
    post,
    path = "/v1/channels/{kind}/receipts",
    operation_id = "tell_receipts",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    request_body = ReceiptsRequest,
    responses(
        (status = 200, description = "What became of each", body = NewsAnswer),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn receipts(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiJson(request): ApiJson<ReceiptsRequest>,
) -> Result<Json<NewsAnswer>, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    count(request.receipts.len(), "/receipts")?;
    let items = request.receipts.into_iter().map(|item| receipt(&served, item));
    let receipts = gathered("/receipts", items)?;
    let known = dispatcher.remote.receive(&kind, receipts).await?;
    let results = known.into_iter().map(|known| NewsResult {
        status: if known { "ok" } else { "not_found" },
    });
    Ok(Json(NewsAnswer {
        results: results.collect(),
    }))
}

/// What addresses do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsRequest {
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<EventItem>,
}

/// What one address does.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventItem {
    /// `address.gone` retires the address. `message` and `reaction` that answer a delivery acknowledge it. Any other
    /// kind of at most 64 bytes is taken and ignored.
    kind: String,
    /// Whose; required with a key for all tenants.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    address: Option<Address>,
    /// The delivery that it answers.
    #[serde(default)]
    delivery: Option<DeliveryId>,
    /// The same, by the far end's own id.
    #[serde(default)]
    provider_id: Option<String>,
    /// With `address.gone`: why.
    #[serde(default)]
    reason: Option<String>,
}

/// Tells what addresses do by themselves. Needs a key with the scope `channel:{kind}`.
#[utoipa::path(
    post,
    path = "/v1/channels/{kind}/events",
    operation_id = "tell_events",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    request_body = EventsRequest,
    responses(
        (status = 200, description = "What became of each", body = NewsAnswer),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn events(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiJson(request): ApiJson<EventsRequest>,
) -> Result<Json<NewsAnswer>, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    count(request.events.len(), "/events")?;
    let items = request.events.into_iter().map(|item| event(&served, item));
    let remote = &dispatcher.remote;
    let mut results = Vec::new();
    for event in gathered("/events", items)? {
        let status = match event {
            InboundEvent::Gone {
                tenant,
                address,
                reason,
            } => {
                remote.gone(&tenant, &kind, &address, reason).await?;
                "ok"
            }
            InboundEvent::Answered(receipt) => match remote.receive(&kind, vec![receipt]).await?[..] {
                [true] => "ok",
                _ => "not_found",
            },
            InboundEvent::Ignored => "ignored",
        };
        results.push(NewsResult { status });
    }
    Ok(Json(NewsAnswer { results }))
}

type Fault = (&'static str, &'static str);

/// All of them, or what is wrong with each.
fn gathered<T>(list: &str, items: impl Iterator<Item = Result<T, Fault>>) -> Result<Vec<T>, Problem> {
    let mut good = Vec::new();
    let mut faults = Vec::new();
    for (index, item) in items.enumerate() {
        match item {
            Ok(item) => good.push(item),
            Err((field, detail)) => faults.push(FieldError::new(format!("{list}/{index}{field}"), detail)),
        }
    }
    if faults.is_empty() {
        Ok(good)
    } else {
        Err(Problem::invalid(faults))
    }
}

fn receipt(served: &Served, item: ReceiptItem) -> Result<Receipt, Fault> {
    let tenant = item_tenant(served, item.tenant).map_err(|detail| ("/tenant", detail))?;
    let about = about(item.delivery, item.provider_id)?.ok_or(NAME_ONE)?;
    if item.action.is_some() && item.kind != ReceiptWord::Acted {
        return Err(("/action", "goes with the kind acted alone"));
    }
    if item.action.as_deref().is_some_and(|action| !is_action_id(action)) {
        return Err(("/action", "must be 1-64 characters of A-Z, a-z, 0-9, ., _ and -"));
    }
    if item.reason.is_some() && item.kind != ReceiptWord::Failed {
        return Err(("/reason", "goes with the kind failed alone"));
    }
    let kind = match item.kind {
        ReceiptWord::Delivered => ReceiptKind::Delivered,
        ReceiptWord::Seen => ReceiptKind::Seen,
        ReceiptWord::Read => ReceiptKind::Read,
        ReceiptWord::Clicked => ReceiptKind::Clicked,
        ReceiptWord::Dismissed => ReceiptKind::Dismissed,
        ReceiptWord::Acted => ReceiptKind::Acted(item.action),
        ReceiptWord::Failed => ReceiptKind::Failed(
            item.reason
                .unwrap_or_else(|| "the far end says that it failed".to_owned()),
        ),
    };
    Ok(Receipt { tenant, about, kind })
}

fn event(served: &Served, item: EventItem) -> Result<InboundEvent, Fault> {
    let tenant = item_tenant(served, item.tenant).map_err(|detail| ("/tenant", detail))?;
    if !(1..=MAX_KIND).contains(&item.kind.len()) {
        return Err(("/kind", "must be 1-64 bytes"));
    }
    let about = about(item.delivery, item.provider_id)?;
    match (item.kind.as_str(), about) {
        ("address.gone", _) => Ok(InboundEvent::Gone {
            tenant,
            address: item.address.ok_or(("/address", "required with address.gone"))?,
            reason: item
                .reason
                .unwrap_or_else(|| "its channel says that it is gone".to_owned()),
        }),
        ("message" | "reaction", Some(about)) => Ok(InboundEvent::Answered(Receipt {
            tenant,
            about,
            kind: ReceiptKind::Read,
        })),
        _ => Ok(InboundEvent::Ignored),
    }
}

const NAME_ONE: Fault = ("", "must name either delivery or provider_id");

fn about(delivery: Option<DeliveryId>, provider_id: Option<String>) -> Result<Option<About>, Fault> {
    match (delivery, provider_id) {
        (Some(id), None) => Ok(Some(About::Delivery(id))),
        (None, Some(id)) if (1..=512).contains(&id.len()) && !id.contains('\0') => {
            Ok(Some(About::Provider(id)))
        }
        (None, Some(_)) => Err(("/provider_id", "must be 1-512 bytes")),
        (Some(_), Some(_)) => Err(NAME_ONE),
        (None, None) => Ok(None),
    }
}
