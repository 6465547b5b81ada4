//! Request bodies: how large and how slow they may be.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use super::Problem;

/// The largest body that [`read_body`] takes, in bytes. The edge puts its default (256 KiB) into every request; a
/// route overrides it by `.layer(axum::Extension(BodyLimit(8 * 1024 * 1024)))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub usize);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(256 * 1024)
    }
}

/// How slow a request's body may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// All of it must be there after this time.
    pub total: Duration,
    /// From this time on, [`Self::rate`] counts.
    pub grace: Duration,
    /// Bytes per second, averaged since the body's beginning.
    pub rate: u32,
}

/// Why a body ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It came in too slowly.
    #[error("the body did not arrive in time")]
    TooSlow,
}

/// A request's body that fails with [`BodyFault::TooSlow`] when it comes in more slowly than its [`Pacing`].
pub struct PacedBody<B> {
    inner: B,
    pacing: Pacing,
    /// When it was first waited for.
    began: Option<Instant>,
    received: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> PacedBody<B> {
    /// The clock starts when somebody first waits for the body.
    pub fn new(inner: B, pacing: Pacing) -> Self {
        Self {
            inner,
            pacing,
            began: None,
            received: 0,
            timer: None,
        }
    }

    /// When the body is too slow unless more of it has come.
    fn deadline(&mut self) -> Instant {
        let covered =
            Duration::from_millis(self.received.saturating_mul(1_000) / u64::from(self.pacing.rate.max(1)));
        *self.began.get_or_insert_with(Instant::now) + covered.max(self.pacing.grace).min(self.pacing.total)
    }
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        let deadline = this.deadline();
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Box::new(BodyFault::TooSlow)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads a request's whole body.
///
/// # Errors
/// 413 when it is larger than the request's [`BodyLimit`] (without reading it all), 408 when it came in too slowly,
/// 400 when it broke off.
pub async fn read_body(request: Request) -> Result<Bytes, Problem> {
    let limit = request
        .extensions()
        .get::<BodyLimit>()
        .copied()
        .unwrap_or_default()
        .0;
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Problem::too_large(limit));
    }
    collect(request.into_body(), limit).await
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    // Most bodies are one frame: then nothing is copied.
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else {
            continue;
        };
        if first.len().max(rest.len()) + data.len() > limit {
            return Err(Problem::too_large(limit));
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// What to answer when reading a body failed.
fn broken(error: &(dyn std::error::Error + 'static)) -> Problem {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(BodyFault::TooSlow) = error.downcast_ref() {
            return Problem::request_timeout();
        }
        cause = error.source();
    }
    Problem::malformed("The body broke off.")
}
