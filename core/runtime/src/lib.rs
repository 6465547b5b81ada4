//! What every running part needs: configuration, lifecycle, telemetry and the HTTP edge.

pub mod config;
pub mod edge;
pub mod http;
pub mod lifecycle;
