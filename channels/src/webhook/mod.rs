//! Webhooks: signed HTTP callbacks by the Standard Webhooks specification, version 1.0.0.

mod acknowledged;
mod body;
mod channel;
mod classify;
mod config;
mod keys;
mod retry_after;
mod sign;

pub use channel::WebhookChannel;
pub use config::WebhookConfig;
pub use keys::{
    Ed25519Pair, KeyError, KeyKind, WebhookKeys, generate_ed25519, generate_hmac, kind_of, public_of,
};
pub use sign::sign;
