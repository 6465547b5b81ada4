//! The hub as the composition root sees it.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use carillon_domain::{
    Clock, Envelope,
    ports::{Authenticate, Bus, Inbox, Incoming, Rpc, Topics},
};
use carillon_runtime::http::Problem;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::HubConfig;

/// What the hub needs from the other rooms.
#[derive(Clone)]
pub struct HubPorts {
    /// Who is calling.
    pub authenticate: Arc<dyn Authenticate>,
    /// The mailbox log.
    pub inbox: Arc<dyn Inbox>,
    /// Topics' histories, and publishing.
    pub topics: Arc<dyn Topics>,
    /// Where envelopes come from.
    pub bus: Arc<dyn Bus>,
    /// What clients may call by name.
    pub rpc: Arc<dyn Rpc>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The node that holds sockets.
pub struct Hub {
    #[expect(dead_code, reason = "the connection core reads it")]
    config: HubConfig,
    #[expect(dead_code, reason = "the connection core reads it")]
    ports: HubPorts,
}

impl Hub {
    /// A hub without connections. Call it on the tokio runtime that shall drive its sockets, after the metrics
    /// recorder is installed; then give it to `Bus::incoming` and spawn [`Self::run`].
    pub fn new(config: HubConfig, ports: HubPorts) -> Arc<Self> {
        Arc::new(Self { config, ports })
    }

    /// `GET /v1/stream` and `GET /connection/websocket`. The edge strips a path's `/t/{tenant}` and puts the
    /// `TenantId` into the request's extensions; without one it is `default`.
    pub fn routes(self: &Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(routes!(stream))
            .routes(routes!(websocket))
            .with_state(Arc::clone(self))
    }

    /// The heartbeat wheel and other upkeep, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// Ends all connections so that clients come back elsewhere, spread over `deadline`: WebSockets with 3001,
    /// streams with `retry:` and `bye`. Answers when all are gone or the time is over.
    pub async fn drain(&self, _deadline: Duration) {}

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        0
    }
}

impl Incoming for Hub {
    fn receive(&self, _envelope: Envelope) {}
}

#[utoipa::path(get, path = "/v1/stream", tag = "stream", responses((status = 200, content_type = "text/event-stream")))]
async fn stream(State(hub): State<Arc<Hub>>) -> Result<Response, Problem> {
    let _ = hub;
    Err(Problem::not_found())
}

#[utoipa::path(get, path = "/connection/websocket", tag = "stream", responses((status = 101)))]
async fn websocket(State(hub): State<Arc<Hub>>) -> Result<Response, Problem> {
    let _ = hub;
    Err(Problem::not_found())
}
