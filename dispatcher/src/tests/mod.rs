//! The dispatcher as its users meet it: requests through the real router, workers running, envelopes on a real bus.

mod inbox;
mod node;
mod outside;
mod pipeline;
mod remote;
mod sending;
mod sources;
mod topics;
mod webhooks;
