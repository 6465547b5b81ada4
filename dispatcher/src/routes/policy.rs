use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::Scope;
use carillon_policy::TenantPolicy;
use carillon_runtime::http::{ApiJson, Caller, Problem, require_scope};

use super::categories::unknown;
use crate::{Dispatcher, policy::fields};

/// Shows what holds for all of the tenant's users. Needs the scope `notifications:read`.
#[utoipa::path(
    get,
    path = "/v1/policy",
    tag = "Preferences",
    responses((status = 200, description = "The policy; empty where none was written", body = TenantPolicy)),
)]
pub(super) async fn show(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
) -> Result<Json<TenantPolicy>, Problem> {
    require_scope(&principal, Scope::NotificationsRead)?;
    let policy = dispatcher.policies.get(&principal.tenant).await?;
    Ok(Json((*policy).clone()))
}

/// Replaces what holds for all of the tenant's users: the time zone of those who have none, which channels are on, how many
/// alerts a user gets and how fast. Other nodes follow within seconds. Needs the scope `policy:write`.
#[utoipa::path(
    put,
    path = "/v1/policy",
    tag = "Preferences",
    request_body = TenantPolicy,
    responses(
        (status = 200, description = "The policy", body = TenantPolicy),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(super) async fn put(
    State(dispatcher): State<Arc<Dispatcher>>,
    Caller(principal): Caller,
    ApiJson(policy): ApiJson<TenantPolicy>,
) -> Result<Json<TenantPolicy>, Problem> {
    require_scope(&principal, Scope::PolicyWrite)?;
    let known = dispatcher.channels.of(&principal.tenant).await?;
    let mut errors: Vec<_> = fields(policy.check(), "").collect();
    errors.extend(unknown(&known, policy.channels.keys(), ""));
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    dispatcher.policies.put(&principal.tenant, &policy).await?;
    Ok(Json(policy))
}
