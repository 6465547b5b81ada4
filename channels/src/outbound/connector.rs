//! Opens connections: resolves once, checks every answer, goes to the address that it checked.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::{
    Guard,
    guard::{Target, TargetHost},
    lookups::{Asker, LookupError, Lookups},
    stream::Stream,
};

tokio::task_local! {
    /// Whose request is being sent: the client's pool tells a connector where to and no more.
    pub(super) static ASKER: Asker;
}

/// Addresses of one name that are tried, each with its share of the time.
const TRIED: usize = 4;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("refused")]
    Refused,
    #[error("no address")]
    Name,
    #[error("an address that is not allowed")]
    Private,
    #[error("busy")]
    Busy,
    #[error("unreachable")]
    Unreachable,
    #[error("too slow")]
    Slow,
    #[error("certificate")]
    Certificate,
    #[error("tls")]
    Tls,
}

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) guard: Arc<Guard>,
    pub(super) lookups: Arc<Lookups>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) patience: Duration,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        // Asked here: the connection may outlive the request.
        let asker = ASKER.try_with(Clone::clone).unwrap_or_default();
        // Bounded here and not by the request, so that a connection whose request has gone away ends too. What waits for its
        // turn to be looked up is bounded by itself: that is no time of the host's.
        Box::pin(async move {
            let target = this.guard.check_uri(&uri).map_err(|_| ConnectError::Refused)?;
            let addresses = this.addresses(&asker, &target).await?;
            timeout(this.patience, this.open(target, &addresses))
                .await
                .unwrap_or(Err(ConnectError::Slow))
        })
    }
}

impl Connector {
    async fn open(&self, target: Target, addresses: &[IpAddr]) -> Result<Stream, ConnectError> {
        let socket = self.connect(addresses, target.port).await?;
        // Requests are small, and written at once.
        let _ = socket.set_nodelay(true);
        if !target.tls {
            return Ok(Stream::plain(socket));
        }
        let name = match target.host {
            TargetHost::Name(name) => ServerName::try_from(name).map_err(|_| ConnectError::Tls)?,
            TargetHost::Address(address) => ServerName::IpAddress(address.into()),
        };
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, socket)
            .await
            .map(Stream::tls)
            .map_err(|error| tls_error(&error))
    }

    /// Every answer must be fit: a name that leads to both sides is somebody's attempt to choose at the last moment.
    async fn addresses(&self, asker: &Asker, target: &Target) -> Result<Arc<[IpAddr]>, ConnectError> {
        let addresses = match &target.host {
            // Checked with the target.
            TargetHost::Address(address) => return Ok(Arc::from([*address])),
            TargetHost::Name(name) => self.lookups.addresses(asker, name).await,
        };
        let addresses = addresses.map_err(|error| match error {
            LookupError::Name => ConnectError::Name,
            LookupError::Busy => ConnectError::Busy,
        })?;
        if addresses.iter().all(|address| self.guard.admits(*address)) {
            Ok(addresses)
        } else {
            Err(ConnectError::Private)
        }
    }

    async fn connect(&self, addresses: &[IpAddr], port: u16) -> Result<TcpStream, ConnectError> {
        let tried = &addresses[..addresses.len().min(TRIED)];
        let share = self.patience / u32::try_from(tried.len()).unwrap_or(1);
        let mut fault = ConnectError::Unreachable;
        for address in tried {
            match timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(_)) => {}
                Err(_) => fault = ConnectError::Slow,
            }
        }
        Err(fault)
    }
}

fn tls_error(error: &io::Error) -> ConnectError {
    let of_certificate = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
    if of_certificate {
        ConnectError::Certificate
    } else {
        ConnectError::Tls
    }
}
