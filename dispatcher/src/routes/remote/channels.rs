use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{Caller as Kind, Capabilities, ChannelKind, Scope, Timestamp, ports::Unavailable};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::worker;
use crate::{
    Dispatcher,
    remote::{MAX_CHANNELS, tenant_of},
    store::outside::{FormName, RemoteChannelRow},
};

/// What a worker says of its channel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct AnnounceRequest {
    /// It can put a newer notification in the place of one that it delivered.
    replace: bool,
    /// It can take back what it delivered.
    recall: bool,
    /// Addresses must be verified before anything but the verification goes there.
    verified: bool,
    /// Which forms of templates it wants; absent for all.
    forms: Option<Vec<FormName>>,
}

/// Every channel.
#[derive(Serialize, ToSchema)]
pub(super) struct ChannelsAnswer {
    data: Vec<ChannelAnswer>,
}

/// A channel.
#[derive(Serialize, ToSchema)]
pub(super) struct ChannelAnswer {
    #[schema(value_type = String)]
    kind: ChannelKind,
    /// `local`: Carillon's own; `remote`: a worker brings it.
    place: &'static str,
    /// Whether its workers serve all tenants.
    all_tenants: bool,
    capabilities: Capabilities,
    /// Which forms of templates it wants; null for all.
    #[schema(required)]
    forms: Option<Vec<FormName>>,
    #[schema(required)]
    announced_at: Option<Timestamp>,
    /// When a worker last asked for work, about.
    #[schema(required)]
    last_seen_at: Option<Timestamp>,
}

/// Lists the channels that there are. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/channels",
    operation_id = "list_channels",
    tag = "Channels",
    responses((status = 200, description = "The channels", body = ChannelsAnswer)),
)]
pub(super) async fn list(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
) -> Result<Json<ChannelsAnswer>, Problem> {
    let tenant = match &principal.caller {
        // Its own, and none that a tenant brings.
        Kind::Worker(_) => None,
        _ => {
            require_scope(&principal, Scope::NotificationsRead)?;
            Some(&principal.tenant)
        }
    };
    let local = |kind, capabilities| ChannelAnswer {
        kind,
        place: "local",
        all_tenants: true,
        capabilities,
        forms: None,
        announced_at: None,
        last_seen_at: None,
    };
    let in_app = Capabilities {
        replace: true,
        recall: true,
        verified: false,
    };
    let mut data = vec![local(ChannelKind::in_app(), in_app)];
    data.extend(
        dispatcher
            .ports
            .channels
            .iter()
            .map(|channel| local(channel.kind(), channel.capabilities())),
    );
    let rows = dispatcher
        .store
        .remote_channels(tenant)
        .await
        .map_err(Unavailable::from)?;
    data.extend(rows.into_iter().map(answer));
    Ok(Json(ChannelsAnswer { data }))
}

/// Announces a channel and what it can do; again, to change that. From then on notifications may name it. Needs a key
/// with the scope `channel:{kind}`: of one tenant, or, made on the internal listener, for all.
#[utoipa::path(
    put,
    path = "/v1/channels/{kind}",
    operation_id = "announce_channel",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    request_body = AnnounceRequest,
    responses(
        (status = 200, description = "Announced", body = ChannelAnswer),
        (status = 409, description = "Carillon brings the channel itself, or there are too many"),
    ),
)]
pub(super) async fn announce(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
    ApiJson(request): ApiJson<AnnounceRequest>,
) -> Result<Json<ChannelAnswer>, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    let tenant = tenant_of(&served);
    let store = &dispatcher.store;
    let rows = store.remote_channels(tenant).await.map_err(Unavailable::from)?;
    let own: Vec<_> = rows.iter().filter(|row| row.tenant.as_ref() == tenant).collect();
    let before = own.iter().find(|row| row.kind == kind);
    if before.is_none() && own.len() >= MAX_CHANNELS {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "conflict",
            "At most 32 channels are announced.",
        ));
    }
    if request.forms.as_ref().is_some_and(|forms| forms.len() > 4) {
        return Err(Problem::field("/forms", "must have at most 4 items"));
    }
    let row = RemoteChannelRow {
        tenant: tenant.cloned(),
        kind,
        capabilities: Capabilities {
            replace: request.replace,
            recall: request.recall,
            verified: request.verified,
        },
        forms: request.forms,
        seen_at: before.and_then(|row| row.seen_at),
        announced_at: dispatcher.ports.clock.now(),
    };
    store.announce_channel(&row).await.map_err(Unavailable::from)?;
    dispatcher.channels.changed(tenant).await;
    Ok(Json(answer(row)))
}

/// Takes a channel back: notifications cannot name it any more, and what waits for it ends with its time to live, unless it
/// is announced again. Needs a key as for announcing it.
#[utoipa::path(
    delete,
    path = "/v1/channels/{kind}",
    operation_id = "withdraw_channel",
    tag = "Channels",
    params(("kind" = String, Path, description = "The channel")),
    responses(
        (status = 204, description = "Taken back"),
        (status = 404, description = "It was not announced"),
        (status = 409, description = "Carillon brings the channel itself"),
    ),
)]
pub(super) async fn withdraw(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    IdPath(kind): IdPath<ChannelKind>,
) -> Result<StatusCode, Problem> {
    let served = worker(&dispatcher, &principal, &kind)?;
    let tenant = tenant_of(&served);
    let withdrawn = dispatcher.store.withdraw_channel(tenant, &kind).await;
    dispatcher.channels.changed(tenant).await;
    if withdrawn.map_err(Unavailable::from)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

fn answer(row: RemoteChannelRow) -> ChannelAnswer {
    ChannelAnswer {
        kind: row.kind,
        place: "remote",
        all_tenants: row.tenant.is_none(),
        capabilities: row.capabilities,
        forms: row.forms,
        announced_at: Some(row.announced_at),
        last_seen_at: row.seen_at,
    }
}
