//! Ended tokens end their connections.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use carillon_domain::{Envelope, Principal, Revocation, TenantId, Timestamp};
use parking_lot::Mutex;

use crate::{
    connection::{Connection, Role},
    feed::sent_at,
    hub::{Hub, user},
    protocol::{Encoding, codes::Close},
};

/// How long a credential may be under way between its check and the connection's entry in the table.
const REMEMBERED: Duration = Duration::from_secs(60);
/// More than that are not remembered: a flood of revocations must not cost memory.
const MAX_REMEMBERED: usize = 4_096;

/// The latest revocations, for connections that were being opened when they came.
#[derive(Default)]
pub(crate) struct Revocations(Mutex<VecDeque<Revoked>>);

struct Revoked {
    at: Duration,
    tenant: TenantId,
    what: Revocation,
    when: Timestamp,
}

impl Revoked {
    fn covers(&self, principal: &Principal) -> bool {
        principal.tenant == self.tenant && covers(&self.what, principal, self.when)
    }
}

impl Revocations {
    fn add(&self, revoked: Revoked) {
        let mut latest = self.0.lock();
        let now = revoked.at;
        while latest.len() >= MAX_REMEMBERED
            || latest
                .front()
                .is_some_and(|old| now.saturating_sub(old.at) > REMEMBERED)
        {
            latest.pop_front();
        }
        latest.push_back(revoked);
    }

    /// Whether a credential that was just found valid has ended meanwhile.
    pub(crate) fn covers(&self, principal: &Principal, now: Duration) -> bool {
        let latest = self.0.lock();
        latest
            .iter()
            .any(|revoked| now.saturating_sub(revoked.at) <= REMEMBERED && revoked.covers(principal))
    }
}

/// A user's revocation ends what was issued until then; a new login is not meant.
fn covers(what: &Revocation, principal: &Principal, when: Timestamp) -> bool {
    let Some(caller) = user(principal) else {
        return false;
    };
    match what {
        Revocation::User(id) => {
            caller.id == *id && caller.issued_at.is_none_or(|issued_at| issued_at <= when)
        }
        Revocation::Token(jti) => caller.jti.as_deref() == Some(jti),
    }
}

impl Hub {
    /// Ends the connections whose token ended.
    pub(crate) fn revoke(self: &Arc<Self>, envelope: &Envelope, what: &Revocation) {
        let (tenant, when) = (&envelope.tenant, sent_at(envelope));
        let at = self.shared.elapsed();
        self.revocations.add(Revoked {
            at,
            tenant: tenant.clone(),
            what: what.clone(),
            when,
        });
        let meant: Vec<_> = match what {
            Revocation::User(user) => self
                .table
                .of_user(tenant, *user)
                .into_iter()
                .filter_map(|id| self.table.get(id))
                .collect(),
            Revocation::Token(_) => self.table.all(),
        };
        for connection in meant {
            let covered = principal(&connection)
                .is_some_and(|principal| principal.tenant == *tenant && covers(what, &principal, when));
            if covered {
                self.end_revoked(&connection);
            }
        }
    }

    /// Ends a connection for good: a WebSocket by a code after which SDKs stop, a stream by a goodbye; the next
    /// request of either is refused.
    pub(crate) fn end_revoked(&self, connection: &Arc<Connection>) {
        self.shared.metrics.revoked.increment(1);
        match connection.encoding {
            Encoding::WebSocketJson => self.close(connection, Close::INVALID_TOKEN),
            Encoding::EventStream => self.bye(connection, "revoked"),
        }
    }
}

/// Whose a connection is now: a refresh may have brought another token.
fn principal(connection: &Connection) -> Option<Principal> {
    let current = match &*connection.role.lock() {
        Role::Session(session) => session.principal().cloned(),
        Role::Stream(stream) => Some(stream.principal.clone()),
    };
    current.or_else(|| connection.person.get().cloned())
}
