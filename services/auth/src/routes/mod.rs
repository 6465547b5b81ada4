//! What identity serves over HTTP.

mod jwks;
mod keys;
mod revocations;
mod tickets;
mod tokens;
mod worker_keys;

use std::sync::Arc;

use axum::extract::FromRequestParts;
use carillon_domain::TenantId;
use http::request::Parts;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Auth;

impl Auth {
    /// The routes of identity, for the public listener and the internal one alike: on the internal one the request
    /// carries an operator's principal already, for the tenant of its path.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(tokens::mint))
            .routes(routes!(tickets::hand_out, tickets::log_out))
            .routes(routes!(revocations::revoke))
            .routes(routes!(keys::create, keys::list))
            .routes(routes!(keys::revoke))
            .routes(routes!(worker_keys::create, worker_keys::list))
            .routes(routes!(worker_keys::revoke))
            .routes(routes!(jwks::list))
            .with_state(Arc::clone(self))
    }
}

/// The tenant that the path's prefix named, before anybody has shown a credential.
struct PathTenant(TenantId);

impl<S: Sync> FromRequestParts<S> for PathTenant {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(
            parts.extensions.get::<TenantId>().cloned().unwrap_or_default(),
        ))
    }
}
