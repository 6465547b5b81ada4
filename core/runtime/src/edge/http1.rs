//! Drives one HTTP/1.1 connection, until it ends or a stream takes it over.

use std::{convert::Infallible, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{
    ConnectionGuard, LimitsConfig, Peer, Socket, Taken, TraceId, checks,
    connections::Slot,
    pass::{AnswerBody, Pass},
    stamp::set_security_headers,
    stream::{Phase, Stream, Watch, Watched},
    stream_head::stream_head,
    take_over::{Claim, claims},
};
use crate::{http::Problem, lifecycle::Stop};

/// How long, and how much, a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;

/// How the driving of a connection ended.
enum End {
    /// hyper is done with it.
    Done(hyper::Result<()>),
    /// A handler wants the socket.
    Claimed(Claim),
    /// The client was too slow, in this phase.
    Late(Phase),
    /// The process stops.
    Cut,
}

/// Drives a connection to its end. `ahead` was read from it to learn its protocol.
pub(super) async fn drive(stream: Stream, ahead: Bytes, mut pass: Pass, slot: Slot, stop: Stop) {
    let (claims, mut claimed) = claims();
    // The owner of a stream knows TCP sockets only.
    if matches!(pass.peer, Peer::Tcp(_)) {
        pass.claims = Some(claims);
    }
    let (shared, watch, peer) = (Arc::clone(&pass.shared), Arc::clone(&pass.watch), pass.peer);
    let limits = &shared.limits;
    let io = TokioIo::new(Watched::new(stream, ahead, Arc::clone(&watch), true));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let pass = pass.clone();
        Box::pin(async move { Ok::<_, Infallible>(pass.answer(request).await) })
    });
    let mut connection = http1::Builder::new()
        // Timers of its own would not cover a connection's first byte; the driver keeps all of them.
        .header_read_timeout(None)
        .max_buf_size(head_limit(limits))
        .serve_connection(io, service);
    let end = poll_to_end(&mut connection, &mut claimed, &watch, limits, &stop).await;
    let parts = connection.into_parts();
    drop(parts.service);
    let (stream, ahead) = parts.io.into_inner().into_parts();
    match end {
        End::Claimed(claim) => {
            let read = join(&parts.read_buf, &ahead);
            drop((parts.read_buf, ahead));
            hand_over(stream, read, peer, claim, slot, limits).await;
        }
        End::Late(Phase::Head) if parts.read_buf.contains(&b'\n') => {
            refuse(stream, Problem::request_timeout(), shared.tls, limits).await;
        }
        End::Done(Err(error)) if watch.is_refused() => {
            tracing::debug!(%error, "not an HTTP request");
            refuse(stream, fault(&error, &parts.read_buf, limits), shared.tls, limits).await;
        }
        End::Done(Ok(())) => close(stream, watch.must_linger(), limits).await,
        End::Done(Err(error)) => tracing::debug!(%error, "connection broke off"),
        End::Late(phase) => tracing::debug!(?phase, stalled = watch.is_stalled(), "client too slow"),
        End::Cut => {}
    }
}

/// A request's whole head may be this long; what is longer hyper refuses before it is parsed.
fn head_limit(limits: &LimitsConfig) -> usize {
    // Room beyond the limits, so that what is only a little too large gets the right one of 414 and 431.
    limits.uri.as_usize() + limits.headers.as_usize() + 8 * 1024
}

