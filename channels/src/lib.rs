//! The media that Carillon delivers over itself: email and webhooks, the templates that they render, and the guarded way
//! out to other people's servers.
//!
//! A channel tries once and says what happened (`carillon_domain::ports::Channel`); it keeps nothing and retries nothing.

pub mod email;
pub mod outbound;
pub mod template;
pub mod webhook;
