//! The node that holds sockets: SSE (`GET /v1/stream`) and Centrifugo's client protocol over WebSocket
//! (`/connection/websocket`).
//!
//! An envelope comes from the bus ([`Hub`] is its `Incoming`), finds its [feed](feed), is put in order there, is encoded
//! once per protocol and written by the publishing thread straight into the sockets of the subscribers. What a socket
//! does not take waits in a bounded queue; who does not read is cut off and resumes from the store. A
//! [connection](connection) is nothing but its socket, a few words of state and a small task that waits for input; the
//! [session](session) behind a WebSocket is a pure machine; one [wheel](wheel) keeps everybody's time.

mod config;
mod connection;
mod feed;
mod hub;
mod metrics;
mod protocol;
mod revoke;
mod session;
mod shared;
mod sse;
mod upkeep;
mod wheel;
mod ws;

pub use config::HubConfig;
pub use hub::{Hub, HubPorts};
