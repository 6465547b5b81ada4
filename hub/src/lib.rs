//! The node that holds sockets: SSE (`GET /v1/stream`) and Centrifugo's client protocol over WebSocket
//! (`/connection/websocket`).

mod config;
mod hub;

pub use config::HubConfig;
pub use hub::{Hub, HubPorts};
