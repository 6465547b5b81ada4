//! Deliverer: open deliveries to their channels. What it decides is pure: whether and when there is another attempt
//! ([`retry`]), whether a lane may be tried at all ([`breaker`]), and whose turn it is ([`schedule`]).

mod attempt;
pub(crate) mod breaker;
pub(crate) mod compose;
pub(crate) mod config;
pub(crate) mod engine;
mod full;
mod one_by_one;
pub(crate) mod redrives;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod settlement;
