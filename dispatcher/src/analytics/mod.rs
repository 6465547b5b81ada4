//! What became of notifications: counts by hour, category, channel and notification, from durable rows alone.

mod totals;

pub(crate) use totals::{GroupBy, Key, Totals, add};
