//! The guarded way out: HTTP to servers whose addresses other people chose.
//!
//! An address is checked when it is saved ([`Guard::check`]) and again at every connect. A connect resolves the name once,
//! refuses it when any answer is private, and goes to the very address that it checked; TLS still asks for the name. Answers
//! of the resolver are kept for a while and shared; each connect checks them anew. What a
//! server answers is bounded by bytes and by time. Redirects are never followed, proxy variables never read.

mod answer;
mod client;
mod config;
mod connector;
mod guard;
mod lookups;
mod network;
mod resolve;
mod roots;
mod stream;

pub use answer::{Answer, excerpt};
pub use client::{OpenError, Outbound, SendError};
pub use config::OutboundConfig;
pub use guard::{Checked, Guard};
pub use network::{Network, Ports, is_public};
pub use resolve::{Resolve, SystemResolver};
