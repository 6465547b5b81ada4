//! Keys of workers that bring a channel to every tenant. Only the operator makes, sees and revokes them: they belong to
//! no tenant, and no tenant's key reaches them.

use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_domain::{KeyId, Scope};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Listing, Page, Problem, require_operator};
use http::StatusCode;
use serde::Deserialize;

use super::keys::{self, KeyAnswer, Made, NewKeyAnswer};
use crate::{Auth, store::KeyOwner};

/// Names the list in its cursors.
const LIST: &str = "worker_keys";

/// A worker's key to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerKeyRequest {
    /// What it is for.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// The channels that it brings: `channel:{kind}` and nothing else.
    #[schema(min_items = 1, max_items = 32)]
    scopes: Vec<Scope>,
}

/// Makes a key for a worker that serves every tenant. Served on the internal listener alone.
#[utoipa::path(
    post,
    path = "/v1/worker-keys",
    tag = "Identity",
    request_body = WorkerKeyRequest,
    responses(
        (status = 201, description = "The key, shown this once", body = NewKeyAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not the internal listener"),
        (status = 409, description = "There are too many keys"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(crate) async fn create(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<WorkerKeyRequest>,
) -> Result<Made, Problem> {
    require_operator(&principal)?;
    keys::make(&auth, &KeyOwner::AllTenants, &request.name, &request.scopes).await
}

/// The keys of workers that serve every tenant, oldest first, revoked ones for a while. Served on the internal listener
/// alone.
#[utoipa::path(
    get,
    path = "/v1/worker-keys",
    tag = "Identity",
    params(Page),
    responses(
        (status = 200, description = "The keys", body = Listing<KeyAnswer>),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not the internal listener"),
    ),
)]
pub(crate) async fn list(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    page: Page,
) -> Result<Json<Listing<KeyAnswer>>, Problem> {
    require_operator(&principal)?;
    keys::page_of(&auth, &KeyOwner::AllTenants, LIST, &page).await
}

/// Revokes the key of a worker that serves every tenant, at once. Served on the internal listener alone.
#[utoipa::path(
    delete,
    path = "/v1/worker-keys/{id}",
    tag = "Identity",
    params(("id" = KeyId, Path, description = "The key's id")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not the internal listener"),
        (status = 404, description = "No such key"),
    ),
)]
pub(crate) async fn revoke(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    IdPath(id): IdPath<KeyId>,
) -> Result<StatusCode, Problem> {
    require_operator(&principal)?;
    keys::end(&auth, &KeyOwner::AllTenants, id).await
}
