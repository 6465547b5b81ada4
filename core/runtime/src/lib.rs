//! What every running part needs: configuration, lifecycle, telemetry, health and the HTTP edge.

pub mod config;
pub mod edge;
pub mod health;
pub mod http;
pub mod lifecycle;
mod misfit;
pub mod telemetry;

pub use misfit::not_json;
