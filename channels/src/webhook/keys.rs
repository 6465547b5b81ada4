//! Secrets that sign, as their owners hold them: `whsec_` (HMAC) and `whsk_` (Ed25519), whose public half is `whpk_`.

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use carillon_domain::ports::{NewSigningKey, SigningKey, SigningKeys, SigningKind, Unavailable};

const HMAC_PREFIX: &str = "whsec_";
const SECRET_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

/// Bytes of an HMAC secret that we make.
const HMAC_BYTES: usize = 32;
/// Bytes that an HMAC secret may have, by the specification.
const HMAC_RANGE: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of an Ed25519 seed.
const SEED_BYTES: usize = 32;

/// Padding is written, and read with or without: secrets are copied by hand.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no signing key, or none could be made. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither of the two prefixes.
    #[error("a signing key begins with whsec_ or whsk_")]
    Prefix,
    /// What follows the prefix is not base64.
    #[error("a signing key is base64 after its prefix")]
    Base64,
    /// Too few or too many bytes.
    #[error("an HMAC secret has 24 to 64 bytes, an Ed25519 key 32 (or 64 with its public half)")]
    Length,
    /// The public half is not the secret's.
    #[error("the two halves of the Ed25519 key do not belong together")]
    Halves,
    /// A public key was asked for where there is none.
    #[error("an HMAC secret has no public key")]
    NoPublic,
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `whsec_`, HMAC-SHA-256: signatures `v1`.
    Hmac,
    /// `whsk_`, Ed25519: signatures `v1a`.
    Ed25519,
}

/// A key of two halves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed25519Pair {
    /// `whsk_...`: stays with the sender.
    pub secret: SigningKey,
    /// `whpk_...`: goes to receivers.
    pub public: String,
}

/// A key, read.
#[expect(
    clippy::large_enum_variant,
    reason = "an HMAC key is read, used and dropped on the stack; only Ed25519's are kept"
)]
pub(super) enum Key {
    Hmac(hmac::Key),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Makes an HMAC secret of 32 random bytes: `whsec_...`.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn generate_hmac() -> Result<SigningKey, KeyError> {
    let mut bytes = [0; HMAC_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(SigningKey::new(format!("{HMAC_PREFIX}{}", BASE64.encode(bytes))))
}

/// Makes an Ed25519 key: `whsk_...` (the seed) and `whpk_...`.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn generate_ed25519() -> Result<Ed25519Pair, KeyError> {
    let mut seed = [0; SEED_BYTES];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| KeyError::Random)?;
    let secret = SigningKey::new(format!("{SECRET_PREFIX}{}", BASE64.encode(seed)));
    let public = public_of(&secret)?;
    Ok(Ed25519Pair { secret, public })
}

/// Makes keys for those who register endpoints.
#[derive(Debug, Clone, Copy, Default)]
pub struct WebhookKeys;

impl SigningKeys for WebhookKeys {
    fn make(&self, kind: SigningKind) -> Result<NewSigningKey, Unavailable> {
        let failed = |error| Unavailable::new("making a signing key", error);
        Ok(match kind {
            SigningKind::Hmac => NewSigningKey {
                secret: generate_hmac().map_err(failed)?,
                public: None,
            },
            SigningKind::Ed25519 => {
                let Ed25519Pair { secret, public } = generate_ed25519().map_err(failed)?;
                NewSigningKey {
                    secret,
                    public: Some(public),
                }
            }
        })
    }
}

/// The public half of a `whsk_` key.
///
/// # Errors
/// When it is no such key.
pub fn public_of(key: &SigningKey) -> Result<String, KeyError> {
    match Key::parse(key.expose())? {
        Key::Ed25519(pair) => Ok(format!(
            "{PUBLIC_PREFIX}{}",
            BASE64.encode(pair.public_key().as_ref())
        )),
        Key::Hmac(_) => Err(KeyError::NoPublic),
    }
}

/// What a key signs with; reads all of it, so that what was saved can be used.
///
/// # Errors
/// When it is no key.
pub fn kind_of(key: &SigningKey) -> Result<KeyKind, KeyError> {
    Ok(match Key::parse(key.expose())? {
        Key::Hmac(_) => KeyKind::Hmac,
        Key::Ed25519(_) => KeyKind::Ed25519,
    })
}

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, KeyError> {
        if let Some(text) = text.strip_prefix(HMAC_PREFIX) {
            let bytes = BASE64.decode(text).map_err(|_| KeyError::Base64)?;
            if !HMAC_RANGE.contains(&bytes.len()) {
                return Err(KeyError::Length);
            }
            return Ok(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        }
        let text = text.strip_prefix(SECRET_PREFIX).ok_or(KeyError::Prefix)?;
        let bytes = BASE64.decode(text).map_err(|_| KeyError::Base64)?;
        // The specification leaves the form open: libraries hold the seed alone, or with the public half behind it.
        let pair = match bytes.len() {
            SEED_BYTES => Ed25519KeyPair::from_seed_unchecked(&bytes),
            64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..SEED_BYTES], &bytes[SEED_BYTES..]),
            _ => return Err(KeyError::Length),
        };
        pair.map(|pair| Self::Ed25519(Box::new(pair)))
            .map_err(|_| KeyError::Halves)
    }
}

/// Whether a text is an Ed25519 key, which is dear to read.
pub(super) fn is_ed25519(text: &str) -> bool {
    text.starts_with(SECRET_PREFIX)
}
