//! The operator's tenant must exist.
//!
//! A key fixes its tenant, and a token is verified by its tenant's keys. The operator may name any: after a slip, a
//! notification would be accepted for a tenant in which nobody can ever read it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use carillon_auth::Auth;
use carillon_domain::{Caller, Principal, TenantId};
use carillon_runtime::http::Problem;
use http::StatusCode;

/// Where a tenant begins.
const KEYS: &str = "/v1/keys";

/// Answers 404 to an operator whose tenant does not exist, except where its first key is made.
pub(crate) async fn require(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let asked = asked(&request);
    match check(&auth, asked).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The tenant that an operator names and that must exist.
fn asked(request: &Request) -> Option<TenantId> {
    match request.extensions().get::<Principal>()? {
        Principal {
            tenant,
            caller: Caller::Operator,
        } if request.uri().path() != KEYS => Some(tenant.clone()),
        _ => None,
    }
}

async fn check(auth: &Auth, asked: Option<TenantId>) -> Result<(), Problem> {
    match asked {
        Some(tenant) if !auth.knows_tenant(&tenant).await? => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("There is no tenant {tenant}: a tenant begins to exist with its first API key."),
        )),
        _ => Ok(()),
    }
}
