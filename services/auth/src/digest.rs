//! SHA-256, and names that are digests.

use aws_lc_rs::digest::{Context, SHA256};
use carillon_domain::{ExternalUserId, TenantId};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// The SHA-256 of `parts`, one after the other. Where more than one can vary in length, put a separator between.
pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// What a revocation is kept under: a digest that names a tenant's user or token without showing its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Revocable([u8; 16]);

impl Revocable {
    /// All of a user's tokens.
    pub(crate) fn user(tenant: &TenantId, user: &ExternalUserId) -> Self {
        Self::of(b"user", tenant, user.as_str())
    }

    /// One token.
    pub(crate) fn token(tenant: &TenantId, jti: &str) -> Self {
        Self::of(b"token", tenant, jti)
    }

    // A tenant's name holds no NUL, so that no two triples run together.
    fn of(kind: &[u8], tenant: &TenantId, name: &str) -> Self {
        let digest = sha256(&[kind, b"\0", tenant.as_str().as_bytes(), b"\0", name.as_bytes()]);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Self(short)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
