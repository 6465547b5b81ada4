//! Drives one HTTP/2 connection. Its streams stay on hyper.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::{
    connections::Slot,
    pass::Pass,
    stream::{Phase, Stream, Watched},
};
use crate::lifecycle::Stop;

/// An answer to a ping tells that the other end is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Resets by the client that wait to be handled (CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// Resets by us that a client may provoke before it is sent away.
const LOCAL_RESETS: usize = 1_024;

/// What a client may send before it is told to go on.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Time to end after an idle client was told to.
const GOODBYE: Duration = Duration::from_secs(1);

/// Runs the requests' futures where the drain waits for them.
#[derive(Clone)]
struct Tracked(TaskTracker, Stop);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let stop = self.1.clone();
        self.0.spawn(async move {
            tokio::select! {
                _ = future => {}
                () = stop.aborted() => {}
            }
        });
    }
}

/// Drives a connection to its end. `ahead` was read from it to learn its protocol.
pub(super) async fn drive(
    stream: Stream,
    ahead: Bytes,
    pass: Pass,
    slot: Slot,
    stop: Stop,
    tasks: TaskTracker,
) {
    let (shared, watch) = (Arc::clone(&pass.shared), Arc::clone(&pass.watch));
    let limits = &shared.limits;
    let io = TokioIo::new(Watched::new(stream, ahead, Arc::clone(&watch), false));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let pass = pass.clone();
        async move { Ok::<_, Infallible>(pass.answer(request).await) }
    });
    let connection = http2::Builder::new(Tracked(tasks, stop.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.headers.bytes() + limits.uri.bytes()).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    let of_phase = |phase| match phase {
        Phase::New | Phase::Head => Some(limits.header.duration()),
        Phase::Idle | Phase::Ending => Some(limits.idle.duration()),
        Phase::Busy => None,
    };
    let mut connection = pin!(connection);
    let mut leaving = None;
    loop {
        let far = Instant::now() + limits.write.duration();
        let deadline = watch.deadline(of_phase, limits.write.duration()).unwrap_or(far);
        let deadline = leaving.map_or(deadline, |leave: Instant| leave);
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection broke off");
                }
                break;
            }
            () = stop.aborted() => break,
            () = stop.finishing(), if leaving.is_none() => {
                connection.as_mut().graceful_shutdown();
                // Requests in progress have until the second stage.
                leaving = Some(Instant::now() + Duration::from_secs(86_400));
            }
            () = sleep_until(deadline) => {
                let due = watch.deadline(of_phase, limits.write.duration()).is_some_and(|due| due <= Instant::now());
                if leaving.is_some() || (due && watch.is_stalled()) {
                    break;
                }
                if due {
                    connection.as_mut().graceful_shutdown();
                    leaving = Some(Instant::now() + GOODBYE);
                }
            }
        }
    }
    drop(slot);
}
