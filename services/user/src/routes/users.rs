use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{ExternalUserId, Scope, TenantId, Timestamp, UserId, ports::Unavailable};
use carillon_runtime::http::{Caller, IdPath, Problem, require_scope};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    acting::{acting, readable_by},
    devices::DeviceAnswer,
};
use crate::{
    Users,
    device::Device,
    store::{UserRecord, UserState},
};

/// What is known of a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct UserAnswer {
    /// The tenant's own id.
    user: ExternalUserId,
    /// The internal id, as in logs and traces.
    id: UserId,
    /// When the user was first mentioned.
    created_at: Timestamp,
    /// Whether the user is being erased.
    state: UserState,
    /// The user's language, BCP 47.
    #[schema(required)]
    locale: Option<String>,
    /// The user's IANA time zone.
    #[schema(required)]
    timezone: Option<String>,
    /// What the tenant says of the user.
    #[schema(value_type = Object)]
    attributes: Map<String, Value>,
    /// Where the user is reached outside the inbox, at most 32; retired addresses are shown for a while.
    addresses: Vec<AddressAnswer>,
}

/// An address of a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AddressAnswer {
    #[serde(flatten)]
    device: DeviceAnswer,
    /// Why nothing is sent there, verified or not: `gone`, `bounced` or `manual`, until `DELETE /v1/suppressions/...` lifts it.
    #[schema(required)]
    suppressed: Option<String>,
}

/// An erasure that has begun.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErasureAnswer {
    /// The tenant's own id; the next mention of it makes a new user.
    user: ExternalUserId,
    /// `erasing`.
    state: UserState,
}

impl UserAnswer {
    pub(super) async fn new(
        users: &Users,
        tenant: &TenantId,
        user: ExternalUserId,
        known: UserRecord,
        devices: Vec<Device>,
    ) -> Result<Self, Unavailable> {
        let (devices, to): (Vec<_>, Vec<_>) = devices
            .into_iter()
            .filter_map(|device| {
                let to = device.to.clone()?;
                Some((device, to))
            })
            .unzip();
        let mut reasons = users.suppressed_of(tenant, &to).await?.into_iter();
        Ok(Self {
            user,
            id: known.id,
            created_at: known.created_at,
            state: known.state,
            locale: known.locale,
            timezone: known.timezone,
            attributes: known.attributes,
            addresses: devices
                .into_iter()
                .map(|device| AddressAnswer {
                    device: DeviceAnswer::from(device),
                    suppressed: reasons.next().flatten(),
                })
                .collect(),
        })
    }
}

/// What is known of a user. The user's own token does, or one of the scopes `users:write` and `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    tag = "Users",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 200, description = "The user", body = UserAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Another user's token, or a key without one of the scopes"),
        (status = 404, description = "No such user"),
    ),
)]
pub(crate) async fn show(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<Json<UserAnswer>, Problem> {
    acting(&principal, &user, readable_by(&principal))?;
    let known = users.store.user(&principal.tenant, &user).await;
    let known = known.map_err(Unavailable::from)?.ok_or_else(Problem::not_found)?;
    let devices = users.store.devices(&principal.tenant, known.id).await;
    let devices = devices.map_err(Unavailable::from)?;
    let answer = UserAnswer::new(&users, &principal.tenant, user, known, devices).await?;
    Ok(Json(answer))
}

/// Erases a person everywhere: inbox, receipts, tokens, connections. Needs the scope `users:write`. The answer means that
/// it is certain to happen; `GET` answers 404 once it has.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    tag = "Users",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 202, description = "The erasure has begun", body = ErasureAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 404, description = "No such user"),
    ),
)]
pub(crate) async fn erase(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<(StatusCode, Json<ErasureAnswer>), Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    if !users.erase(&principal.tenant, &user).await? {
        return Err(Problem::not_found());
    }
    Ok((
        StatusCode::ACCEPTED,
        Json(ErasureAnswer {
            user,
            state: UserState::Erasing,
        }),
    ))
}
