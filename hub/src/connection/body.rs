//! A stream on HTTP/2: hyper keeps the socket and asks for frames.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{Connection, Phase, pipe::Pipe};
use crate::hub::Hub;

/// What hyper is given at a time: it keeps that much beside our queue.
const PART: usize = 16 * 1024;

/// The body of a stream's response. Dropping it ends the connection.
pub(crate) struct StreamBody {
    hub: Arc<Hub>,
    connection: Arc<Connection>,
}

impl StreamBody {
    pub(crate) fn new(hub: Arc<Hub>, connection: Arc<Connection>) -> Self {
        Self { hub, connection }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let connection = &self.connection;
        let mut out = connection.out.lock();
        if let Some(bytes) = out.queue.take(PART) {
            out.moved_at = connection.shared.millis();
            if out.queue.is_empty() {
                connection.drained.notify_waiters();
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if out.phase != Phase::Open {
            out.phase = Phase::Ended;
            return Poll::Ready(None);
        }
        if let Pipe::Body(waker) = &connection.pipe {
            *waker.lock() = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.connection.abort();
        self.hub.forget(&self.connection);
    }
}
