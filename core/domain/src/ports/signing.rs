use super::{SigningKey, Unavailable};

/// Makes the keys that sign what goes to webhook endpoints (Standard Webhooks).
pub trait SigningKeys: Send + Sync + 'static {
    /// A new key.
    fn make(&self, kind: SigningKind) -> Result<NewSigningKey, Unavailable>;
}

/// How a key signs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SigningKind {
    /// HMAC-SHA-256 (`whsec_...`): both sides hold the same secret.
    #[default]
    Hmac,
    /// Ed25519 (`whsk_...`): receivers hold the public half (`whpk_...`).
    Ed25519,
}

impl SigningKind {
    /// As written in stores and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        }
    }

    /// From [`Self::as_str`].
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Hmac, Self::Ed25519]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// A key that was just made.
#[derive(Debug, Clone)]
pub struct NewSigningKey {
    /// What signs.
    pub secret: SigningKey,
    /// What receivers check with, where that is another half.
    pub public: Option<String>,
}
