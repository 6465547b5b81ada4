use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use carillon_domain::{TenantId, Timestamp, ports::AuthError};
use carillon_runtime::http::{ApiJson, Problem, clear_stream_cookie, set_stream_cookie, stream_cookies};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{PathTenant, tokens::NO_STORE};
use crate::{
    Auth, api_key,
    refusal::{Credential, Refusal},
    session::Session,
    ticket::HandOutError,
};

/// What to trade the token for.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TicketRequest {
    /// `ticket` unless given.
    mode: TicketMode,
}

/// The two ways in for a native `EventSource`, which cannot send headers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TicketMode {
    /// A ticket for `/v1/stream?ticket=`, good for one use.
    #[default]
    Ticket,
    /// A cookie that the browser sends to `/v1/stream` by itself.
    Cookie,
}

/// A ticket.
// No `Debug`: it holds a secret.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct TicketAnswer {
    /// For `/v1/stream?ticket=`, good for one use.
    ticket: String,
    /// Until when it works.
    expires_at: Timestamp,
}

/// Trades a user's token for a one-time ticket or the stream cookie.
#[utoipa::path(
    post,
    path = "/v1/stream/tickets",
    tag = "Identity",
    request_body = Option<TicketRequest>,
    responses(
        (status = 201, description = "A ticket", body = TicketAnswer),
        (status = 204, description = "The cookie `carillon_stream` is set"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not a user's token"),
    ),
)]
pub(crate) async fn hand_out(
    State(auth): State<Arc<Auth>>,
    PathTenant(tenant): PathTenant,
    extensions: Extensions,
    headers: HeaderMap,
    request: Option<ApiJson<TicketRequest>>,
) -> Result<Response, Problem> {
    // A ticket carries what its token says, so that the token itself is looked at here and not only its caller.
    let session = match bearer(&headers) {
        Some(token) if api_key::is_key(token) => {
            let caller = auth
                .keys
                .verify(&*auth.store, &tenant, token, auth.clock.now())
                .await;
            caller.map_err(|refusal| problem(refusal.audited(&tenant, Credential::ApiKey)))?;
            return Err(Problem::forbidden("This needs a user's token, not an API key."));
        }
        Some(token) => session_of(&auth, &tenant, token).await.map_err(problem)?,
        None => return Err(Problem::unauthorized()),
    };
    match request.map(|ApiJson(request)| request.mode).unwrap_or_default() {
        TicketMode::Ticket => {
            let ticket = auth.hand_out_ticket(&tenant, &session).await?;
            let answer = TicketAnswer {
                ticket: ticket.text,
                expires_at: ticket.expires_at,
            };
            Ok((StatusCode::CREATED, [NO_STORE], Json(answer)).into_response())
        }
        TicketMode::Cookie => {
            let value = auth.hand_out_cookie(&tenant, &session).await?;
            Ok(with_cookie(set_stream_cookie(&extensions, &tenant, &value)))
        }
    }
}

/// Logs out: ends the token (or the one behind the stream cookie), its tickets, cookies and connections.
#[utoipa::path(
    delete,
    path = "/v1/stream/tickets",
    tag = "Identity",
    responses(
        (status = 204, description = "Logged out; the cookie is taken away"),
        (status = 401, description = "No valid credential"),
    ),
)]
pub(crate) async fn log_out(
    State(auth): State<Arc<Auth>>,
    PathTenant(tenant): PathTenant,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let done = || with_cookie(clear_stream_cookie(&extensions, &tenant));
    let mut refused = None;
    let mut ended = false;
    if let Some(token) = bearer(&headers) {
        match session_of(&auth, &tenant, token).await {
            Ok(session) => {
                auth.log_out(&tenant, &session).await?;
                ended = true;
            }
            Err(AuthError::Revoked) => ended = true,
            Err(error) => refused = Some(error),
        }
    }
    for cookie in stream_cookies(&headers) {
        match auth.session_of_cookie(&tenant, cookie, auth.clock.now()).await {
            Ok((_, verified)) => {
                auth.log_out(&tenant, &verified.session).await?;
                ended = true;
            }
            Err(Refusal::Revoked) => ended = true,
            Err(refusal) => refused = Some(refusal.audited(&tenant, Credential::StreamCookie)),
        }
    }
    match refused {
        _ if ended => Ok(done()),
        Some(error) => Err(problem(error)),
        None => Err(Problem::unauthorized()),
    }
}

async fn session_of(auth: &Auth, tenant: &TenantId, token: &str) -> Result<Session, AuthError> {
    match auth.token(tenant, token, auth.clock.now()).await {
        Ok(verified) => Ok(verified.session.clone()),
        Err(refusal) => Err(refusal.audited(tenant, Credential::Token)),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim())
}

fn with_cookie(cookie: Option<HeaderValue>) -> Response {
    let mut response = (StatusCode::NO_CONTENT, [NO_STORE]).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn problem(error: AuthError) -> Problem {
    match error {
        AuthError::Unavailable(cause) => cause.into(),
        AuthError::Invalid | AuthError::Expired | AuthError::Revoked => Problem::unauthorized(),
    }
}

impl From<HandOutError> for Problem {
    fn from(error: HandOutError) -> Self {
        match error {
            HandOutError::Ended => Self::unauthorized(),
            HandOutError::Random => Self::internal(&error),
            HandOutError::Unavailable(cause) => cause.into(),
        }
    }
}
