//! What becomes of every answer on its way back.

use std::sync::Arc;

use axum::{body::Body, extract::MatchedPath, response::Response};
use http::{HeaderValue, StatusCode, Version, header};
use http_body::Body as _;

use super::{
    pass::{Asked, Shared},
    stamp::stamp,
};
use crate::http::Problem;

/// Everything behind the router.
pub(super) fn finish(shared: &Shared, asked: &Asked, response: Response) -> Response {
    let mut response = with_context(asked, response);
    let status = response.status();
    let headers = response.headers_mut();
    stamp(
        shared,
        asked.trace,
        asked.origin.as_ref(),
        asked.preflight,
        headers,
    );
    // What is left of such a request is not worth reading.
    let spoilt = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE
    );
    if spoilt && asked.version <= Version::HTTP_11 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record(shared, asked, &response);
    response
}

/// Whoever wrote an error answer, it becomes a problem with its path and trace.
fn with_context(asked: &Asked, mut response: Response) -> Response {
    let problem = match response.extensions_mut().remove::<Arc<Problem>>() {
        Some(problem) => problem,
        None if is_bare_error(&response) => Arc::new(standard_problem(response.status())),
        None => return response,
    };
    let body = problem.body(Some(&asked.path), Some(asked.trace.as_str()));
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    *response.body_mut() = Body::from(body);
    response
}

/// An error without a body of its own: axum's 404 and 405, and the plain text of its extractors.
fn is_bare_error(response: &Response) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error())
        && response.headers().get(header::CONTENT_TYPE).map_or_else(
            || {
                response
                    .body()
                    .size_hint()
                    .upper()
                    .is_some_and(|size| size < 1_024)
            },
            |of| of.as_bytes().starts_with(b"text/plain"),
        )
}

fn standard_problem(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::not_found(),
        StatusCode::METHOD_NOT_ALLOWED => Problem::method_not_allowed(None),
        StatusCode::UNAUTHORIZED => Problem::unauthorized(),
        StatusCode::FORBIDDEN => Problem::forbidden("The credential does not allow this."),
        StatusCode::REQUEST_TIMEOUT => Problem::request_timeout(),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "too_large", "The body is too large."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::unsupported_media_type("The body's type is not understood.")
        }
        StatusCode::UNPROCESSABLE_ENTITY => Problem::invalid(Vec::new()),
        StatusCode::TOO_MANY_REQUESTS => Problem::new(status, "too_many_requests", "Too many requests."),
        StatusCode::SERVICE_UNAVAILABLE => {
            Problem::new(status, "unavailable", "A part of the service is away. Try again.")
        }
        StatusCode::CONFLICT => {
            Problem::new(status, "conflict", "The request does not fit the present state.")
        }
        _ if status.is_server_error() => {
            Problem::new(status, "internal", "Something went wrong on our side.")
        }
        _ => Problem::new(status, "malformed_request", "The request is not understood."),
    }
}

fn record(shared: &Shared, asked: &Asked, response: &Response) {
    let status = response.status();
    let took = asked.began.elapsed();
    // Unknown paths share one label, or anybody could make series.
    let route = response.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str);
    shared.series.record(route, &asked.method, status, took);
    let (status, micros) = (status.as_u16(), took.as_micros());
    if status >= 500 {
        tracing::warn!(target: "carillon::access", status, micros, "answered");
    } else {
        tracing::debug!(target: "carillon::access", status, micros, "answered");
    }
}
