use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{Caller as Kind, ExternalUserId, Principal, Scope, Timestamp, UserId};
use carillon_runtime::http::{Caller, IdPath, Problem, require_scope};
use http::StatusCode;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Users, store::UserState};

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
}

/// An erasure that has begun.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErasureAnswer {
    /// The tenant's own id; the next mention of it makes a new user.
    user: ExternalUserId,
    /// `erasing`.
    state: UserState,
}

impl Users {
    /// The routes of users.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(show, erase))
            .with_state(Arc::clone(self))
    }
}

/// What is known of a user. Needs the scope `users:write` or `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    tag = "Identity",
    params(("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded")),
    responses(
        (status = 200, description = "The user", body = UserAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with one of the scopes"),
        (status = 404, description = "No such user"),
    ),
)]
pub(crate) async fn show(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath(user): IdPath<ExternalUserId>,
) -> Result<Json<UserAnswer>, Problem> {
    require_scope(&principal, readable_by(&principal))?;
    let known = users.store.user(&principal.tenant, &user).await;
    let known = known
        .map_err(carillon_domain::ports::Unavailable::from)?
        .ok_or_else(Problem::not_found)?;
    Ok(Json(UserAnswer {
        user,
        id: known.id,
        created_at: known.created_at,
        state: known.state,
    }))
}

/// Erases a person everywhere: inbox, receipts, tokens, connections. Needs the scope `users:write`. The answer means that
/// it is certain to happen; `GET` answers 404 once it has.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    tag = "Identity",
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

/// The scope to ask for: the one of the two that the key has, if any.
fn readable_by(principal: &Principal) -> Scope {
    match &principal.caller {
        Kind::Key(key) if key.scopes.contains(&Scope::NotificationsRead) => Scope::NotificationsRead,
        _ => Scope::UsersWrite,
    }
}
