//! The way out to one peer, and in from it: a socket that was taken from hyper, or a body that hyper drives.
//!
//! Everything goes through `&self` and without waiting: whoever has something to say writes it directly.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    task::{Context, Poll, Waker},
    time::Duration,
};

use carillon_runtime::edge::Socket;
use parking_lot::Mutex;
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::out::Queue;

/// A peer that acknowledges nothing for this long is gone, also while nothing is read from it.
const PEER_SILENCE: Duration = Duration::from_secs(60);

/// What rustls may hold beside our queue: one record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;

pub(crate) enum Pipe {
    Plain(TcpStream),
    Tls(TcpStream, Mutex<Box<ServerConnection>>),
    /// A response body on HTTP/2: hyper asks for frames and is woken when there are some.
    Body(Mutex<Option<Waker>>),
}

impl Pipe {
    /// Prepares a socket: no Nagle, a bounded send buffer, an end to silence.
    pub(crate) fn socket(socket: Socket, send_buffer: usize) -> Self {
        let (Socket::Plain(tcp) | Socket::Tls(tcp, _)) = &socket;
        let options = SockRef::from(tcp);
        let set = options
            .set_tcp_nodelay(true)
            .and_then(|()| options.set_tcp_user_timeout(Some(PEER_SILENCE)))
            .and_then(|()| {
                if send_buffer > 0 {
                    options.set_send_buffer_size(send_buffer)
                } else {
                    Ok(())
                }
            });
        if let Err(error) = set {
            tracing::debug!(%error, "a socket option was refused");
        }
        match socket {
            Socket::Plain(tcp) => Self::Plain(tcp),
            Socket::Tls(tcp, mut tls) => {
                tls.set_buffer_limit(Some(RECORD));
                Self::Tls(tcp, Mutex::new(tls))
            }
        }
    }

    /// Writes what the peer takes of `bytes` right now, without a queue in between; answers how much it was, and
    /// whether nothing of that is left to be flushed.
    ///
    /// # Errors
    /// The connection is broken. A full socket takes 0 bytes.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        match self {
            Self::Plain(tcp) => Ok((none_if_full(tcp.try_write(bytes))?, true)),
            Self::Tls(tcp, tls) => {
                let mut tls = tls.lock();
                // rustls would buffer what the socket does not take: then our own, bounded queue keeps it.
                drain_tls(tcp, &mut tls)?;
                if tls.wants_write() {
                    return Ok((0, false));
                }
                let taken = tls.writer().write(bytes)?;
                drain_tls(tcp, &mut tls)?;
                Ok((taken, !tls.wants_write()))
            }
            Self::Body(_) => Ok((0, true)),
        }
    }

    /// Writes from the queue what the peer takes right now; true when nothing is left anywhere.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&self, queue: &mut Queue) -> io::Result<bool> {
        match self {
            Self::Plain(tcp) => loop {
                if queue.is_empty() {
                    return Ok(true);
                }
                let mut slices = [IoSlice::new(&[]); 16];
                let count = queue.slices(&mut slices);
                let written = none_if_full(tcp.try_write_vectored(&slices[..count]))?;
                if written == 0 {
                    return Ok(false);
                }
                queue.advance(written);
            },
            Self::Tls(tcp, tls) => {
                let mut tls = tls.lock();
                loop {
                    drain_tls(tcp, &mut tls)?;
                    if tls.wants_write() {
                        return Ok(false);
                    }
                    let Some(front) = queue.front() else {
                        return Ok(true);
                    };
                    let taken = tls.writer().write(front)?;
                    queue.advance(taken);
                }
            }
            Self::Body(waker) => {
                if let Some(waker) = waker.lock().take() {
                    waker.wake();
                }
                Ok(queue.is_empty())
            }
        }
    }

    /// Waits until writing may make progress.
    pub(crate) async fn writable(&self) {
        match self {
            Self::Plain(tcp) | Self::Tls(tcp, _) => {
                let _ = tcp.writable().await;
            }
            Self::Body(_) => std::future::pending().await,
        }
    }

    /// Waits until reading may make progress. One task at a time may wait. It takes the place of whoever waited before,
    /// also of the driver that the socket came from: its waker would keep a finished task of some KiB alive until the
    /// peer says something, and a stream's peer never does.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) | Self::Tls(tcp, _) => tcp.poll_read_ready(cx),
            Self::Body(_) => Poll::Pending,
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; else the connection is broken. `Ok(0)` is its end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_read(buffer),
            Self::Tls(tcp, tls) => {
                let mut tls = tls.lock();
                loop {
                    match tls.reader().read(buffer) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return done,
                    }
                    if tls.read_tls(&mut NonBlocking(tcp))? == 0 {
                        return Ok(0);
                    }
                    tls.process_new_packets().map_err(io::Error::other)?;
                    // Key updates and alerts; a full socket takes them with the next write.
                    drain_tls(tcp, &mut tls)?;
                }
            }
            Self::Body(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish(&self) {
        match self {
            Self::Plain(tcp) => {
                let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
            }
            Self::Tls(tcp, tls) => {
                let mut tls = tls.lock();
                tls.send_close_notify();
                let _ = drain_tls(tcp, &mut tls);
                let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
            }
            Self::Body(waker) => {
                if let Some(waker) = waker.lock().take() {
                    waker.wake();
                }
            }
        }
    }

    /// Ends both directions at once; whoever reads sees the end.
    pub(crate) fn abort(&self) {
        match self {
            Self::Plain(tcp) | Self::Tls(tcp, _) => {
                let _ = SockRef::from(tcp).shutdown(Shutdown::Both);
            }
            Self::Body(_) => self.finish(),
        }
    }
}

/// Hands rustls's ciphertext to the socket; stops without an error when the socket is full.
fn drain_tls(tcp: &TcpStream, tls: &mut ServerConnection) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut NonBlocking(tcp)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn none_if_full(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// A tokio socket as rustls wants it.
struct NonBlocking<'a>(&'a TcpStream);

impl Read for NonBlocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
