//! What a running server tells its operator about itself: `GET /internal/server`, on the internal socket alone.

use axum::{Json, Router, routing::get};
use carillon_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// A running server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerInfo {
    /// Its version.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// The base of every public URL, such as `http://127.0.0.1:8080`.
    pub(crate) url: String,
    /// Whether it serves the quickstart page.
    pub(crate) dev: bool,
    /// Since when.
    pub(crate) started_at: Timestamp,
}

/// Where it is asked for.
pub(crate) const PATH: &str = "/internal/server";

/// The route.
pub(crate) fn router(info: ServerInfo) -> Router {
    Router::new().route(
        PATH,
        get(move || {
            let info = info.clone();
            async move { Json(info) }
        }),
    )
}
