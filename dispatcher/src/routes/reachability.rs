//! How well a user's devices have proved to be within reach.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{
    Address, Caller as Who, ChannelKind, DeviceId, ExternalUserId, Scope, Timestamp, ports::Unavailable,
};
use carillon_runtime::http::{Caller, IdPath, Problem, require_scope};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Dispatcher, reach::FADING};

/// What is known of a user's addresses.
#[derive(Serialize, ToSchema)]
#[schema(as = Reachability)]
pub(super) struct ReachabilityAnswer {
    /// At most 200, by channel and address. Those that nothing was sent to, and those on channels that tell nothing, are
    /// absent.
    data: Vec<ReachAnswer>,
}

/// One address.
#[derive(Serialize, ToSchema)]
#[schema(as = AddressReachability)]
struct ReachAnswer {
    #[schema(value_type = String)]
    channel: ChannelKind,
    #[schema(value_type = String)]
    address: Address,
    /// The device that the address belongs to.
    #[schema(required)]
    device: Option<DeviceId>,
    /// From 0, out of reach: its alerts are skipped until that has faded, to 100; null while too little is known, or where
    /// its channel never told what arrived.
    #[schema(required)]
    score: Option<u8>,
    /// What was sent there, the older the less; one of three days ago counts half.
    sent: f64,
    /// What came back of it, the same way.
    came_back: f64,
    /// When something came back last.
    #[schema(required)]
    came_back_at: Option<Timestamp>,
    /// When it was counted last.
    counted_at: Timestamp,
}

/// Says how well a user's devices have proved to be within reach, by what was sent and what came back. For the user's own
/// token, and for keys with the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{user}/reachability",
    operation_id = "show_reachability",
    tag = "Deliveries",
    params(("user" = String, Path, description = "Your own id of the user")),
    responses(
        (status = 200, description = "What is known", body = ReachabilityAnswer),
        (status = 403, description = "Somebody else's token"),
        (status = 404, description = "No such user"),
    ),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<Json<ReachabilityAnswer>, Problem> {
    let tenant = &principal.tenant;
    let user = match &principal.caller {
        Who::User(caller) if caller.external == user => caller.id,
        Who::User(_) => return Err(Problem::forbidden("A user's token reaches its own user alone.")),
        Who::Key(_) | Who::Worker(_) | Who::Operator => {
            require_scope(&principal, Scope::NotificationsRead)?;
            let found = dispatcher.ports.directory.find(tenant, &user).await?;
            found.ok_or_else(Problem::not_found)?
        }
    };
    let now = dispatcher.ports.clock.now();
    let rows = dispatcher
        .store
        .reach_of(tenant, user)
        .await
        .map_err(Unavailable::from)?;
    let data = rows.into_iter().map(|row| {
        let faded = row.reach.faded(now, FADING);
        ReachAnswer {
            score: row.score(now),
            channel: row.channel,
            address: row.address,
            device: row.device,
            sent: probes(faded.sent),
            came_back: probes(faded.came),
            came_back_at: row.reach.came_at,
            counted_at: row.reach.at,
        }
    });
    Ok(Json(ReachabilityAnswer { data: data.collect() }))
}

/// From millionths, to three places.
fn probes(millionths: u64) -> f64 {
    (millionths as f64 / 1_000.0).round() / 1_000.0
}
