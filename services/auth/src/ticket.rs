use std::time::Duration;

use carillon_domain::{Principal, TenantId, Timestamp, ports::Unavailable};

use crate::{
    Auth,
    digest::{Digest, sha256},
    refusal::Refusal,
    session::{Session, Verified},
    store::SessionRecord,
};

/// Tickets that one user can have waiting; the oldest ones give way.
const TICKETS_PER_USER: i64 = 64;

/// Stream cookies that one user can have; the oldest ones give way.
const COOKIES_PER_USER: i64 = 256;

/// Hexadecimal digits of a ticket's or cookie's 128 random bits.
const DIGITS: usize = 32;

/// Why no ticket or cookie was handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOutError {
    /// It came with a token and is to live no longer; the token has just ended.
    #[error("the token has ended")]
    Ended,
    #[error("no random bytes")]
    Random,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A ticket, and until when it works.
pub(crate) struct Ticket {
    pub(crate) text: String,
    pub(crate) expires_at: Timestamp,
}

fn secret() -> Result<(String, Digest), HandOutError> {
    let mut random = [0_u8; DIGITS / 2];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| HandOutError::Random)?;
    let text = hex::encode(random);
    let digest = sha256(&[text.as_bytes()]);
    Ok((text, digest))
}

/// The digest that a ticket or cookie is stored under; `None` for what cannot be one.
fn stored_as(text: &str) -> Option<Digest> {
    let plausible = text.len() == DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plausible.then(|| sha256(&[text.as_bytes()]))
}

impl Auth {
    /// A ticket that stands for `session` once.
    pub(crate) async fn hand_out_ticket(
        &self,
        tenant: &TenantId,
        session: &Session,
    ) -> Result<Ticket, HandOutError> {
        let now = self.clock.now();
        let (text, digest) = secret()?;
        let expires_at = until(session, now, self.config.ticket_ttl.duration())?;
        let cookie_expires_at = until(session, now, self.config.cookie_ttl.duration())?;
        let record = self.record(tenant, session, digest, now, expires_at).await?;
        self.store
            .add_ticket(tenant, &record, cookie_expires_at, TICKETS_PER_USER)
            .await
            .map_err(Unavailable::from)?;
        Ok(Ticket { text, expires_at })
    }

    /// A stream cookie that stands for `session`.
    pub(crate) async fn hand_out_cookie(
        &self,
        tenant: &TenantId,
        session: &Session,
    ) -> Result<String, HandOutError> {
        let now = self.clock.now();
        let (text, digest) = secret()?;
        let expires_at = until(session, now, self.config.cookie_ttl.duration())?;
        let record = self.record(tenant, session, digest, now, expires_at).await?;
        self.store
            .add_cookie(tenant, &record, COOKIES_PER_USER)
            .await
            .map_err(Unavailable::from)?;
        Ok(text)
    }

    /// Uses a ticket up; the answer's second part is the value of a stream cookie.
    pub(crate) async fn use_ticket(
        &self,
        tenant: &TenantId,
        ticket: &str,
        now: Timestamp,
    ) -> Result<(Principal, String), Refusal> {
        let digest = stored_as(ticket).ok_or(Refusal::Invalid("it is no ticket"))?;
        let (cookie, cookie_digest) = secret().map_err(|_| Refusal::Invalid("no random bytes"))?;
        let record = self
            .store
            .trade_ticket(tenant, &digest, &cookie_digest, now, COOKIES_PER_USER)
            .await?
            .ok_or(Refusal::Invalid("it is unknown, used or too old"))?;
        Ok((self.resume(tenant, &record, now).await?, cookie))
    }

    /// Who a stream cookie belongs to, and the session that it stands for.
    pub(crate) async fn session_of_cookie(
        &self,
        tenant: &TenantId,
        cookie: &str,
        now: Timestamp,
    ) -> Result<(Principal, Verified), Refusal> {
        let digest = stored_as(cookie).ok_or(Refusal::Invalid("it is no stream cookie"))?;
        let record = self
            .store
            .cookie(tenant, &digest)
            .await?
            .ok_or(Refusal::Invalid("it is unknown or too old"))?;
        let verified = self.reopen(tenant, &record, now)?;
        Ok((
            self.principal(tenant, &verified, Some(record.user)).await?,
            verified,
        ))
    }

    async fn resume(
        &self,
        tenant: &TenantId,
        record: &SessionRecord,
        now: Timestamp,
    ) -> Result<Principal, Refusal> {
        let verified = self.reopen(tenant, record, now)?;
        self.principal(tenant, &verified, Some(record.user)).await
    }

    fn reopen(&self, tenant: &TenantId, record: &SessionRecord, now: Timestamp) -> Result<Verified, Refusal> {
        let session = serde_json::from_str(&record.session)
            .map_err(|error| Refusal::Unavailable(Unavailable::new("reading a session", error)))?;
        let verified = Verified::new(tenant, session);
        verified.check(&self.revocations, now)?;
        if record.expires_at <= now {
            Err(Refusal::Expired)
        } else {
            Ok(verified)
        }
    }

    async fn record(
        &self,
        tenant: &TenantId,
        session: &Session,
        digest: Digest,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<SessionRecord, Unavailable> {
        let user = self.user_id(tenant, &session.user).await?;
        let session =
            serde_json::to_string(session).map_err(|error| Unavailable::new("writing a session", error))?;
        Ok(SessionRecord {
            digest,
            user,
            session,
            created_at: now,
            expires_at,
        })
    }
}

/// `ttl` from now, but not beyond the token's own end.
fn until(session: &Session, now: Timestamp, ttl: Duration) -> Result<Timestamp, HandOutError> {
    let end = now.after(ttl);
    let end = session
        .refused_from
        .map_or(end, |from| end.min(Timestamp::from_seconds(from)));
    if end > now {
        Ok(end)
    } else {
        Err(HandOutError::Ended)
    }
}
