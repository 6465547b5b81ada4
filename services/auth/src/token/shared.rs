//! HS256 tokens with a tenant's shared secret and Centrifugo's claims.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use carillon_domain::{ExternalUserId, Timestamp, TopicName};
use carillon_runtime::config::Secret;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::{jws::Jws, value::Claims};
use crate::{
    config::{AuthConfig, TenantAuthConfig},
    digest::Digest,
    refusal::Refusal,
    session::Session,
};

/// The only algorithm of shared secrets.
const ALGORITHM: &str = "HS256";

/// A tenant's secrets, the current one first, and what else its tokens must say.
pub(crate) struct SharedSecrets {
    keys: Vec<DecodingKey>,
    issuer: Option<String>,
    audience: Option<String>,
}

impl SharedSecrets {
    pub(crate) fn new(config: &TenantAuthConfig) -> Self {
        let key = |secret: &Secret| DecodingKey::from_secret(secret.expose().as_bytes());
        Self {
            keys: config
                .hmac_secret
                .iter()
                .chain(&config.hmac_previous_secret)
                .map(key)
                .collect(),
            issuer: config.hmac_issuer.clone(),
            audience: config.hmac_audience.clone(),
        }
    }

    /// The claims of a token that one of the secrets signed.
    pub(super) fn open(&self, jws: &Jws<'_>) -> Result<Claims, Refusal> {
        if jws.header.alg != ALGORITHM {
            return Err(Refusal::Invalid("its algorithm is not its key's"));
        }
        // Backends either leave the type out or write JWT; whatever else is no token to connect with.
        if jws
            .header
            .typ
            .as_deref()
            .is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt"))
        {
            return Err(Refusal::Invalid("it is another kind of token"));
        }
        let signed = |key: &DecodingKey| {
            jsonwebtoken::crypto::verify(jws.signature, jws.signed, key, Algorithm::HS256).unwrap_or(false)
        };
        if !self.keys.iter().any(signed) {
            return Err(Refusal::Invalid("its signature is wrong"));
        }
        let claims = Claims(jws.claims().map_err(Refusal::Invalid)?);
        let issuer = claims.text("iss")?;
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err(Refusal::Invalid("its issuer is another"));
        }
        let audience = claims.texts("aud")?;
        if let Some(wanted) = &self.audience
            && !audience.is_some_and(|audience| audience.contains(&wanted.as_str()))
        {
            return Err(Refusal::Invalid("its audience is another"));
        }
        Ok(claims)
    }
}

/// Checks a connection token, except for its end.
pub(super) fn verify(
    config: &AuthConfig,
    secrets: &SharedSecrets,
    jws: &Jws<'_>,
    digest: &Digest,
    now: Timestamp,
) -> Result<Session, Refusal> {
    let claims = secrets.open(jws)?;
    if claims.0.contains_key("channel") {
        return Err(Refusal::Invalid("it is a subscription token"));
    }
    let leeway = i64::try_from(config.leeway.duration().as_secs()).unwrap_or(0);
    let issued_at = claims.begun(now.as_seconds(), leeway)?;
    let expires_at = claims.seconds("exp")?;
    Ok(Session {
        user: subject(&claims)?,
        device: claims.read("device")?,
        topics: claims.topics()?,
        channels: channels(&claims)?,
        jti: claims.jti()?.unwrap_or_else(|| named_by_digest(digest)),
        issued_at,
        expires_at: connection_end(&claims, expires_at)?,
        // As Centrifugo does: a client whose token has just ended is told so and gets a new one.
        refused_from: expires_at,
        own_token: false,
        info: info(&claims)?,
    })
}

/// Whom the token is for; Centrifugo's anonymous users (an empty `sub`) have no mailbox and are refused.
pub(super) fn subject(claims: &Claims) -> Result<ExternalUserId, Refusal> {
    let user = claims
        .text("sub")?
        .ok_or(Refusal::Invalid("a required claim is missing"))?;
    user.parse()
        .map_err(|_| Refusal::Invalid("its subject is no user id"))
}

/// Centrifugo's `expire_at` moves the end of what the token opens away from the token's own; 0 means never.
pub(super) fn connection_end(claims: &Claims, exp: Option<i64>) -> Result<Option<i64>, Refusal> {
    Ok(match claims.seconds("expire_at")? {
        None => exp,
        Some(0) => None,
        Some(seconds) => Some(seconds),
    })
}

/// A name for a token that has none: this text and no other.
pub(super) fn named_by_digest(digest: &Digest) -> String {
    format!("sha256-{}", URL_SAFE_NO_PAD.encode(digest))
}

/// The topics that are subscribed on connect: `channels` and the keys of `subs`, without repeats.
fn channels(claims: &Claims) -> Result<Vec<TopicName>, Refusal> {
    let listed: Vec<String> = claims.read("channels")?.unwrap_or_default();
    let subs: Map<String, Value> = claims.read("subs")?.unwrap_or_default();
    if subs.values().any(|options| !options.is_object()) {
        return Err(Refusal::Invalid("a claim does not have its form"));
    }
    let mut topics: Vec<TopicName> = Vec::new();
    for name in listed.iter().chain(subs.keys()) {
        let topic = name
            .parse()
            .map_err(|_| Refusal::Invalid("one of its channels is no topic"))?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

/// `info`, or `b64info`, which wins; JSON either way.
fn info(claims: &Claims) -> Result<Option<Box<str>>, Refusal> {
    if let Some(encoded) = claims.text("b64info")?.filter(|encoded| !encoded.is_empty()) {
        let wrong = || Refusal::Invalid("its b64info is no JSON in base64");
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        return Ok(Some(value.to_string().into()));
    }
    Ok(claims
        .0
        .get("info")
        .filter(|info| !info.is_null())
        .map(|info| info.to_string().into()))
}
