//! Heartbeats of a page that listens by `EventSource`: the stream cookie that lets it listen lets it say who looks.

use std::sync::Arc;

use axum::{
    extract::{FromRequest as _, Request, State},
    response::{IntoResponse as _, Response},
};
use carillon_domain::{TenantId, ports::RpcError};
use carillon_runtime::http::{ApiJsonBytes, Problem};
use http::{StatusCode, header};
use serde_json::{Map, Value};

use super::credential::{self, Admission};
use crate::Hub;

/// The method that takes heartbeats, whichever room brings it.
const METHOD: &str = "carillon.activity";

/// As `POST /v1/activity`, also with the stream cookie: the browser sends it only below `/v1/stream`.
#[utoipa::path(
    post,
    path = "/v1/stream/activity",
    tag = "stream",
    responses(
        (status = 200, description = "As `POST /v1/activity` answers"),
        (status = 401, description = "No valid credential"),
        (status = 403, description = "Not a user's, or a foreign page's cookie"),
        (status = 422, description = "As `POST /v1/activity`"),
    ),
    security(("bearer" = []), ("stream_cookie" = []))
)]
pub(crate) async fn beat(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let tenant = parts.extensions.get::<TenantId>().cloned().unwrap_or_default();
    let origins = &hub.shared.config.allowed_origins;
    let admission = credential::admit(&*hub.ports.authenticate, &tenant, None, &parts, origins).await?;
    let Admission::Admitted(principal, _) = admission else {
        return Err(Problem::unauthorized());
    };
    // Only JSON: a form that another page sends carries the cookie along.
    let ApiJsonBytes(_, body): ApiJsonBytes<Map<String, Value>> =
        ApiJsonBytes::from_request(Request::from_parts(parts, body), &()).await?;
    match hub.ports.rpc.call(&principal, METHOD, body).await {
        Some(Ok(answer)) => Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response()),
        Some(Err(error)) => Err(problem(error)),
        None => Err(Problem::not_found()),
    }
}

/// What a call refused, as an answer.
fn problem(error: RpcError) -> Problem {
    match error.code {
        103 => Problem::forbidden(error.message),
        107 => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", error.message),
        _ => Problem {
            retry_after: Some(1),
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.message)
        },
    }
}
