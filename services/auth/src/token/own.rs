use carillon_domain::{TenantId, Timestamp};

use super::{jws::Jws, value::Claims};
use crate::{config::AuthConfig, refusal::Refusal, session::Session, signing::SigningKey};

/// The algorithm of our own issuer's keys (RFC 8037).
pub(super) const ALGORITHM: &str = "EdDSA";

/// The type of our own tokens (RFC 9068): no other kind of token passes for one.
pub(super) const TYPE: &str = "at+jwt";

/// Checks a token of our own issuer, except for its end.
pub(super) fn verify(
    config: &AuthConfig,
    tenant: &TenantId,
    key: &SigningKey,
    jws: &Jws<'_>,
    now: Timestamp,
) -> Result<Session, Refusal> {
    if jws.header.alg != ALGORITHM {
        return Err(Refusal::Invalid("its algorithm is not its key's"));
    }
    if jws.header.typ.as_deref() != Some(TYPE) {
        return Err(Refusal::Invalid("it is another kind of token"));
    }
    if !key.verifies(jws.signed, jws.signature) {
        return Err(Refusal::Invalid("its signature is wrong"));
    }
    let claims = Claims(jws.claims().map_err(Refusal::Invalid)?);
    let required = Refusal::Invalid("a required claim is missing");
    if claims.text("iss")? != Some(&config.issuer) {
        return Err(Refusal::Invalid("its issuer is another"));
    }
    // We mint one audience as text: a list, even with ours in it, was minted by nobody.
    if claims.text("aud")? != Some(&config.audience) {
        return Err(Refusal::Invalid("its audience is another"));
    }
    if claims.text("tenant")? != Some(tenant.as_str()) {
        return Err(Refusal::Invalid("its tenant is another"));
    }
    let leeway = i64::try_from(config.leeway.duration().as_secs()).unwrap_or(0);
    // A token that is minted right after a revocation is dated into the next second.
    let issued_at = claims.begun(now.as_seconds(), leeway.max(1))?;
    let Some(user) = claims.text("sub")? else {
        return Err(required);
    };
    let user = user
        .parse()
        .map_err(|_| Refusal::Invalid("its subject is no user id"))?;
    let (Some(issued_at), Some(expires_at), Some(jti)) = (issued_at, claims.seconds("exp")?, claims.jti()?)
    else {
        return Err(required);
    };
    Ok(Session {
        user,
        device: claims.read("device")?,
        topics: claims.topics()?,
        channels: Vec::new(),
        jti,
        issued_at: Some(issued_at),
        expires_at: Some(expires_at),
        refused_from: Some(expires_at + leeway),
        own_token: true,
        info: None,
    })
}
