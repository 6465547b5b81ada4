use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use carillon_domain::{DeviceName, ExternalUserId, Scope, Timestamp, TopicGrants};
use carillon_runtime::http::{ApiJson, Caller, FieldError, Problem, require_scope};
use http::{HeaderName, HeaderValue, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::{Auth, MintError, MintRequest};

/// A secret in an answer must not stay in any cache.
pub(super) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// What a token is to say.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// For whom.
    user: ExternalUserId,
    /// How many seconds it lives.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 2_592_000, default = 3_600)]
    ttl: Option<u64>,
    /// The device that it is for.
    #[serde(default)]
    device: Option<DeviceName>,
    /// What its bearer may subscribe and publish to. Nothing, by default.
    #[serde(default)]
    topics: TopicGrants,
}

/// A user's token.
// No `Debug`: it holds a secret.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct TokenAnswer {
    /// The JWT.
    token: String,
    /// When it ends.
    expires_at: Timestamp,
    /// Its id, for `POST /v1/revocations`.
    jti: String,
}

/// Mints a user's token. Needs the scope `tokens:write`.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "Identity",
    request_body = TokenRequest,
    responses(
        (status = 201, description = "The token", body = TokenAnswer),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not an API key with the scope `tokens:write`"),
        (status = 422, description = "The request does not fit"),
    ),
)]
pub(crate) async fn mint(
    State(auth): State<Arc<Auth>>,
    Caller(principal): Caller,
    ApiJson(request): ApiJson<TokenRequest>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<TokenAnswer>), Problem> {
    require_scope(&principal, Scope::TokensWrite)?;
    let request = MintRequest {
        user: request.user,
        ttl: request.ttl.map(Duration::from_secs),
        device: request.device,
        topics: request.topics,
    };
    let minted = auth.mint(&principal.tenant, &request).await?;
    let answer = TokenAnswer {
        token: minted.token.expose_secret().to_owned(),
        expires_at: minted.expires_at,
        jti: minted.jti,
    };
    Ok((StatusCode::CREATED, [NO_STORE], Json(answer)))
}

impl From<MintError> for Problem {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Ttl => Self::invalid(vec![FieldError::new("/ttl", error.to_string())]),
            MintError::TooManyTopics | MintError::TooLarge => {
                Self::invalid(vec![FieldError::new("/topics", error.to_string())])
            }
            MintError::NoTenant => Self::not_found(),
            MintError::Random => Self::internal(&error),
            MintError::Unavailable(cause) => cause.into(),
        }
    }
}
