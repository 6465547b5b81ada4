//! What every request passes on its way to the router, and every answer on its way back.
//!
//! In: trace id, sizes, tenant prefix, CORS preflight, what is refused before routing. Out: problems with path and
//! trace, security headers, CORS, metrics and one line in the log. Nothing here believes `X-Forwarded-*` or any other
//! header about who is calling.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, MatchedPath, OriginalUri},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use carillon_domain::{Caller, Principal};
use futures_util::FutureExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header, request::Parts,
};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::Service as _;
use tracing::Instrument as _;

use super::{
    Access, Cors, LimitsConfig, Peer, TakeOver, TraceId,
    stream::{InProgress, Watch},
    take_over::Claims,
    tenant_path,
    unread::UnreadBody,
};
use crate::http::{BodyLimit, PacedBody, Pacing, Problem, ViaTls};

/// hyper's own default for HTTP/1.1; HTTP/2 is held to the same.
const MAX_HEADERS: usize = 100;

/// Query parameters that carry a bearer credential elsewhere on the web.
const CREDENTIALS: [&str; 6] = [
    "access_token",
    "token",
    "authorization",
    "api_key",
    "apikey",
    "jwt",
];

/// What all connections of an edge share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) limits: LimitsConfig,
    pub(super) cors: Cors,
    pub(super) access: Access,
    pub(super) tls: bool,
}

/// One connection's side of it.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    pub(super) watch: Arc<Watch>,
    pub(super) claims: Option<Claims>,
}

/// What the way back needs to know about the request.
struct Asked {
    began: Instant,
    trace: TraceId,
    method: Method,
    version: Version,
    path: String,
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl Pass {
    /// Answers one request. Never fails.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Response<AnswerBody> {
        let in_progress = self.watch.begin();
        let (parts, body) = request.into_parts();
        let asked = Asked {
            began: Instant::now(),
            trace: TraceId::of(&parts.headers),
            method: parts.method.clone(),
            version: parts.version,
            path: parts.uri.path().to_owned(),
            origin: parts.headers.get(header::ORIGIN).cloned(),
            preflight: false,
        };
        let span = tracing::info_span!("request", trace_id = %asked.trace, method = %asked.method, path = %asked.path);
        self.answer_within(asked, parts, body, in_progress)
            .instrument(span)
            .await
    }

    async fn answer_within(
        self,
        mut asked: Asked,
        parts: Parts,
        body: Incoming,
        in_progress: InProgress,
    ) -> Response<AnswerBody> {
        let shared = Arc::clone(&self.shared);
        let body = if body.is_end_stream() {
            Body::empty()
        } else {
            let pacing = Pacing {
                total: shared.limits.body_total.duration(),
                grace: shared.limits.body_grace.duration(),
                rate: u32::try_from(shared.limits.body_rate.bytes()).unwrap_or(u32::MAX),
            };
            Body::new(UnreadBody::new(
                PacedBody::new(body, pacing),
                Arc::clone(&self.watch),
            ))
        };
        let mut router = shared.router.clone();
        let admitted = if in_progress.ambiguous {
            Err(ambiguous())
        } else {
            self.admit(&mut asked, parts, body)
        };
        let response = match admitted {
            Ok(Admitted::Answered(response)) => response,
            Ok(Admitted::Request(request)) => {
                let routed = AssertUnwindSafe(async move { router.call(request).await }).catch_unwind();
                match routed.await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => {
                        metrics::counter!("carillon_http_panics_total").increment(1);
                        tracing::error!("a handler panicked");
                        let detail = "Something went wrong on our side.";
                        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
                    }
                }
            }
            Err(problem) => problem.into_response(),
        };
        let mut response = finish(&shared, &asked, response);
        if in_progress.ambiguous {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| AnswerBody {
            body,
            _in_progress: in_progress,
        })
    }

    /// Everything before the router.
    fn admit(&self, asked: &mut Asked, mut parts: Parts, body: Body) -> Result<Admitted, Problem> {
        let shared = &self.shared;
        check_sizes(&shared.limits, &parts)?;
        check_host(&parts)?;
        let original = OriginalUri(parts.uri.clone());
        let tenant = tenant_path::split(&mut parts.uri)?;
        if let Some(preflight) = shared.cors.preflight(&parts.method, &parts.headers) {
            asked.preflight = true;
            return preflight.map(|status| Admitted::Answered(status.into_response()));
        }
        if matches!(parts.method, Method::TRACE | Method::CONNECT) {
            return Err(Problem::method_not_allowed(Some(
                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
            )));
        }
        if parts
            .headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .any(|coding| coding.as_bytes() != b"identity")
        {
            return Err(Problem::unsupported_media_type(
                "Request bodies must not be compressed.",
            ));
        }
        if parts.uri.path().starts_with("/v1") {
            check_query(parts.uri.query())?;
        }
        let operator = shared.access == Access::Operator && is_operator(self.peer, &parts);
        let whole = body.is_end_stream();
        let extensions = &mut parts.extensions;
        // hyper's way out of HTTP would lead around the take-over.
        extensions.remove::<hyper::upgrade::OnUpgrade>();
        if operator {
            extensions.insert(Principal {
                tenant: tenant.clone(),
                caller: Caller::Operator,
            });
        }
        extensions.insert(tenant);
        extensions.insert(original);
        extensions.insert(ViaTls(shared.tls));
        extensions.insert(asked.trace);
        extensions.insert(self.peer);
        extensions.insert(BodyLimit(shared.limits.body.as_usize()));
        extensions.insert(shared.cors.clone());
        if let Peer::Tcp(address) = self.peer {
            extensions.insert(ConnectInfo(address));
        }
        // What would be left of a body belongs to the request and not to the stream that follows.
        if let Some(claims) = self
            .claims
            .as_ref()
            .filter(|_| whole && parts.version == Version::HTTP_11)
        {
            let stamp = Stamp {
                shared: Arc::clone(shared),
                trace: asked.trace,
                origin: asked.origin.clone(),
            };
            extensions.insert(TakeOver::new(claims, stamp));
        }
        Ok(Admitted::Request(Request::from_parts(parts, body)))
    }
}

