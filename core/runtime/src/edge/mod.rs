//! The edge: accept loop, deadlines, TLS, and the way by which a stream leaves hyper.
//!
//! [`Edge::bind`] takes the addresses, [`Edge::serve`] an axum router. Each connection has one task: it learns the
//! protocol, lets hyper drive HTTP/1.1 or HTTP/2 under our deadlines, and on HTTP/1.1 hands the socket over when a
//! handler asks for it by [`TakeOver`].

mod checks;
mod config;
mod connections;
mod cors;
mod finish;
mod head_scan;
mod http1;
mod http2;
mod listener;
mod pass;
mod route_label;
mod series;
mod serve;
mod stamp;
mod stream;
mod stream_head;
mod take_over;
mod tenant_path;
mod tls;
mod trace;
mod unread;

pub use config::{CorsConfig, EdgeConfig, LimitsConfig, ListenAddress, TlsConfig};
pub use connections::Connections;
pub use cors::Cors;
pub use listener::Peer;
pub use serve::Edge;
pub use stream_head::stream_head;
pub use take_over::{ConnectionGuard, Socket, TakeOver, Taken};
pub use trace::TraceId;

/// Who is on the other side of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody: credentials decide.
    Public,
    /// Whoever can open it is the operator ([`carillon_domain::Caller::Operator`]), save for pages in browsers.
    Operator,
}

/// Why an edge cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// An address is taken, not this machine's, or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address as configured.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

#[cfg(test)]
mod tests;
