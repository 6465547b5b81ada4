//! One connection. **Invariant**: idle, it is this struct, its socket, a small task that waits for something to read,
//! and one entry in the wheel; no channel, no buffer, no timer. Whoever has something to say writes it directly.
//!
//! Locks are taken in the order role, feed, `out`; a publisher takes no more than feed and `out`.

mod body;
mod out;
mod pipe;
mod table;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use carillon_domain::Principal;
use carillon_runtime::edge::{ConnectionGuard, Socket};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use self::{
    body::StreamBody,
    table::{ConnectionId, Table},
};
use self::{out::Queue, pipe::Pipe};
use crate::{
    feed::Subscription,
    protocol::{Encoding, codes::Close},
    session::Session,
    shared::Shared,
    sse::{self, Stream},
    wheel::Wheel,
    ws::frame,
};

pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    /// How what it is told is written.
    pub(crate) encoding: Encoding,
    shared: Arc<Shared>,
    pipe: Pipe,
    out: Mutex<Out>,
    /// Told when the queue has become empty or the connection has ended; only a catch-up waits for it.
    drained: Notify,
    pub(crate) role: Mutex<Role>,
    pub(crate) subscriptions: Mutex<Subscriptions>,
    /// In the hub's milliseconds: the one place in the wheel that counts.
    wake_at: AtomicU64,
    /// Whose it is, once that is known.
    pub(crate) person: OnceLock<Principal>,
    /// Counts the connection at the edge while it lives.
    _guard: Option<ConnectionGuard>,
}

/// What a connection is for.
pub(crate) enum Role {
    /// Centrifugo's protocol over WebSocket.
    Session(Session),
    /// Server-sent events.
    Stream(Stream),
}

/// A connection's places in feeds.
#[derive(Default)]
pub(crate) struct Subscriptions {
    /// Held and live ones, by the session's number for them.
    pub(crate) list: Vec<(u32, Subscription)>,
    /// The connection is over: what comes now leaves at once.
    pub(crate) closed: bool,
}

struct Out {
    queue: Queue,
    phase: Phase,
    /// Whether a task waits for the socket to take the queue's rest.
    flushing: bool,
    /// Whether the peer said that it closes (WebSocket), so that nothing is waited for after our answer.
    peer_closed: bool,
    /// In the hub's milliseconds: the last write, or since when nothing has moved.
    moved_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The last bytes are queued; nothing more is taken.
    Ending,
    Ended,
}

impl Connection {
    /// A connection over a socket that hyper gave back.
    pub(crate) fn on_socket(
        id: ConnectionId,
        shared: Arc<Shared>,
        socket: Socket,
        guard: ConnectionGuard,
        role: Role,
    ) -> Self {
        let pipe = Pipe::socket(socket, shared.config.send_buffer.as_usize());
        Self::new(id, shared, pipe, Some(guard), role)
    }

    /// A connection over a response body that hyper drives.
    pub(crate) fn on_body(id: ConnectionId, shared: Arc<Shared>, role: Role) -> Self {
        Self::new(id, shared, Pipe::Body(Mutex::default()), None, role)
    }

    fn new(
        id: ConnectionId,
        shared: Arc<Shared>,
        pipe: Pipe,
        guard: Option<ConnectionGuard>,
        role: Role,
    ) -> Self {
        let out = Out {
            queue: Queue::default(),
            phase: Phase::Open,
            flushing: false,
            peer_closed: false,
            moved_at: shared.millis(),
        };
        let encoding = match role {
            Role::Session(_) => Encoding::WebSocketJson,
            Role::Stream(_) => Encoding::EventStream,
        };
        Self {
            id,
            encoding,
            shared,
            pipe,
            out: Mutex::new(out),
            drained: Notify::new(),
            role: Mutex::new(role),
            subscriptions: Mutex::default(),
            wake_at: AtomicU64::new(0),
            person: OnceLock::new(),
            _guard: guard,
        }
    }

