//! Who is calling, as a handler's argument.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use carillon_domain::{
    Caller as Kind, Principal, Scope, TenantId, UserCaller,
    ports::{AuthError, Authenticate},
};
use http::{header, request::Parts};

use super::Problem;

/// The composition root puts this into every request's extensions.
#[derive(Clone)]
pub struct AuthenticateHandle(pub Arc<dyn Authenticate>);

/// The authenticated caller of this request; 401 without a valid `Authorization: Bearer`.
///
/// The tenant comes from the extensions, where the edge put what the path's `/t/{tenant}` said.
#[derive(Debug, Clone)]
pub struct Caller(pub Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The internal listener has decided already.
        if let Some(principal) = parts.extensions.get::<Principal>() {
            return Ok(Self(principal.clone()));
        }
        let tenant = parts.extensions.get::<TenantId>().cloned().unwrap_or_default();
        let credential = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, credential)| credential.trim())
            .ok_or_else(Problem::unauthorized)?;
        let authenticate = parts
            .extensions
            .get::<AuthenticateHandle>()
            .ok_or_else(Problem::unauthorized)?
            .0
            .clone();
        match authenticate.bearer(&tenant, credential).await {
            Ok(principal) => Ok(Self(principal)),
            Err(AuthError::Unavailable(cause)) => Err(Problem::unavailable(&cause)),
            Err(_) => Err(Problem::unauthorized()),
        }
    }
}

/// Lets API keys with `scope` and the operator pass.
///
/// # Errors
/// 403 for everybody else.
pub fn require_scope(principal: &Principal, scope: Scope) -> Result<(), Problem> {
    match &principal.caller {
        Kind::Operator => Ok(()),
        Kind::Key(key) if key.scopes.contains(&scope) => Ok(()),
        Kind::Key(_) => Err(Problem::forbidden(format!(
            "The API key lacks the scope {}.",
            scope.as_str()
        ))),
        Kind::User(_) => Err(Problem::forbidden("This needs an API key, not a user's token.")),
    }
}

/// Lets users pass.
///
/// # Errors
/// 403 for everybody else.
pub fn require_user(principal: &Principal) -> Result<&Arc<UserCaller>, Problem> {
    match &principal.caller {
        Kind::User(user) => Ok(user),
        Kind::Key(_) | Kind::Operator => {
            Err(Problem::forbidden("This needs a user's token, not an API key."))
        }
    }
}
