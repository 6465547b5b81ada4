use async_trait::async_trait;

use super::Unavailable;
use crate::{ExternalUserId, Principal, TenantId, Timestamp, TopicName};

/// Turns a credential into a [`Principal`]. Any error denies.
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// A bearer credential: an API key, a token of our own issuer, or an HS256 token. `tenant` comes from the path
    /// and chooses the keys that verify a token; an API key fixes its tenant, and another tenant's is refused.
    async fn bearer(&self, tenant: &TenantId, credential: &str) -> Result<Principal, AuthError>;

    /// A one-time ticket of `POST /v1/stream/tickets`; a second use is refused. The answer's second part is the
    /// value of a stream cookie, so that `EventSource` can come back on its own.
    async fn ticket(&self, tenant: &TenantId, ticket: &str) -> Result<(Principal, String), AuthError>;

    /// A stream cookie.
    async fn stream_cookie(&self, tenant: &TenantId, cookie: &str) -> Result<Principal, AuthError>;

    /// A Centrifugo subscription token (claims `sub`, `channel`, `exp`).
    async fn subscription(&self, tenant: &TenantId, token: &str) -> Result<SubscriptionGrant, AuthError>;
}

/// What a subscription token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionGrant {
    /// To whom.
    pub user: ExternalUserId,
    /// Which topic.
    pub topic: TopicName,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

/// Why a credential was refused. Callers are told no more than these words.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Malformed, unknown, badly signed, for somebody else, or not yet valid.
    #[error("the credential is not valid")]
    Invalid,
    /// It was valid, and its time is over.
    #[error("the credential has expired")]
    Expired,
    /// It was valid, and somebody ended it: log out.
    #[error("the credential was revoked")]
    Revoked,
    /// It could not be checked now; nobody is let in meanwhile.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
