//! Everything in one process. Never second class: what must survive is in the store, these only carry it.

mod bus;
mod queue;

pub use bus::EmbeddedBus;
pub use queue::EmbeddedQueue;
