use carillon_domain::{TenantId, Timestamp, ports::SubscriptionGrant};

use super::{
    MAX_TOKEN_BYTES,
    jws::Jws,
    shared::{connection_end, named_by_digest, subject},
};
use crate::{
    Auth,
    digest::{Revocable, sha256},
    refusal::Refusal,
};

impl Auth {
    /// What a Centrifugo subscription token grants, if the tenant's shared secret signed it and it counts now.
    pub(crate) fn subscription_token(
        &self,
        tenant: &TenantId,
        token: &str,
        now: Timestamp,
    ) -> Result<SubscriptionGrant, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid("it is larger than 8 KiB"));
        }
        let secrets = self
            .shared
            .get(tenant)
            .ok_or(Refusal::Invalid("no key of the tenant's fits"))?;
        let claims = secrets.open(&Jws::parse(token).map_err(Refusal::Invalid)?)?;
        let user = subject(&claims)?;
        let topic = claims
            .text("channel")?
            .ok_or(Refusal::Invalid("it is no subscription token"))?;
        let topic = topic
            .parse()
            .map_err(|_| Refusal::Invalid("its channel is no topic"))?;
        let leeway = i64::try_from(self.config.leeway.duration().as_secs()).unwrap_or(0);
        let issued_at = claims.begun(now.as_seconds(), leeway)?;
        let jti = claims
            .jti()?
            .unwrap_or_else(|| named_by_digest(&sha256(&[token.as_bytes()])));
        let (by_user, by_token) = (Revocable::user(tenant, &user), Revocable::token(tenant, &jti));
        if self.revocations.revoked(&by_user, &by_token, issued_at, now) {
            return Err(Refusal::Revoked);
        }
        let exp = claims.seconds("exp")?;
        if exp.is_some_and(|end| now.as_seconds() >= end) {
            return Err(Refusal::Expired);
        }
        let expires_at = connection_end(&claims, exp)?.map(Timestamp::from_seconds);
        Ok(SubscriptionGrant {
            user,
            topic,
            expires_at,
        })
    }
}
