//! Sends a request, and reads no more of the answer than is good for us.

use std::{error::Error as _, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use carillon_domain::TenantId;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, Guard, OutboundConfig, Resolve, SystemResolver,
    connector::{ASKER, ConnectError, Connector},
    lookups::Lookups,
    roots,
};

/// How often an HTTP/2 connection with requests is asked whether it lives, and how long it may take to say so. Without
/// that, a dead one would swallow every request to its host.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// What an HTTP/2 server may send ahead of our reading, per request and in all.
const WINDOW: u32 = 64 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// Beyond a request's own time: what signing and counting may take.
const SLACK: Duration = Duration::from_secs(1);

/// Why the way out could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file with further authorities cannot be used.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Why there is no answer. The texts go into attempt logs, where callers read them: [`Self::Refused`] says the same
/// whatever was refused and why, and [`Self::Name`] whatever the resolver said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The address is none that may be called. Nothing was sent.
    #[error("the address is not allowed")]
    Refused,
    /// The name has no address, or one that is none that may be called, or nobody could say. Which of them it is would be a
    /// map of the network that we stand in.
    #[error("the host's name leads to no address that may be called")]
    Name,
    /// Too many names are being looked up, of this owner or in all: nobody was asked.
    #[error("too many names are being looked up")]
    Busy,
    /// Nothing listens there, or no way leads there.
    #[error("no connection to the host")]
    Unreachable,
    /// Connecting and the TLS handshake took too long together.
    #[error("connecting to the host took too long")]
    Slow,
    /// The certificate is not trusted, expired, or another host's.
    #[error("the host's certificate was not accepted")]
    Certificate,
    /// TLS failed otherwise.
    #[error("the TLS handshake failed")]
    Tls,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection ended before the answer's head.
    #[error("the connection ended before an answer")]
    Broken,
    /// The answer is not HTTP, or its head is too large.
    #[error("the answer was not understood")]
    Malformed,
}

/// The way out. Cheap to clone; the pool of connections is shared.
#[derive(Clone)]
pub struct Outbound {
    client: Client<Connector, Full<Bytes>>,
    guard: Arc<Guard>,
    total: Duration,
    body: usize,
    excerpt: usize,
}

impl Outbound {
    /// Opens it over the operating system's resolver. `own` are the names under which Carillon itself is reached.
    ///
    /// # Errors
    /// When the file with further authorities cannot be read, or TLS cannot be set up.
    pub fn open(config: &OutboundConfig, own: impl IntoIterator<Item = String>) -> Result<Self, OpenError> {
        Self::with_resolver(config, own, Arc::new(SystemResolver))
    }

    /// As [`Self::open`], over another resolver.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_resolver(
        config: &OutboundConfig,
        own: impl IntoIterator<Item = String>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, OpenError> {
        let guard = Arc::new(Guard::new(config, own));
        let connector = Connector {
            guard: Arc::clone(&guard),
            lookups: Lookups::new(resolver, config.connect.duration(), config.keep_names.duration()),
            tls: roots::client_config(config.ca.as_deref())?,
            patience: config.connect.duration(),
        };
        let head = config.head.as_usize();
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle.duration())
            .pool_max_idle_per_host(config.idle_per_host)
            .http1_max_buf_size(head)
            .http2_max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_PATIENCE)
            .build(connector);
        Ok(Self {
            client,
            guard,
            total: config.total.duration(),
            body: config.body.as_usize(),
            excerpt: config.excerpt.as_usize(),
        })
    }

    /// What may be called.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The longest that [`Self::send`] takes, with some slack.
    pub fn patience(&self) -> Duration {
        self.total + SLACK
    }

    /// How many bytes of a body an attempt log shows.
    pub fn excerpt(&self) -> usize {
        self.excerpt
    }

    /// Sends a tenant's request and reads its answer. Of the body the first `keep` bytes are kept, at most as many as the
    /// configuration allows to be read. An answer whose head came in time is an answer, however its body ends.
    ///
    /// # Errors
    /// When there is no answer. Whether the server saw the request, nobody knows, except after [`SendError::Refused`].
    pub async fn send(
        &self,
        tenant: &TenantId,
        request: Request<Full<Bytes>>,
        keep: usize,
    ) -> Result<Answer, SendError> {
        let deadline = Instant::now() + self.total;
        let response = ASKER.scope(Some(tenant.clone()), self.client.request(request));
        let response = timeout_at(deadline, response)
            .await
            .map_err(|_| SendError::Timeout)?
            .map_err(|error| cause(&error))?;
        let (head, mut body) = response.into_parts();
        let mut kept = BytesMut::new();
        let (mut read, mut whole) = (0, true);
        // What is not kept is read too, a little, so that the connection can serve again.
        while let Some(frame) = timeout_at(deadline, body.frame()).await.unwrap_or_else(|_| {
            whole = false;
            None
        }) {
            let Ok(frame) = frame else {
                whole = false;
                break;
            };
            let Ok(data) = frame.into_data() else { continue };
            let wanted = keep.min(self.body).saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(&data[..wanted]);
            whole &= wanted == data.len();
            read += data.len();
            if read > self.body {
                whole = false;
                break;
            }
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: kept.freeze(),
            whole,
        })
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

/// Looks for what went wrong along an error's causes.
fn cause(error: &legacy::Error) -> SendError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<ConnectError>() {
            if matches!(fault, ConnectError::Refused | ConnectError::Private) {
                metrics::counter!("carillon_outbound_refused_total").increment(1);
            }
            return match fault {
                ConnectError::Refused => SendError::Refused,
                ConnectError::Name | ConnectError::Private => SendError::Name,
                ConnectError::Busy => SendError::Busy,
                ConnectError::Unreachable => SendError::Unreachable,
                ConnectError::Slow => SendError::Slow,
                ConnectError::Certificate => SendError::Certificate,
                ConnectError::Tls => SendError::Tls,
            };
        }
        if inner
            .downcast_ref::<hyper::Error>()
            .is_some_and(|error| error.is_parse() || error.is_parse_too_large())
        {
            return SendError::Malformed;
        }
        source = inner.source();
    }
    SendError::Broken
}
