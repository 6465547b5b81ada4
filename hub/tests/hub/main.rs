//! The hub over real sockets: its own edge in front, and behind it the other rooms' ports in memory.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a failure")]

mod client;
mod delivery;
mod limits;
mod memory;
mod recovery;
mod secured;
mod stream;
mod websocket;
mod world;
