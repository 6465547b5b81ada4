use carillon_domain::{
    TenantId,
    ports::{AuthError, Unavailable},
};
use carillon_sql::StoreError;

/// Which kind of credential was refused, for the audit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credential {
    ApiKey,
    Token,
    SubscriptionToken,
    Ticket,
    StreamCookie,
}

impl Credential {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Token => "token",
            Self::SubscriptionToken => "subscription_token",
            Self::Ticket => "ticket",
            Self::StreamCookie => "stream_cookie",
        }
    }
}

/// Why a credential was refused. The reason is a fixed sentence of ours: nothing of the credential gets into it, and
/// the caller never sees it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Invalid(&'static str),
    #[error("it has expired")]
    Expired,
    #[error("it was revoked")]
    Revoked,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

impl Refusal {
    /// Writes the one audit event of a refused credential, and tells the caller as little as it may know.
    pub(crate) fn audited(self, tenant: &TenantId, credential: Credential) -> AuthError {
        let (error, reason) = match self {
            // Logged where it is answered.
            Self::Unavailable(cause) => return AuthError::Unavailable(cause),
            Self::Invalid(reason) => (AuthError::Invalid, reason),
            Self::Expired => (AuthError::Expired, "it has expired"),
            Self::Revoked => (AuthError::Revoked, "it was revoked"),
        };
        let credential = credential.as_str();
        tracing::warn!(target: "carillon::audit", %tenant, credential, reason, "credential refused");
        let outcome = match error {
            AuthError::Expired => "expired",
            AuthError::Revoked => "revoked",
            _ => "invalid",
        };
        metrics::counter!("carillon_credentials_refused_total", "credential" => credential, "outcome" => outcome)
            .increment(1);
        error
    }
}
