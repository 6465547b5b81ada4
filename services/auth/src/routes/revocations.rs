use std::sync::Arc;

use axum::extract::State;
use carillon_domain::{ExternalUserId, Scope};
use carillon_runtime::http::{ApiJson, Caller, FieldError, Problem, require_scope};
use http::StatusCode;
use serde::Deserialize;

use crate::Auth;

/// What to end: exactly one of the two.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevocationRequest {
    /// All tokens of this user that were issued until now.
    #[serde(default)]
    user: Option<ExternalUserId>,
    /// The token with this id.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    jti: Option<String>,
}

/// Ends tokens and the connections that they opened. Needs the scope `revocations:write`.
#[utoipa::path(
    post,
    path = "/v1/revocations",
    tag = "Identity",
    request_body = RevocationRequest,
    responses(
        (status = 204, description = "Ended"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `revocations:write`"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(crate) async fn revoke(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<RevocationRequest>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::RevocationsWrite)?;
    let invalid =
        |pointer: &str, detail: &'static str| Problem::invalid(vec![FieldError::new(pointer, detail)]);
    match (request.user, request.jti) {
        (Some(user), None) => auth.revoke_user(&principal.tenant, &user).await?,
        (None, Some(jti)) => {
            if !matches!(jti.len(), 1..=255) || jti.chars().any(char::is_control) {
                return Err(invalid(
                    "/jti",
                    "a token's id is 1-255 bytes without control characters",
                ));
            }
            auth.revoke_token(&principal.tenant, &jti).await?;
        }
        (None, None) => return Err(invalid("", "one of user and jti is required")),
        (Some(_), Some(_)) => return Err(invalid("/jti", "only one of user and jti can be given")),
    }
    Ok(StatusCode::NO_CONTENT)
}
