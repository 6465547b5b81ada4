//! Users' tokens: reading them strictly, checking them, minting our own.

mod jws;
mod mint;
mod own;
mod shared;
mod subscription;
mod value;

pub use mint::{MintError, MintRequest, Minted};
pub(crate) use shared::SharedSecrets;

use std::sync::Arc;

use carillon_domain::{TenantId, Timestamp};

use self::jws::Jws;
use crate::{
    Auth,
    digest::sha256,
    refusal::Refusal,
    session::Verified,
    signing::{SigningKey, is_thumbprint},
};

/// The longest token that is looked at.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What verifies a token: one algorithm each, whatever the token says.
enum Issuer<'a> {
    Own(Arc<SigningKey>),
    Shared(&'a SharedSecrets),
}

impl Auth {
    /// Whom a token belongs to, if it is one of `tenant`'s that counts now.
    pub(crate) async fn token(
        &self,
        tenant: &TenantId,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Verified>, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid("it is larger than 8 KiB"));
        }
        let digest = sha256(&[tenant.as_str().as_bytes(), b"\0", token.as_bytes()]);
        if let Some(known) = self.verified.get(&digest).await {
            known.check(&self.revocations, now)?;
            return Ok(known);
        }
        let jws = Jws::parse(token).map_err(Refusal::Invalid)?;
        let (session, is_worth_keeping) = match self.issuer(tenant, &jws, now).await? {
            Issuer::Own(key) => (own::verify(&self.config, tenant, &key, &jws, now)?, true),
            // An HMAC costs less than the memory that a crowd which has left would go on holding.
            Issuer::Shared(secrets) => (shared::verify(&self.config, secrets, &jws, &digest, now)?, false),
        };
        let verified = Arc::new(Verified::new(tenant, session));
        verified.check(&self.revocations, now)?;
        if is_worth_keeping {
            self.verified.insert(digest, Arc::clone(&verified)).await;
        }
        Ok(verified)
    }

    /// Our own issuer if the token names one of its keys, else the tenant's shared secrets.
    async fn issuer(&self, tenant: &TenantId, jws: &Jws<'_>, now: Timestamp) -> Result<Issuer<'_>, Refusal> {
        if let Some(kid) = jws.header.kid.as_deref().filter(|kid| is_thumbprint(kid)) {
            // Only a hint that the token means to be ours, which saves reads for all others.
            let look_again = jws.header.alg == own::ALGORITHM;
            if let Some(key) = self.signing.find(tenant, kid, look_again, now).await? {
                return Ok(Issuer::Own(key));
            }
        }
        self.shared
            .get(tenant)
            .map(Issuer::Shared)
            .ok_or(Refusal::Invalid("no key of the tenant's fits"))
    }
}
