//! The accept loop, and what happens to a connection before its first request.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::{
    Access, Connections, Cors, EdgeConfig, EdgeError, LimitsConfig, ListenAddress, Peer, http1, http2,
    listener::{Listener, concerns_one_connection},
    pass::{Pass, Shared},
    route_label::RouteLabel,
    series::Series,
    stream::{Phase, Stream, Watch},
    tls::Tls,
};
use crate::lifecycle::Stop;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long accepting pauses when the process has no file or memory for a connection.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// How many connections are let in before others have their turn: when thousands come at once, as many as are let in
/// together also run together, and whoever is connected waits behind them.
const AT_ONCE: u32 = 16;

/// Sockets that listen, not yet serving.
pub struct Edge {
    listeners: Vec<Listener>,
    limits: LimitsConfig,
    cors: Cors,
    access: Access,
    tls: Option<Tls>,
    connections: Connections,
}

impl Edge {
    /// Binds all addresses of a configuration and reads its certificate. Must be called within a runtime.
    ///
    /// # Errors
    /// When an address is taken or not ours, or the certificate and key are unreadable or do not fit.
    pub fn bind(config: &EdgeConfig, access: Access) -> Result<Self, EdgeError> {
        let tls = match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => {
                Some(Tls::open(certificate, key, config.tls.reload.duration())?)
            }
            _ => None,
        };
        Ok(Self {
            listeners: config
                .listen
                .iter()
                .map(Listener::bind)
                .collect::<Result<_, _>>()?,
            connections: Connections::new(config.limits.connections, config.limits.connections_per_address),
            limits: config.limits.clone(),
            cors: Cors::new(&config.cors),
            access,
            tls,
        })
    }

    /// Where it listens; a port 0 of the configuration is the port that it got.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(_, address) => ListenAddress::Tcp(*address),
            Listener::Unix(_, file) => ListenAddress::Unix(file.path().to_owned()),
        };
        self.listeners.iter().map(address).collect()
    }

    /// Whether it speaks TLS on its TCP addresses.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The count of open connections, those included that were taken over.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves until `stop`: after its first stage nothing more is accepted and requests in progress come to their end,
    /// after its second they are dropped. Streams that were taken over are their owner's to end.
    pub async fn serve(self, router: Router, stop: Stop) {
        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor.clone());
        let freshness = self.tls.map(|tls| tokio::spawn(tls.keep_fresh()));
        let tasks = TaskTracker::new();
        let shared = |tls: bool| {
            Arc::new(Shared {
                router: router.clone().layer(RouteLabel),
                limits: self.limits.clone(),
                cors: self.cors.clone(),
                access: self.access,
                tls,
                series: Series::default(),
            })
        };
        for listener in self.listeners {
            let acceptor = acceptor.clone().filter(|_| matches!(listener, Listener::Tcp(..)));
            let door = Door {
                shared: shared(acceptor.is_some()),
                acceptor,
                connections: self.connections.clone(),
                stop: stop.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn(door.accept(listener));
        }
        stop.finishing().await;
        tasks.close();
        tasks.wait().await;
        if let Some(freshness) = freshness {
            freshness.abort();
        }
    }
}

/// One listener's way in.
struct Door {
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    connections: Connections,
    stop: Stop,
    tasks: TaskTracker,
}

impl Door {
    async fn accept(self, listener: Listener) {
        let mut in_a_row = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.finishing() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.let_in(stream, peer);
                    in_a_row += 1;
                    if in_a_row == AT_ONCE {
                        in_a_row = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // Files or memory are used up: only time, or connections that end, give some back.
                    metrics::counter!("carillon_accept_failures_total").increment(1);
                    tracing::warn!(%error, "cannot accept connections for the moment");
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }

    /// A connection too many is closed without a word: an answer of 503 would stop a browser's `EventSource` for good.
    fn let_in(&self, stream: Stream, peer: Peer) {
        let slot = match self.connections.enter(peer.ip()) {
            Ok(slot) => slot,
            Err(refusal) => {
                metrics::counter!("carillon_connections_refused_total", "limit" => refusal.as_str())
                    .increment(1);
                return;
            }
        };
        let watch = Watch::new(Phase::New);
        let pass = Pass {
            shared: Arc::clone(&self.shared),
            peer,
            watch,
            claims: None,
        };
        let (acceptor, stop, tasks) = (self.acceptor.clone(), self.stop.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let greeted = tokio::select! {
                greeted = greet(stream, acceptor, &pass.shared.limits) => greeted,
                () = stop.finishing() => return,
            };
            match greeted {
                Ok(Some((stream, ahead, true))) => http2::drive(stream, ahead, pass, slot, stop, tasks).await,
                Ok(Some((stream, ahead, false))) => http1::drive(stream, ahead, pass, slot, stop).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "connection ended before its first request"),
            }
        });
    }
}

/// TLS, if any, and which protocol the client speaks. `None` when it closed without a word.
async fn greet(
    stream: Stream,
    acceptor: Option<TlsAcceptor>,
    limits: &LimitsConfig,
) -> io::Result<Option<(Stream, Bytes, bool)>> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut stream = match (stream, acceptor) {
        (Stream::Tcp(stream), Some(acceptor)) => {
            let handshake = timeout(limits.handshake.duration(), acceptor.accept(stream));
            Stream::Tls(Box::new(handshake.await.map_err(late)??))
        }
        (stream, _) => stream,
    };
    if let Stream::Tls(tls) = &stream {
        match tls.get_ref().1.alpn_protocol() {
            Some(b"h2") => return Ok(Some((stream, Bytes::new(), true))),
            Some(_) => return Ok(Some((stream, Bytes::new(), false))),
            None => {}
        }
    }
    let mut ahead = BytesMut::with_capacity(PREFACE.len());
    let deadline = Instant::now() + limits.first_byte.duration();
    loop {
        // Any other first letter, and nearly always the second, decides for HTTP/1.1.
        if timeout_at(deadline, stream.read_buf(&mut ahead))
            .await
            .map_err(late)??
            == 0
        {
            return Ok(if ahead.is_empty() {
                None
            } else {
                Some((stream, ahead.freeze(), false))
            });
        }
        let shared = ahead.len().min(PREFACE.len());
        if ahead[..shared] != PREFACE[..shared] {
            return Ok(Some((stream, ahead.freeze(), false)));
        }
        if shared == PREFACE.len() {
            return Ok(Some((stream, ahead.freeze(), true)));
        }
    }
}