enum Admitted {
    Request(Request<Body>),
    Answered(Response),
}

fn check_sizes(limits: &LimitsConfig, parts: &Parts) -> Result<(), Problem> {
    let uri = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if uri as u64 > limits.uri.bytes() {
        return Err(uri_too_long());
    }
    let size: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if parts.headers.len() > MAX_HEADERS || size as u64 > limits.headers.bytes() {
        return Err(headers_too_large());
    }
    Ok(())
}

fn ambiguous() -> Problem {
    Problem::malformed("The request's head can be read in two ways.")
}

pub(super) fn uri_too_long() -> Problem {
    Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", "The URI is too long.")
}

pub(super) fn headers_too_large() -> Problem {
    let detail = "The request has too many headers, or too large ones.";
    Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers_too_large",
        detail,
    )
}

/// RFC 9112, 3.2: exactly one `Host`.
fn check_host(parts: &Parts) -> Result<(), Problem> {
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
        return Err(Problem::malformed("A request has exactly one Host header."));
    }
    Ok(())
}

fn check_query(query: Option<&str>) -> Result<(), Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    let carries = url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known)));
    if carries {
        let detail = "A credential in a URL ends up in logs. Send it in the Authorization header.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "credential_in_url", detail));
    }
    Ok(())
}

/// A page in a browser on this machine can reach the internal listener too: by a cross-origin request, or under a name
/// of its own that resolves to this machine. Neither is the operator.
fn is_operator(peer: Peer, parts: &Parts) -> bool {
    if parts.headers.contains_key(header::ORIGIN) {
        return false;
    }
    if peer == Peer::Unix {
        return true;
    }
    let host = parts
        .uri
        .authority()
        .map(|authority| Cow::Borrowed(authority.as_str()))
        .or_else(|| {
            parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .map(Cow::Borrowed)
        });
    host.is_some_and(|host| is_literal(&host))
}

/// Whether a host with or without a port is an address or `localhost`.
fn is_literal(host: &str) -> bool {
    host.parse::<std::net::SocketAddr>().is_ok() || {
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name);
        name.eq_ignore_ascii_case("localhost")
            || name
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<std::net::IpAddr>()
                .is_ok()
    }
}

/// Everything behind the router.
fn finish(shared: &Shared, asked: &Asked, response: Response) -> Response {
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
    record(asked, &response);
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

/// What every answer carries.
fn stamp(
    shared: &Shared,
    trace: TraceId,
    origin: Option<&HeaderValue>,
    preflight: bool,
    headers: &mut HeaderMap,
) {
    set_security_headers(headers, shared.tls);
    headers.insert("x-trace-id", trace.header());
    shared.cors.decorate(origin, preflight, headers);
}

/// What every answer carries, for one that a handler writes itself.
#[derive(Clone)]
pub(super) struct Stamp {
    shared: Arc<Shared>,
    trace: TraceId,
    origin: Option<HeaderValue>,
}

impl Stamp {
    /// Adds to a response head what it does not have.
    pub(super) fn put_on(&self, head: &[u8]) -> Bytes {
        let mut headers = HeaderMap::new();
        stamp(
            &self.shared,
            self.trace,
            self.origin.as_ref(),
            false,
            &mut headers,
        );
        let known: Vec<String> = head
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.split(|byte| *byte == b':').next())
            .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
            .collect();
        let mut stamped = head.strip_suffix(b"\r\n").unwrap_or(head).to_vec();
        for (name, value) in &headers {
            if !known.iter().any(|known| known == name.as_str()) {
                push_line(&mut stamped, name, value);
            }
        }
        stamped.extend_from_slice(b"\r\n");
        stamped.into()
    }
}

/// One line of a head.
pub(super) fn push_line(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

pub(super) fn set_security_headers(headers: &mut HeaderMap, tls: bool) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

fn record(asked: &Asked, response: &Response) {
    let status = response.status();
    let took = asked.began.elapsed();
    // Unknown paths share one label, or anybody could make series.
    let route = response.extensions().get::<MatchedPath>();
    let route: Cow<'static, str> =
        route.map_or(Cow::Borrowed("none"), |path| path.as_str().to_owned().into());
    let method = match asked.method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let code = status.as_str().to_owned();
    metrics::histogram!("carillon_http_request_duration_seconds", "method" => method, "route" => route.clone())
        .record(took);
    metrics::counter!("carillon_http_requests_total", "method" => method, "route" => route, "status" => code)
        .increment(1);
    let (status, micros) = (status.as_u16(), took.as_micros());
    if status >= 500 {
        tracing::warn!(target: "carillon::access", status, micros, "answered");
    } else {
        tracing::debug!(target: "carillon::access", status, micros, "answered");
    }
}

/// An answer's body; with its end the request is no longer in progress.
pub(super) struct AnswerBody {
    body: Body,
    _in_progress: InProgress,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
