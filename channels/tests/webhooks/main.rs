//! Webhooks and the guarded way out against real and hostile far ends.

#![expect(clippy::unwrap_used, reason = "in a test a panic is a failure")]

mod guard;
mod guard_table;
mod hostile;
mod official;
mod receiver;
mod secured;
mod sending;
