//! What webhook endpoints are told.

mod body;
mod kind;

pub(crate) use body::body;
pub(crate) use kind::{EventFilter, EventKind};
