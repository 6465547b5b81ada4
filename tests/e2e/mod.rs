//! End to end, on whichever store `CARILLON_TEST_STORE` names. A file per part of what users see.

mod bad_input;
mod broadcasts;
mod centrifugo;
mod cli;
mod cli_outside;
mod config;
mod credentials;
mod digests;
mod docs;
mod edge;
mod erasure;
mod events;
mod faults;
mod idempotency;
mod inbox;
mod intake;
mod outside;
mod preferences;
mod resume;
mod ring;
mod schedule;
mod slow_readers;
mod sources;
mod tenants;
mod tls;
mod topics;
mod users;
mod verification;
mod why;

pub(crate) use outside::impatient;
pub(crate) use schedule::in_millis;
