use std::{collections::HashSet, sync::Arc};

use axum::{Json, extract::State};
use carillon_domain::{Caller as Kind, ChannelKind, Scope, TenantId, Timestamp, ports::Unavailable};
use carillon_runtime::http::{Caller, Problem, require_scope};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Dispatcher, deliverer::breaker::Standing};

/// The most lanes that an answer shows.
const MOST: usize = 1_000;

/// Lanes and how they stand.
#[derive(Serialize, ToSchema)]
pub(super) struct BreakersAnswer {
    /// At most 1,000, those first that are not closed.
    data: Vec<BreakerAnswer>,
}

/// What fails together: a provider, or an endpoint's host.
#[derive(Serialize, ToSchema)]
struct BreakerAnswer {
    #[schema(value_type = String)]
    channel: ChannelKind,
    lane: String,
    /// Whose attempts it is about: of lanes that callers choose, as endpoints' hosts, each tenant has a breaker of his
    /// own. Null where all tenants share it.
    #[schema(required, value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// `closed`: attempts are made; `open`: none are; `half_open`: one alone asks whether it works again.
    state: &'static str,
    /// Failures in a row, while it is closed. Null to a tenant where all tenants share the lane.
    #[schema(required)]
    failures: Option<u32>,
    /// Until when none are made, while it is open.
    #[schema(required)]
    until: Option<Timestamp>,
    /// Attempts that run on this node; to a tenant his own.
    under_way: usize,
}

/// Shows how lanes stand on this node: those with work of the caller's tenant, to an operator all. Needs the scope
/// `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/breakers",
    operation_id = "list_breakers",
    tag = "Deliveries",
    responses((status = 200, description = "The lanes", body = BreakersAnswer)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
) -> Result<Json<BreakersAnswer>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let own: Option<HashSet<_>> = match principal.caller {
        Kind::Operator => None,
        _ => {
            let lanes = dispatcher
                .store
                .open_lanes(&principal.tenant, MOST)
                .await
                .map_err(Unavailable::from)?;
            Some(
                lanes
                    .into_iter()
                    .map(|lane| (lane.key.channel, lane.key.lane))
                    .collect(),
            )
        }
    };
    let now = dispatcher.ports.clock.now();
    let tenant = own.as_ref().map(|_| &principal.tenant);
    let mut lanes = match tenant {
        Some(tenant) => dispatcher.schedule.lock().standings_of(tenant, now),
        None => dispatcher.schedule.lock().standings(now),
    };
    lanes.extend(dispatcher.remote.standings(tenant));
    let mut data: Vec<BreakerAnswer> = lanes
        .into_iter()
        .filter(|lane| {
            own.as_ref()
                .is_none_or(|own| own.contains(&(lane.channel.clone(), Arc::clone(&lane.lane))))
        })
        .map(|lane| BreakerAnswer {
            state: lane.breaker.as_str(),
            failures: match lane.breaker {
                // How often others fail is theirs.
                Standing::Closed { failures }
                    if own.is_none() || lane.channel.as_str() == ChannelKind::WEBHOOK =>
                {
                    Some(failures)
                }
                _ => None,
            },
            until: match lane.breaker {
                Standing::Open { until } => Some(until),
                _ => None,
            },
            lane: shown_lane(&lane.channel, &lane.lane, own.is_none()),
            tenant: lane.tenant,
            channel: lane.channel,
            under_way: lane.under_way,
        })
        .collect();
    data.sort_by(|a, b| {
        let key = |lane: &BreakerAnswer| (lane.state == "closed", lane.channel.clone(), lane.lane.clone());
        key(a).cmp(&key(b))
    });
    data.truncate(MOST);
    Ok(Json(BreakersAnswer { data }))
}

/// A lane as it is shown: the relay's name is the operator's.
pub(super) fn shown_lane(channel: &ChannelKind, lane: &str, to_operator: bool) -> String {
    if channel.as_str() == ChannelKind::EMAIL && !to_operator {
        "relay".to_owned()
    } else {
        lane.to_owned()
    }
}
