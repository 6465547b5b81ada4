//! A connection's bytes, and what can be learned from watching them pass.
//!
//! hyper owns the socket while it drives it. Whether a client is silent, slow with its head or takes no answer is seen
//! here, at the socket, and so are the two things that the take-over and own error answers hang on: whether hyper has
//! written all that it buffered, and whether it answers on its own because it could not parse a request.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tokio_rustls::server::TlsStream;

use super::head_scan::HeadScan;

/// A connection's socket.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Where an HTTP/1.1 connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has come yet.
    New,
    /// A request's head is coming in.
    Head,
    /// A request is being answered.
    Busy,
    /// The answer's last byte is with hyper, and maybe not yet with the socket.
    Ending,
    /// Between two requests.
    Idle,
}

/// What has been seen of a connection. Shared by its socket, its driver and its requests, which all run in one task
/// on HTTP/1.1.
pub(super) struct Watch(Mutex<Seen>);

struct Seen {
    phase: Phase,
    since: Instant,
    /// The head that is coming in.
    head: HeadScan,
    /// Requests in progress (more than one on HTTP/2).
    requests: usize,
    /// Since when the socket has taken nothing of what was to be written.
    stalled: Option<Instant>,
    /// hyper's buffer has been empty since the current request began.
    flushed: bool,
    /// hyper wrote an answer while no request was being answered: it could not parse one.
    refused: bool,
    /// The client may still be sending what nobody reads.
    unread: bool,
    /// The client has closed its side.
    ended: bool,
}

impl Watch {
    pub(super) fn new(phase: Phase) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Seen {
            phase,
            since: Instant::now(),
            head: HeadScan::default(),
            requests: 0,
            stalled: None,
            flushed: true,
            refused: false,
            unread: false,
            ended: false,
        })))
    }

    pub(super) fn phase(&self) -> Phase {
        self.0.lock().phase
    }

    /// When the connection is too late, by its phase, and by how long the client has taken nothing.
    pub(super) fn deadline(
        &self,
        of: impl Fn(Phase) -> Option<Duration>,
        write: Duration,
    ) -> Option<Instant> {
        let seen = self.0.lock();
        let phase = of(seen.phase).map(|limit| seen.since + limit);
        let stall = seen.stalled.map(|since| since + write);
        phase.into_iter().chain(stall).min()
    }

    /// A request has reached the service; dropping what this gives ends it.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        let mut seen = self.0.lock();
        let head = std::mem::take(&mut seen.head);
        seen.phase = Phase::Busy;
        seen.requests += 1;
        seen.flushed = false;
        InProgress {
            watch: Arc::clone(self),
            ambiguous: head.is_ambiguous(),
        }
    }

    /// hyper has nothing buffered, so that the socket may be taken from it.
    pub(super) fn is_flushed(&self) -> bool {
        self.0.lock().flushed
    }

    pub(super) fn is_refused(&self) -> bool {
        self.0.lock().refused
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.0.lock().stalled.is_some()
    }

    pub(super) fn set_unread(&self) {
        self.0.lock().unread = true;
    }

    /// Whether closing right now could destroy an answer that the client has not read yet.
    pub(super) fn must_linger(&self) -> bool {
        let seen = self.0.lock();
        seen.unread && !seen.ended
    }
}

/// One request in progress.
pub(super) struct InProgress {
    watch: Arc<Watch>,
    /// Others may read its head differently.
    pub(super) ambiguous: bool,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut seen = self.watch.0.lock();
        seen.requests -= 1;
        if seen.requests == 0 {
            seen.phase = Phase::Ending;
            seen.since = Instant::now();
        }
    }
}

/// A [`Stream`] that gives back first what was read ahead, and tells its [`Watch`] what passes.
pub(super) struct Watched {
    stream: Stream,
    ahead: Bytes,
    watch: Arc<Watch>,
    /// On HTTP/1.1 what comes outside a request begins one, and what goes out is an answer of hyper's own; on HTTP/2
    /// frames pass at any time.
    http1: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream, ahead: Bytes, watch: Arc<Watch>, http1: bool) -> Self {
        Self {
            stream,
            ahead,
            watch,
            http1,
        }
    }

    /// The socket, and what was read ahead and not given back.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.ahead)
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        let mut seen = self.watch.0.lock();
        match result {
            Poll::Pending => {
                seen.stalled.get_or_insert_with(Instant::now);
            }
            Poll::Ready(_) => {
                seen.stalled = None;
                // An answer that is still going out is no pause.
                if seen.phase == Phase::Ending {
                    seen.since = Instant::now();
                }
            }
        }
    }

    /// Swallows hyper's own answers: the driver writes a better one.
    fn refuse(&self) -> bool {
        if !self.http1 {
            return false;
        }
        let mut seen = self.watch.0.lock();
        let outside = matches!(seen.phase, Phase::New | Phase::Head | Phase::Idle);
        seen.refused |= outside;
        outside
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        } else {
            let count = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..count]);
            this.ahead.advance(count);
        }
        let mut seen = this.watch.0.lock();
        if buf.filled().len() == before {
            seen.ended |= buf.remaining() > 0;
        } else if this.http1 && matches!(seen.phase, Phase::New | Phase::Head | Phase::Idle) {
            if seen.phase != Phase::Head {
                seen.phase = Phase::Head;
                seen.since = Instant::now();
                seen.head = HeadScan::default();
            }
            seen.head.read(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refuse() {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refuse() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        let mut seen = this.watch.0.lock();
        match result {
            // hyper flushes the socket only when its own buffer is empty.
            Poll::Ready(Ok(())) => {
                seen.flushed = true;
                seen.stalled = None;
                if seen.phase == Phase::Ending {
                    seen.phase = Phase::Idle;
                    seen.since = Instant::now();
                }
            }
            Poll::Pending => {
                seen.stalled.get_or_insert_with(Instant::now);
            }
            Poll::Ready(Err(_)) => {}
        }
        drop(seen);
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
