//! The dispatcher as its users meet it: requests through the real router, workers running, envelopes on a real bus.

mod analytics;
mod backlog;
mod broadcasts;
mod categories;
mod fairness;
mod inbox;
mod ladder;
pub(crate) mod node;
mod outside;
mod pipeline;
mod planning;
mod preference_page;
mod preferences;
mod reach;
mod remote;
mod rendering;
mod rules;
mod schedules;
mod sending;
mod simulation;
mod sources;
mod templates;
mod topics;
mod verification;
mod webhooks;
mod why;
mod withdrawals;
