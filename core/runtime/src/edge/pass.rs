//! What every request passes on its way to the router, and every answer on its way back.
//!
//! In: trace id, sizes, tenant prefix, CORS preflight, what is refused before routing. Out: problems with path and
//! trace, security headers, CORS, metrics and one line in the log. Nothing here believes `X-Forwarded-*` or any other
//! header about who is calling.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, OriginalUri},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use carillon_domain::{Caller, Principal};
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::Service as _;
use tracing::Instrument as _;

use super::{
    Access, Cors, LimitsConfig, Peer, TakeOver, TraceId,
    checks::{ambiguous, check_host, check_query, check_sizes, is_operator},
    finish::finish,
    series::Series,
    stamp::Stamp,
    stream::{InProgress, Watch},
    take_over::Claims,
    tenant_path,
    unread::UnreadBody,
};
use crate::http::{BodyLimit, PacedBody, Pacing, Problem, ViaTls};

/// What all connections of an edge share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) limits: LimitsConfig,
    pub(super) cors: Cors,
    pub(super) access: Access,
    pub(super) tls: bool,
    pub(super) series: Series,
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
pub(super) struct Asked {
    pub(super) began: Instant,
    pub(super) trace: TraceId,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) path: String,
    pub(super) origin: Option<HeaderValue>,
    pub(super) preflight: bool,
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
        let span = tracing::info_span!("request", trace_id = %asked.trace, method = %asked.method, path = %logged(&asked.path));
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

/// A path as the log has it. Where a `~` stands, a signed link's parts begin: whoever holds all of them may use it.
fn logged(path: &str) -> Cow<'_, str> {
    match path.split_once('~') {
        None => Cow::Borrowed(path),
        Some((shown, _)) => Cow::Owned(format!("{shown}~...")),
    }
}

#[cfg(test)]
mod tests {
    use super::logged;

    #[test]
    fn the_log_has_no_signed_link_that_works() {
        assert_eq!(logged("/v1/inbox/ent_1"), "/v1/inbox/ent_1");
        assert_eq!(
            logged("/t/acme/v1/unsubscribe/usr_1~email~news~0af3"),
            "/t/acme/v1/unsubscribe/usr_1~..."
        );
    }
}