    /// Has the hub look at this connection after `delay`, and not before.
    pub(crate) fn wake_after(&self, delay: Duration) {
        let delay = delay.min(Wheel::REACH);
        self.wake_at
            .store(self.shared.millis() + delay.as_millis() as u64, Ordering::Relaxed);
        self.shared.wheel.after(delay, self.id);
    }

    /// Whether the wheel woke it for a reason that still counts.
    pub(crate) fn is_awaited(&self) -> bool {
        self.shared.millis() + Wheel::STEP.as_millis() as u64 >= self.wake_at.load(Ordering::Relaxed)
    }

    /// How much may wait for the peer, in bytes.
    pub(crate) fn bound(&self) -> usize {
        self.shared.config.max_queued.as_usize()
    }

    /// Says one whole frame, now or as soon as the peer reads; cuts the peer off when more than the bound would wait.
    /// A frame that is above the bound by itself still goes into an empty queue: it could never be delivered otherwise.
    pub(crate) fn send(self: &Arc<Self>, frame: &Bytes) {
        self.say(&mut self.out.lock(), frame);
    }

    /// Says several whole frames in one write, or one after the other where all of them together are above the bound;
    /// `joined` are their bytes in one piece.
    pub(crate) fn send_all<'a>(
        self: &Arc<Self>,
        joined: &Bytes,
        frames: impl IntoIterator<Item = &'a Bytes>,
    ) {
        let mut out = self.out.lock();
        if joined.len() <= self.bound() {
            return self.say(&mut out, joined);
        }
        for frame in frames {
            self.say(&mut out, frame);
        }
    }

    fn say(self: &Arc<Self>, out: &mut Out, bytes: &Bytes) {
        if out.phase != Phase::Open {
            return;
        }
        if !out.queue.is_empty() {
            if out.queue.bytes() + bytes.len() > self.bound() {
                self.cut_off_slow(out);
            } else {
                out.queue.push(bytes.clone());
            }
            return;
        }
        out.moved_at = self.shared.millis();
        match self.pipe.write(bytes) {
            Ok((written, true)) if written == bytes.len() => {}
            Ok((written, _)) => {
                match written {
                    0 => out.queue.push(bytes.clone()),
                    all if all == bytes.len() => {}
                    some => out.queue.push_rest(bytes.slice(some..)),
                }
                self.flush(out);
            }
            Err(_) => self.broken(out),
        }
    }

    /// Says `bytes` once everything before is out, so that they never count against the peer; false when the
    /// connection ended meanwhile.
    pub(crate) async fn send_paced(self: &Arc<Self>, bytes: &Bytes) -> bool {
        self.when_drained(|out| self.say(out, bytes)).await
    }

    /// Waits until everything is out; false when the connection ended meanwhile.
    pub(crate) async fn drained(&self) -> bool {
        self.when_drained(|_| ()).await
    }

    /// Whether nothing waits for the peer.
    pub(crate) fn is_drained(&self) -> bool {
        self.out.lock().queue.is_empty()
    }

    async fn when_drained(&self, then: impl FnOnce(&mut Out)) -> bool {
        loop {
            // Asked for before the look, so that no wake-up falls between.
            let drained = self.drained.notified();
            {
                let mut out = self.out.lock();
                if out.phase != Phase::Open {
                    return false;
                }
                if out.queue.is_empty() {
                    then(&mut out);
                    return true;
                }
            }
            drained.await;
        }
    }

    /// Says `last` after what waits, then ends.
    pub(crate) fn end(self: &Arc<Self>, last: Bytes) {
        self.end_as(last, false);
    }

    /// Answers the peer's own close.
    pub(crate) fn end_after_peer(self: &Arc<Self>, last: Bytes) {
        self.end_as(last, true);
    }

    fn end_as(self: &Arc<Self>, last: Bytes, peer_closed: bool) {
        let mut out = self.out.lock();
        if out.phase != Phase::Open {
            if peer_closed {
                // Both sides have said it: that was the handshake.
                self.broken(&mut out);
            }
            return;
        }
        out.phase = Phase::Ending;
        out.peer_closed = peer_closed;
        if !last.is_empty() {
            out.queue.push(last);
        }
        self.flush(&mut out);
    }

    /// Ends without a word.
    pub(crate) fn abort(self: &Arc<Self>) {
        self.broken(&mut self.out.lock());
    }

    /// Whether nothing more can be said.
    pub(crate) fn is_over(&self) -> bool {
        self.out.lock().phase != Phase::Open
    }

    /// Drops the peer when everything is said and it has had `patience` to answer. Answers how much of that is left, when
    /// there is something to wait for.
    pub(crate) fn give_up_after(self: &Arc<Self>, patience: Duration) -> Option<Duration> {
        let mut out = self.out.lock();
        let waited = Duration::from_millis(self.shared.millis().saturating_sub(out.moved_at));
        let left = patience.saturating_sub(waited);
        if out.phase == Phase::Ending && left.is_zero() {
            self.broken(&mut out);
        }
        (out.phase != Phase::Ended).then_some(left)
    }

    /// How long nothing has moved, and whether something waits to.
    pub(crate) fn silence(&self) -> (Duration, bool) {
        let out = self.out.lock();
        let silent = self.shared.millis().saturating_sub(out.moved_at);
        (Duration::from_millis(silent), !out.queue.is_empty())
    }

    /// Waits until there is something to read. Only the connection's own task may wait.
    pub(crate) fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send {
        // Without a future of the socket's own, which is 184 bytes in every idle connection.
        std::future::poll_fn(|cx| self.pipe.poll_readable(cx))
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.pipe.read(buffer)
    }

    /// Who does not read fast enough is told so, if the socket still takes it, and comes back by its position.
    pub(crate) fn cut_off(self: &Arc<Self>) {
        let mut out = self.out.lock();
        if out.phase == Phase::Open {
            self.cut_off_slow(&mut out);
        }
    }

    fn cut_off_slow(self: &Arc<Self>, out: &mut Out) {
        self.shared.metrics.slow.increment(1);
        out.queue.cut();
        out.queue.push(match self.encoding {
            Encoding::WebSocketJson => frame::close(Some(Close::SLOW.code), Close::SLOW.reason),
            Encoding::EventStream => sse::event::bye("slow", self.shared.retry_ms()),
        });
        out.phase = Phase::Ending;
        self.flush(out);
    }

    fn flush(self: &Arc<Self>, out: &mut Out) {
        match self.pipe.flush(&mut out.queue) {
            Ok(true) => self.emptied(out),
            Ok(false) if out.flushing || matches!(self.pipe, Pipe::Body(_)) => {}
            Ok(false) => {
                out.flushing = true;
                self.shared.runtime.spawn(Arc::clone(self).flush_when_writable());
            }
            Err(_) => self.broken(out),
        }
        if out.phase == Phase::Ending {
            out.moved_at = self.shared.millis();
            self.wake_after(self.shared.config.close_timeout.duration());
        }
    }

    async fn flush_when_writable(self: Arc<Self>) {
        let patience = self.shared.config.write_timeout.duration();
        loop {
            let progress = tokio::time::timeout(patience, self.pipe.writable()).await;
            let mut out = self.out.lock();
            if out.phase == Phase::Ended {
                return;
            }
            if progress.is_err() {
                if out.phase == Phase::Open {
                    self.shared.metrics.slow.increment(1);
                }
                return self.broken(&mut out);
            }
            out.moved_at = self.shared.millis();
            match self.pipe.flush(&mut out.queue) {
                Ok(false) => {}
                Ok(true) => {
                    out.flushing = false;
                    return self.emptied(&mut out);
                }
                Err(_) => return self.broken(&mut out),
            }
        }
    }

    fn emptied(&self, out: &mut Out) {
        self.drained.notify_waiters();
        if out.phase != Phase::Ending {
            return;
        }
        // A WebSocket peer answers the close first; a stream is over with its last byte.
        if out.peer_closed || self.encoding == Encoding::EventStream {
            self.pipe.finish();
        }
    }

    fn broken(&self, out: &mut Out) {
        out.phase = Phase::Ended;
        out.queue.clear();
        self.pipe.abort();
        self.drained.notify_waiters();
    }
}
