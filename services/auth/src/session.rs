use std::sync::Arc;

use carillon_domain::{
    DeviceName, ExternalUserId, TenantId, Timestamp, TopicGrants, TopicName, UserCaller, UserId,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{digest::Revocable, refusal::Refusal, revocation::RevocationIndex};

/// What a verified token says about its bearer; a ticket and a stream cookie keep it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) user: ExternalUserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<DeviceName>,
    #[serde(default)]
    pub(crate) topics: TopicGrants,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) channels: Vec<TopicName>,
    /// The token's `jti`; one made of the token's digest when it has none, so that it can be ended like the others.
    pub(crate) jti: String,
    /// Seconds since the Unix epoch, as are the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issued_at: Option<i64>,
    /// When the connection ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
    /// From when on the token is refused: `exp`, with leeway for our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused_from: Option<i64>,
    /// Whether Carillon issued the token.
    #[serde(default)]
    pub(crate) own_token: bool,
    /// JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Box<str>>,
}

impl Session {
    fn caller(&self, id: UserId) -> UserCaller {
        UserCaller {
            id,
            external: self.user.clone(),
            device: self.device.clone(),
            topics: self.topics.clone(),
            channels: self.channels.clone(),
            jti: Some(self.jti.clone()),
            issued_at: self.issued_at.map(Timestamp::from_seconds),
            expires_at: self.expires_at.map(Timestamp::from_seconds),
            own_token: self.own_token,
            info: self.info.clone(),
        }
    }
}

/// A session with what every later use of its credential looks up.
pub(crate) struct Verified {
    pub(crate) session: Session,
    user: Revocable,
    token: Revocable,
    /// Made at the first use, and again when the user behind the name is another one after an erasure.
    caller: Mutex<Option<Arc<UserCaller>>>,
}

impl Verified {
    pub(crate) fn new(tenant: &TenantId, session: Session) -> Self {
        Self {
            user: Revocable::user(tenant, &session.user),
            token: Revocable::token(tenant, &session.jti),
            session,
            caller: Mutex::new(None),
        }
    }

    /// Whether the token still counts. What was revoked says so even when it has expired as well: a stream that comes
    /// back after logout is to stop.
    pub(crate) fn check(&self, revocations: &RevocationIndex, now: Timestamp) -> Result<(), Refusal> {
        if revocations.revoked(&self.user, &self.token, self.session.issued_at, now) {
            return Err(Refusal::Revoked);
        }
        match self.session.refused_from {
            Some(from) if now.as_seconds() >= from => Err(Refusal::Expired),
            _ => Ok(()),
        }
    }

    /// The caller, whose internal id is `id` now.
    pub(crate) fn caller(&self, id: UserId) -> Arc<UserCaller> {
        let mut kept = self.caller.lock();
        match &*kept {
            Some(caller) if caller.id == id => Arc::clone(caller),
            _ => Arc::clone(kept.insert(Arc::new(self.session.caller(id)))),
        }
    }
}