async fn poll_to_end<S>(
    connection: &mut http1::Connection<TokioIo<Watched>, S>,
    claims: &mut oneshot::Receiver<Claim>,
    watch: &Watch,
    limits: &LimitsConfig,
    stop: &Stop,
) -> End
where
    S: hyper::service::HttpService<Incoming, ResBody = AnswerBody> + Unpin,
    S::Future: Unpin,
    S::Error: Into<axum::BoxError>,
{
    let of_phase = |phase| match phase {
        Phase::New => Some(limits.first_byte.duration()),
        Phase::Head => Some(limits.header.duration()),
        Phase::Idle | Phase::Ending => Some(limits.idle.duration()),
        Phase::Busy => None,
    };
    let mut timer = std::pin::pin!(sleep_until(Instant::now() + limits.first_byte.duration()));
    let mut finishing = std::pin::pin!(stop.finishing());
    let mut aborted = std::pin::pin!(stop.aborted());
    let mut is_registered = false;
    let mut is_finishing = false;
    let mut claim = None;
    poll_fn(move |cx| {
        // Once is enough to be woken: a connection stays in its task.
        if !is_registered {
            let _ = (finishing.as_mut().poll(cx), aborted.as_mut().poll(cx));
            is_registered = true;
        }
        if stop.is_aborted() {
            return Poll::Ready(End::Cut);
        }
        if !is_finishing && stop.is_finishing() {
            is_finishing = true;
            // hyper takes a connection that has brought nothing yet for one in use.
            if watch.phase() == Phase::New {
                return Poll::Ready(End::Cut);
            }
            Pin::new(&mut *connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
            return Poll::Ready(End::Done(result));
        }
        if claim.is_none()
            && let Poll::Ready(Ok(claimed)) = Pin::new(&mut *claims).poll(cx)
        {
            claim = Some(claimed);
        }
        // Earlier answers must have left hyper's buffer, or they would be lost with it.
        if watch.is_flushed()
            && let Some(claim) = claim.take()
        {
            return Poll::Ready(End::Claimed(claim));
        }
        while let Some(deadline) = watch.deadline(of_phase, limits.write.duration()) {
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(End::Late(watch.phase()));
            }
        }
        Poll::Pending
    })
    .await
}

/// hyper read `first`; what it had not asked for yet came after that. A copy, since even an empty piece of hyper's
/// buffer would keep its 8 KiB alive for as long as the stream lives.
fn join(first: &[u8], then: &[u8]) -> Bytes {
    if first.is_empty() && then.is_empty() {
        Bytes::new()
    } else {
        [first, then].concat().into()
    }
}

/// Writes the head and gives the socket to its new owner.
async fn hand_over(
    mut stream: Stream,
    read: Bytes,
    peer: Peer,
    claim: Claim,
    slot: Slot,
    limits: &LimitsConfig,
) {
    if write(&mut stream, &claim.head, limits).await.is_err() {
        return;
    }
    let Peer::Tcp(peer) = peer else { return };
    let socket = match stream {
        Stream::Tcp(stream) => Socket::Plain(stream),
        Stream::Tls(stream) => {
            let (stream, tls) = stream.into_inner();
            Socket::Tls(stream, Box::new(tls))
        }
        Stream::Unix(_) => return,
    };
    metrics::counter!("carillon_http_taken_over_total").increment(1);
    (claim.owner)(Taken {
        socket,
        read,
        peer,
        guard: ConnectionGuard(Some(Box::new(slot))),
    });
}

async fn write(stream: &mut Stream, bytes: &[u8], limits: &LimitsConfig) -> std::io::Result<()> {
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    timeout(limits.write.duration(), write)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Which problem it is that hyper could not read a request.
fn fault(error: &hyper::Error, read: &[u8], limits: &LimitsConfig) -> Problem {
    if error.is_parse_too_large() {
        let first_line = read.iter().position(|byte| *byte == b'\n').unwrap_or(read.len());
        return if first_line > limits.uri.as_usize() {
            checks::uri_too_long()
        } else {
            checks::headers_too_large()
        };
    }
    Problem::malformed("This is not a well-formed HTTP request.")
}

/// Answers what never became a request, and closes.
async fn refuse(mut stream: Stream, problem: Problem, tls: bool, limits: &LimitsConfig) {
    let head = bare_answer(problem, tls);
    if write(&mut stream, &head, limits).await.is_ok() {
        close(stream, true, limits).await;
    }
}

/// An answer as bytes; its body is in it.
fn bare_answer(problem: Problem, tls: bool) -> Vec<u8> {
    let trace = TraceId::random();
    let body = problem.body(None, Some(trace.as_str()));
    let status: StatusCode = problem.status;
    metrics::counter!("carillon_http_requests_total", "method" => "other", "route" => "none",
        "status" => status.as_str().to_owned())
    .increment(1);
    let mut response: Response = problem.into_response();
    let headers = response.headers_mut();
    set_security_headers(headers, tls);
    headers.insert("x-trace-id", trace.header());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut bytes = stream_head(status, headers).to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

/// Says that nothing more comes. While the client may still be sending, its bytes are read and dropped for a while:
/// closing with unread bytes would reset the connection, and the answer could be lost with it.
async fn close(mut stream: Stream, linger: bool, limits: &LimitsConfig) {
    if !matches!(
        timeout(limits.write.duration().min(LINGER), stream.shutdown()).await,
        Ok(Ok(()))
    ) || !linger
    {
        return;
    }
    let drain = async {
        let mut left = LINGER_BYTES;
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(LINGER, drain).await;
}
