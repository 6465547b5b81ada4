//! What keeps a delivery from being started although its work is open: its notification was cancelled or answered, or
//! its recipient did. Pure: rows in, rows out.
//!
//! Who withdraws ends the work of one recipient at once and of many page by page; until a page has its turn, this is what
//! stops it. On PostgreSQL a start holds its notification's [`Gate`] shared and looks after that; who withdraws holds it
//! alone before he changes the notification: so either the start committed first, and is counted as in flight, or it
//! finds the withdrawal. A digest goes out for its members, so its start holds the gate of one of them too that is not
//! withdrawn. A start never waits for a gate, since it holds lanes: what stands behind a closed one stays due.

use std::collections::BTreeSet;

use carillon_domain::{NotificationId, TenantId, UserId, ports::Operation};

use super::{decide::Candidate, records::Brings};
use crate::store::{
    digests::NOTHING_LEFT,
    withdrawals::{ACKNOWLEDGED, ANSWERED, CANCELLED},
};

/// The two numbers of an advisory lock of PostgreSQL.
pub(in crate::store) type Gate = (i32, i32);

/// Gates that a store has: few, so that a batch takes few, and many, so that a withdrawal holds up few others.
const GATES: u32 = 256;

/// The gate of a notification; `store` is the store's own name, since several may share a database.
pub(in crate::store) fn gate(store: &str, tenant: &TenantId, id: NotificationId) -> Gate {
    let id = id.to_string();
    let gate = fnv(&[tenant.as_str(), "/", &id]) % GATES;
    (
        i32::from_ne_bytes(fnv(&["carillon/", store]).to_ne_bytes()),
        i32::try_from(gate).unwrap_or_default(),
    )
}

/// FNV-1a: the same on every node and in every version.
fn fnv(texts: &[&str]) -> u32 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Stands for the state of a digest of which nothing is left.
pub(in crate::store) const EMPTIED: &str = "emptied";

/// Place, the notification's state or [`EMPTIED`], whether one answer ended it, the recipient's state.
pub(in crate::store) type WithdrawnColumns = (i64, String, i64, Option<String>);

/// The notification and the recipient of a candidate that would be started.
pub(in crate::store) fn starts(candidate: &Candidate) -> Option<(&TenantId, NotificationId, Option<UserId>)> {
    let leased = candidate.delivery.as_ref()?.leased.as_ref()?;
    match (leased.brings, leased.operation) {
        (Brings::Notification(id), Operation::Deliver | Operation::Replace) => {
            Some((&candidate.key.tenant, id, leased.user))
        }
        _ => None,
    }
}

/// The gates of all that would be started, each once.
pub(in crate::store) fn gates(store: &str, candidates: &[Candidate]) -> BTreeSet<Gate> {
    candidates
        .iter()
        .filter_map(starts)
        .map(|(tenant, id, _)| gate(store, tenant, id))
        .collect()
}

/// Leaves alone what stands behind a closed gate.
pub(in crate::store) fn behind_open(
    store: &str,
    candidates: Vec<Candidate>,
    open: &BTreeSet<Gate>,
) -> Vec<Candidate> {
    let mut candidates = candidates;
    candidates.retain(|candidate| {
        starts(candidate).is_none_or(|(tenant, id, _)| open.contains(&gate(store, tenant, id)))
    });
    candidates
}

/// Notes what was found; a place is the candidate's among those that would be started.
pub(in crate::store) fn mark(candidates: &mut [Candidate], found: Vec<WithdrawnColumns>) {
    let mut starting: Vec<&mut Candidate> = candidates
        .iter_mut()
        .filter(|candidate| starts(candidate).is_some())
        .collect();
    for (place, notification, answered, recipient) in found {
        let reason = match (notification.as_str(), answered, recipient.as_deref()) {
            ("cancelled", ..) => CANCELLED,
            (EMPTIED, ..) => NOTHING_LEFT,
            (_, _, Some("acknowledged")) => ACKNOWLEDGED,
            (_, 1, _) => ANSWERED,
            _ => continue,
        };
        let candidate = usize::try_from(place)
            .ok()
            .and_then(|place| starting.get_mut(place));
        if let Some(delivery) = candidate.and_then(|candidate| candidate.delivery.as_mut()) {
            delivery.withdrawn = Some(reason);
        }
    }
}

/// What keeps a digest that would be started from being empty.
pub(in crate::store) struct LiveMember {
    /// Its digest's place among those that would be started.
    pub(in crate::store) place: usize,
    pub(in crate::store) tenant: TenantId,
    pub(in crate::store) id: NotificationId,
    pub(in crate::store) user: Option<UserId>,
}

/// The members that were found, by the places of their digests, of what is not withdrawn.
pub(in crate::store) fn live_members(candidates: &[Candidate], found: Vec<(i64, String)>) -> Vec<LiveMember> {
    let starting: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| starts(candidate).is_some())
        .collect();
    let member = |(place, id): (i64, String)| {
        let place = usize::try_from(place).ok()?;
        let candidate = starting.get(place)?;
        let (tenant, _, user) = starts(candidate)?;
        let is_open = candidate.delivery.as_ref()?.withdrawn.is_none();
        is_open.then_some(LiveMember {
            place,
            tenant: tenant.clone(),
            id: id.parse().ok()?,
            user,
        })
    };
    found.into_iter().filter_map(member).collect()
}

/// Leaves alone what stands at these places among those that would be started.
pub(in crate::store) fn without(candidates: Vec<Candidate>, places: &BTreeSet<usize>) -> Vec<Candidate> {
    let (mut candidates, mut place) = (candidates, 0);
    candidates.retain(|candidate| {
        if starts(candidate).is_none() {
            return true;
        }
        place += 1;
        !places.contains(&(place - 1))
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_the_same_everywhere_and_stores_have_their_own() {
        let tenant = TenantId::default();
        let id: NotificationId = "ntf_01a1ff0a73ed7d9da97e89753255a620".parse().expect("an id");
        let one = gate("a", &tenant, id);
        assert_eq!(one, gate("a", &tenant, id));
        assert_ne!(one.0, gate("b", &tenant, id).0);
        assert!((0..256).contains(&one.1));
    }
}
