use std::sync::Arc;

use axum::{Json, extract::State};
use carillon_runtime::http::Problem;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

use super::PathTenant;
use crate::{Auth, signing::Jwk};

/// A tenant's public keys (RFC 7517).
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct JwkSet {
    /// The key before, the current one and the next; empty for a tenant without tokens.
    keys: Vec<Jwk>,
}

/// Short beside the day for which a key is shown before it signs.
const CACHED: (HeaderName, HeaderValue) = (
    header::CACHE_CONTROL,
    HeaderValue::from_static("public, max-age=300"),
);

/// The keys that verify the tenant's tokens. Any verifier may read them.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "Identity",
    responses((status = 200, description = "The public keys", body = JwkSet)),
    security(()),
)]
pub(crate) async fn list(
    State(auth): State<Arc<Auth>>,
    PathTenant(tenant): PathTenant,
) -> Result<([(HeaderName, HeaderValue); 1], Json<JwkSet>), Problem> {
    let keys = auth.signing.of(&tenant, auth.clock.now()).await?;
    Ok((
        [CACHED],
        Json(JwkSet {
            keys: keys.keys.iter().map(|key| key.jwk()).collect(),
        }),
    ))
}
