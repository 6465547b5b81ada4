use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_domain::{DeviceName, ExternalUserId, TenantId, Timestamp, TopicGrants, ports::Unavailable};
use secrecy::SecretString;
use serde::Serialize;

use super::{MAX_TOKEN_BYTES, own};
use crate::{Auth, config::MAX_TOKEN_TTL, digest::Revocable};

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct MintRequest {
    /// For whom.
    pub user: ExternalUserId,
    /// How long it lives, 1 s to 30 days; `None`: as configured.
    pub ttl: Option<Duration>,
    /// The device that it is for.
    pub device: Option<DeviceName>,
    /// What its bearer may subscribe and publish to.
    pub topics: TopicGrants,
}

/// A token.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The token itself.
    pub token: SecretString,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its id, for revocation.
    pub jti: String,
}

/// Why no token was minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// It would live too long, or not at all.
    #[error("a token lives 1 to 2,592,000 seconds")]
    Ttl,
    /// Too many patterns.
    #[error("a token grants at most 64 patterns to subscribe and 64 to publish to")]
    TooManyTopics,
    /// It would be larger than what we accept ourselves.
    #[error("the token would be larger than 8 KiB: grant fewer or shorter patterns")]
    TooLarge,
    /// Nobody has made a key for the tenant yet.
    #[error("there is no such tenant")]
    NoTenant,
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// The store is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    tenant: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<&'a TopicGrants>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a DeviceName>,
}

impl Auth {
    /// Mints a user's token. The user begins to exist by this at the latest.
    ///
    /// # Errors
    /// When the request does not fit, the tenant is unknown, or the store is away.
    pub async fn mint(&self, tenant: &TenantId, request: &MintRequest) -> Result<Minted, MintError> {
        const MOST: usize = 64;
        let ttl = request.ttl.unwrap_or_else(|| self.config.token_ttl.duration());
        if ttl < Duration::from_secs(1) || ttl > MAX_TOKEN_TTL {
            return Err(MintError::Ttl);
        }
        let topics = &request.topics;
        if topics.subscribe.len() > MOST || topics.publish.len() > MOST {
            return Err(MintError::TooManyTopics);
        }
        if !self.knows_tenant(tenant).await? {
            return Err(MintError::NoTenant);
        }
        self.directory
            .resolve(tenant, std::slice::from_ref(&request.user))
            .await?;
        let now = self.clock.now();
        let key = self.signing.signer(tenant, now).await?;
        // A revocation takes the whole second in which it was made; a token minted after it must not fall under it.
        let revoked_at = self
            .revocations
            .user_revoked_at(&Revocable::user(tenant, &request.user));
        let iat = revoked_at.map_or(now.as_seconds(), |at| now.as_seconds().max(at.as_seconds() + 1));
        let mut random = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| MintError::Random)?;
        let jti = hex::encode(random);
        let expires_at = Timestamp::from_seconds(now.after(ttl).as_seconds());
        let claims = Claims {
            iss: &self.config.issuer,
            aud: &self.config.audience,
            sub: request.user.as_str(),
            tenant: tenant.as_str(),
            iat,
            exp: expires_at.as_seconds(),
            jti: &jti,
            topics: (*topics != TopicGrants::default()).then_some(topics),
            device: request.device.as_ref(),
        };
        let header = Header {
            alg: own::ALGORITHM,
            typ: own::TYPE,
            kid: &key.kid,
        };
        let mut token = format!("{}.{}", part(&header)?, part(&claims)?);
        let signature = key.sign(token.as_bytes());
        token.push('.');
        token.push_str(&signature);
        if token.len() > MAX_TOKEN_BYTES {
            return Err(MintError::TooLarge);
        }
        Ok(Minted {
            token: token.into(),
            expires_at,
            jti,
        })
    }
}

fn part<T: Serialize>(value: &T) -> Result<String, Unavailable> {
    let json = serde_json::to_vec(value).map_err(|error| Unavailable::new("writing a token", error))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}
