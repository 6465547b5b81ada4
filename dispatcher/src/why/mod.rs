//! Why somebody was, or was not, notified: everything that was decided, tried and told, in its order.

mod event;
mod timeline;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use event::Event;
pub(crate) use timeline::{MOST_EVENTS, Told, timeline};
