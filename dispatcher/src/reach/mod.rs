//! How well addresses have proved to be within reach.
//!
//! What goes to a device over a channel whose far end confirms each delivery is a probe, and a receipt of it says that it came
//! back. A worker counts both once a delivery is old enough, by the deliveries' own rows; nothing is written while something is
//! sent. Both fade, so that an address that was out of reach is tried again after a while.

mod config;
mod score;
mod worker;

pub use config::ReachabilityConfig;
pub(crate) use score::{FADING, Fading, Reach};
pub(crate) use worker::Reachability;
