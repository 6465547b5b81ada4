use std::time::Duration;

use bytes::Bytes;
use carillon_domain::{
    Envelope, EnvelopeId, EnvelopeKind, ExternalUserId, Revocation, Subject, TenantId, Timestamp, UserId,
    ports::Unavailable,
};
use dashmap::DashMap;

use crate::{Auth, digest::Revocable, session::Session, store::RevocationRecord};

/// Every revocation that still counts, so that checking one costs no read of the store.
#[derive(Debug, Default)]
pub(crate) struct RevocationIndex(DashMap<Revocable, Ended>);

#[derive(Debug, Clone, Copy)]
struct Ended {
    revoked_at: Timestamp,
    expires_at: Timestamp,
}

impl RevocationIndex {
    pub(crate) fn learn(&self, records: &[RevocationRecord]) {
        for record in records {
            let mut ended = self.0.entry(record.what).or_insert(Ended {
                revoked_at: record.revoked_at,
                expires_at: record.expires_at,
            });
            ended.revoked_at = ended.revoked_at.max(record.revoked_at);
            ended.expires_at = ended.expires_at.max(record.expires_at);
        }
    }

    pub(crate) fn forget_expired(&self, now: Timestamp) {
        self.0.retain(|_, ended| ended.expires_at > now);
    }

    /// Whether the token, or all of its user's tokens from the time when it was issued, are revoked. A token that does
    /// not say when it was issued falls under every revocation of its user.
    pub(crate) fn revoked(
        &self,
        user: &Revocable,
        token: &Revocable,
        issued_at: Option<i64>,
        now: Timestamp,
    ) -> bool {
        let counts = |what: &Revocable| {
            self.0
                .get(what)
                .map(|ended| *ended)
                .filter(|e| e.expires_at > now)
        };
        counts(token).is_some()
            || counts(user)
                .is_some_and(|ended| issued_at.is_none_or(|issued| issued <= ended.revoked_at.as_seconds()))
    }

    /// When the user's tokens were last revoked.
    pub(crate) fn user_revoked_at(&self, user: &Revocable) -> Option<Timestamp> {
        self.0.get(user).map(|ended| ended.revoked_at)
    }
}

/// How long before its newest revocation the index reads again: clocks of several processes differ, and a transaction
/// may commit later than its own time says.
const OVERLAP: Duration = Duration::from_secs(120);

impl Auth {
    /// Ends all tokens of `user` that were issued until now, and the connections that they opened.
    ///
    /// # Errors
    /// When the store or the bus is away; then it can be done again.
    pub async fn revoke_user(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<(), Unavailable> {
        // Somebody whom we never met may hold a token that a backend signed.
        let ids = self.directory.resolve(tenant, std::slice::from_ref(user)).await?;
        let now = self.clock.now();
        let record = self.revocation(Revocable::user(tenant, user), now);
        self.revoke(tenant, record, now).await?;
        for id in ids {
            self.announce(tenant, Revocation::User(id)).await?;
        }
        Ok(())
    }

    /// Ends one token by its `jti`, and the connections that it opened.
    ///
    /// # Errors
    /// As [`Self::revoke_user`].
    pub async fn revoke_token(&self, tenant: &TenantId, jti: &str) -> Result<(), Unavailable> {
        let now = self.clock.now();
        let record = self.revocation(Revocable::token(tenant, jti), now);
        self.revoke(tenant, record, now).await?;
        self.announce(tenant, Revocation::Token(jti.to_owned())).await
    }

    /// As [`Self::revoke_token`], kept no longer than the token could live.
    pub(crate) async fn log_out(&self, tenant: &TenantId, session: &Session) -> Result<(), Unavailable> {
        let now = self.clock.now();
        let mut record = self.revocation(Revocable::token(tenant, &session.jti), now);
        if let Some(from) = session.refused_from {
            // A cookie may still come by after the token's end and must be told to stop.
            let late = Timestamp::from_seconds(from).after(self.config.cookie_ttl.duration());
            record.expires_at = record.expires_at.min(late.max(now));
        }
        self.revoke(tenant, record, now).await?;
        self.announce(tenant, Revocation::Token(session.jti.clone()))
            .await
    }

    pub(crate) fn revocation(&self, what: Revocable, now: Timestamp) -> RevocationRecord {
        let expires_at = now.after(self.config.revocation_retention.duration());
        RevocationRecord {
            what,
            revoked_at: now,
            expires_at,
        }
    }

    async fn revoke(
        &self,
        tenant: &TenantId,
        record: RevocationRecord,
        now: Timestamp,
    ) -> Result<(), Unavailable> {
        self.store
            .revoke(tenant, std::slice::from_ref(&record), now)
            .await?;
        self.revocations.learn(&[record]);
        Ok(())
    }

    /// Tells every node; the revocation is committed already.
    async fn announce(&self, tenant: &TenantId, revocation: Revocation) -> Result<(), Unavailable> {
        self.bus
            .publish(vec![Envelope {
                id: EnvelopeId::at(self.clock.now()),
                tenant: tenant.clone(),
                subject: Subject::Control,
                position: None,
                kind: EnvelopeKind::Revoked(revocation),
                body: Bytes::new(),
            }])
            .await
    }

    pub(crate) async fn announce_user(&self, tenant: &TenantId, user: UserId) -> Result<(), Unavailable> {
        self.announce(tenant, Revocation::User(user)).await
    }

    /// Learns what was revoked: `everything` that still counts, or what is new.
    pub(crate) async fn refresh_revocations(&self, everything: bool) -> Result<(), Unavailable> {
        let now = self.clock.now();
        let since = if everything {
            Timestamp::from_micros(i64::MIN)
        } else {
            now.before(OVERLAP)
        };
        self.revocations
            .learn(&self.store.revocations_since(since, now).await?);
        for id in self.store.keys_revoked_since(now.before(OVERLAP)).await? {
            self.keys.forget(id).await;
        }
        Ok(())
    }
}
