//! RFC 9457 problem+json: the one shape of every error answer.

use std::{borrow::Cow, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// One fault in the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) into the request body; a query parameter is `?name`.
    pub pointer: String,
    /// What was expected there.
    pub detail: Cow<'static, str>,
}

impl FieldError {
    /// `detail` is wrong at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

/// An error answer (RFC 9457). Causes never stand in it: log them once, where they are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable word for programs; also the last part of `type`.
    pub code: &'static str,
    /// One sentence for people.
    pub detail: Cow<'static, str>,
    /// What is wrong where, if the input is at fault.
    pub errors: Vec<FieldError>,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
    /// The methods for `Allow`.
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem with a status, a code and a sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            allow: None,
        }
    }

    /// 400 `malformed_request`.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_request", detail)
    }

    /// 401 `invalid_token`, the same whatever was wrong.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "The credential is missing or not valid.",
        )
    }

    /// 403 `forbidden`.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404 `not_found`, the same for absent and for another tenant's.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing here.")
    }

    /// 400 `malformed_request` at one query parameter.
    pub fn malformed_query(name: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            errors: vec![FieldError::new(format!("?{name}"), detail)],
            ..Self::malformed("A query parameter is not understood.")
        }
    }

    /// 405 `method_not_allowed`.
    pub fn method_not_allowed(allow: Option<&'static str>) -> Self {
        let detail = "This resource does not know the method.";
        Self {
            allow,
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        }
    }

    /// 408 `request_timeout`.
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The request did not arrive in time.",
        )
    }

    /// 413 `too_large`.
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("The body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415 `unsupported_media_type`.
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
    }

    /// 422 `invalid_request` at one place of the body.
    pub fn field(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, detail)])
    }

    /// 422 `invalid_request` with what is wrong where.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_request",
                "The request does not fit its schema.",
            )
        }
    }

    /// 503 `unavailable`: a backend is away; `cause` goes to the log.
    pub fn unavailable(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "a backend did not answer");
        Self {
            retry_after: Some(1),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "A part of the service is away. Try again.",
            )
        }
    }

    /// 500 `internal`: ours to fix; `cause` goes to the log.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong on our side.",
        )
    }
}

impl From<carillon_domain::ports::Unavailable> for Problem {
    fn from(error: carillon_domain::ports::Unavailable) -> Self {
        Self::unavailable(&error)
    }
}

/// In Centrifugo's numbers: 100 internal, 103 permission denied, 107 bad request.
impl From<Problem> for carillon_domain::ports::RpcError {
    fn from(problem: Problem) -> Self {
        let code = match problem.status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => 103,
            status if status.is_client_error() => 107,
            _ => 100,
        };
        let message = match problem.errors.first() {
            // The pointer to the whole is empty.
            Some(first) if first.pointer.is_empty() => first.detail.to_string(),
            Some(first) => format!("{}: {}", first.pointer, first.detail),
            None => problem.detail.into_owned(),
        };
        Self {
            code,
            message,
            temporary: problem.status == StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error answer (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// A URI that ends with the code.
    r#type: String,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// One sentence for people.
    detail: &'a str,
    /// The request's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    instance: Option<&'a str>,
    /// A stable word for programs.
    code: &'a str,
    /// What the log calls this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    trace_id: Option<&'a str>,
    /// What is wrong where; absent unless the input is at fault.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FieldError],
}

impl Problem {
    /// As `application/problem+json`. `instance` is the request's path without its query.
    pub(crate) fn body(&self, instance: Option<&str>, trace_id: Option<&str>) -> Vec<u8> {
        let body = ProblemBody {
            r#type: format!("https://carillon.dev/problems/{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            code: self.code,
            trace_id,
            errors: &self.errors,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body(None, None)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        // The edge knows the path and the trace, and writes the body again with them.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
