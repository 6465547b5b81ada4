//! How a stream leaves hyper after its handshake (HTTP/1.1; HTTP/2 streams stay on hyper).
//!
//! hyper keeps 16 KiB of buffers per HTTP/1.1 connection for as long as it drives it. A stream lives for hours and
//! needs none of it: the handler hands its response head and what shall become of the socket to the connection's
//! driver, and stays pending; the driver takes the socket back, writes the head, and hands both on. Routing,
//! extractors and authentication stay ordinary axum.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::extract::FromRequestParts;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;
use rustls::ServerConnection;
use tokio::{net::TcpStream, sync::oneshot};

use super::stamp::Stamp;

/// A socket as hyper gave it back.
pub enum Socket {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS after its handshake.
    Tls(TcpStream, Box<ServerConnection>),
}

/// What counts an open connection; dropping it uncounts it (per-address limits, the drain).
pub struct ConnectionGuard(
    #[expect(dead_code, reason = "held for its drop")] pub(super) Option<Box<dyn Send + Sync>>,
);

/// What the new owner of a socket gets. The response head is already written.
pub struct Taken {
    /// The socket.
    pub socket: Socket,
    /// What the client sent behind the request.
    pub read: Bytes,
    /// The other end.
    pub peer: SocketAddr,
    /// Keep it as long as the connection is open.
    pub guard: ConnectionGuard,
}

/// What the driver does with a socket that it took back.
pub(super) struct Claim {
    /// The whole response head, from the status line to the empty line.
    pub(super) head: Bytes,
    /// Who owns the socket from then on.
    pub(super) owner: Box<dyn FnOnce(Taken) + Send>,
}

/// Where a connection's claim goes. There is one: with it hyper's part ends.
pub(super) type Claims = Arc<Mutex<Option<oneshot::Sender<Claim>>>>;

/// Lets a handler take the socket away from hyper. In the request's extensions on HTTP/1.1, absent on HTTP/2.
#[derive(Clone)]
pub struct TakeOver {
    claims: Claims,
    stamp: Stamp,
}

/// For the driver: where handlers claim, and where their claim arrives.
pub(super) fn claims() -> (Claims, oneshot::Receiver<Claim>) {
    let (sender, receiver) = oneshot::channel();
    (Arc::new(Mutex::new(Some(sender))), receiver)
}

impl TakeOver {
    pub(super) fn new(claims: &Claims, stamp: Stamp) -> Self {
        Self {
            claims: Arc::clone(claims),
            stamp,
        }
    }

    /// Writes `head`, which must be a whole HTTP/1.1 response head and may have the stream's first bytes behind it, and
    /// gives the socket to `owner`. What every answer carries (trace, security, CORS) is added to the head. Never answers: the driver drops the request's future with
    /// hyper's connection. Return what this awaits as the handler's answer.
    pub async fn take(self, head: Bytes, owner: impl FnOnce(Taken) + Send + 'static) -> Response {
        if let Some(sender) = self.claims.lock().take() {
            tracing::debug!(target: "carillon::access", "taken over");
            // A driver that is gone has closed the socket: then nobody waits for an answer either.
            let _ = sender.send(Claim {
                head: self.stamp.put_on(&head),
                owner: Box::new(owner),
            });
        }
        std::future::pending().await
    }
}

/// As a handler's argument: `None` on HTTP/2.
impl<S: Sync> axum::extract::OptionalFromRequestParts<S> for TakeOver {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

const _: fn() = || {
    fn usable<T: FromRequestParts<()>>() {}
    usable::<Option<TakeOver>>();
};
