//! Request bodies that nobody read to their end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::stream::Watch;

/// A request's body that tells its connection when it is dropped before its end: then the client may still be
/// sending, and closing at once would reset the connection before the client has read its answer.
pub(super) struct UnreadBody<B: Body> {
    inner: B,
    watch: Arc<Watch>,
    ended: bool,
}

impl<B: Body> UnreadBody<B> {
    pub(super) fn new(inner: B, watch: Arc<Watch>) -> Self {
        Self {
            inner,
            watch,
            ended: false,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for UnreadBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let result = Pin::new(&mut self.inner).poll_frame(cx);
        self.ended |= matches!(result, Poll::Ready(None));
        result
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body> Drop for UnreadBody<B> {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.watch.set_unread();
        }
    }
}
