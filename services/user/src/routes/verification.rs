//! Codes by which the owner of an address confirms it.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use carillon_domain::{DeviceId, ExternalUserId, Scope, Timestamp};
use carillon_runtime::http::{ApiJson, Caller, IdPath, Problem, require_scope};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::sentence;
use crate::{
    Users,
    verification::{ConfirmError, SendCodeError},
};

/// A code on its way.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CodeAnswer {
    /// Until when the code holds.
    expires_at: Timestamp,
}

/// The code that came.
// No `Debug`: it holds a secret.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRequest {
    /// Six digits.
    #[schema(pattern = "^[0-9]{6}$")]
    code: String,
}

/// Sends a code of six digits to an address that is not verified; it holds ten minutes and replaces an earlier one. Needs
/// the scope `users:write`.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/devices/{device}/verification",
    tag = "Users",
    params(
        ("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
        ("device" = DeviceId, Path, description = "The address's id"),
    ),
    responses(
        (status = 202, description = "The code is on its way", body = CodeAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 404, description = "No such user or device"),
        (status = 409, description = "The address is verified already, or retired"),
        (status = 429, description = "A code was sent within 30 s, or ten within a day"),
        (status = 503, description = "The code could not be sent"),
    ),
)]
pub(crate) async fn send(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath((user, device)): IdPath<(ExternalUserId, DeviceId)>,
) -> Result<(StatusCode, Json<CodeAnswer>), Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    let expires_at = users.send_code(&principal.tenant, &user, device).await?;
    Ok((StatusCode::ACCEPTED, Json(CodeAnswer { expires_at })))
}

/// Confirms an address by the code that came there, which may be tried five times. Needs the scope `users:write`.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/devices/{device}/verification",
    tag = "Users",
    params(
        ("id" = ExternalUserId, Path, description = "The tenant's own id, percent-encoded"),
        ("device" = DeviceId, Path, description = "The address's id"),
    ),
    request_body = CodeRequest,
    responses(
        (status = 204, description = "The address is verified"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `users:write`"),
        (status = 404, description = "No such user or device"),
        (status = 409, description = "No code is waiting: it is used, over, or was answered too often"),
        (status = 422, description = "That is not the code"),
    ),
)]
pub(crate) async fn confirm(
    State(users): State<Arc<Users>>,
    Caller(principal): Caller,
    IdPath((user, device)): IdPath<(ExternalUserId, DeviceId)>,
    ApiJson(request): ApiJson<CodeRequest>,
) -> Result<StatusCode, Problem> {
    require_scope(&principal, Scope::UsersWrite)?;
    // What cannot be the code costs no try.
    if request.code.len() != 6 || !request.code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::field("/code", "a code is six digits"));
    }
    users
        .confirm(&principal.tenant, &user, device, &request.code)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<SendCodeError> for Problem {
    fn from(error: SendCodeError) -> Self {
        match error {
            SendCodeError::NotFound => Self::not_found(),
            SendCodeError::Verified | SendCodeError::Retired | SendCodeError::NoAddress => conflict(&error),
            SendCodeError::TooSoon { wait } => Self {
                retry_after: Some(whole_seconds(wait)),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too_many_requests",
                    sentence(&error),
                )
            },
            SendCodeError::Unavailable(cause) => cause.into(),
        }
    }
}

impl From<ConfirmError> for Problem {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::NotFound => Self::not_found(),
            ConfirmError::NoCode => conflict(&error),
            ConfirmError::Wrong => Self::field("/code", error.to_string()),
            ConfirmError::Unavailable(cause) => cause.into(),
        }
    }
}

fn conflict(error: &dyn std::error::Error) -> Problem {
    Problem::new(StatusCode::CONFLICT, "conflict", sentence(error))
}

/// Rounded up, so that coming back then is not too early.
fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}
