//! The hub over real sockets: its own edge in front, and behind it the other rooms' ports in memory.

mod client;
mod delivery;
mod limits;
mod memory;
mod recovery;
mod secured;
mod stream;
mod websocket;
mod world;
