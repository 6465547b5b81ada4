//! Rows as the databases give them, the same columns on both, made into records. Statements that both share.

use std::collections::{BTreeSet, HashMap};

use carillon_domain::{NotificationId, NotificationState, Timestamp, UserId};
use carillon_sql::StoreError;

use super::records::{DigestKey, DigestLease, DigestRow, OpenDigests};
use crate::store::{
    ladder::{Decision, Digested, RecipientKey},
    ledger::{NotificationEnd, Writes, encode},
    records::{
        EntryAction, MailboxCommand, Operation, PlanJob, RecipientEnd, RecipientState, UserKey, Which,
    },
    rows::word,
};

/// What a delivery came to, as its recipient's ladder asks: one that went out with a digest came to what the digest did.
/// Of a row `d` of deliveries.
pub(in crate::store) const CAME: &str = "CASE d.state WHEN 'digested' THEN COALESCE(\
    (SELECT o.state FROM deliveries o WHERE o.tenant = d.tenant AND o.notification = d.digest AND o.user_id = d.user_id \
    AND o.state IN ('accepted', 'delivered') LIMIT 1), \
    (SELECT CASE r.state WHEN 'open' THEN 'pending' WHEN 'dead' THEN 'dead' ELSE 'skipped' END FROM recipients r \
    WHERE r.tenant = d.tenant AND r.notification = d.digest AND r.user_id = d.user_id), \
    (SELECT CASE WHEN n.state IN ('accepted', 'planned') AND n.closed_at IS NULL THEN 'pending' ELSE 'skipped' END \
    FROM notifications n \
    WHERE n.tenant = d.tenant AND n.id = d.digest), 'skipped') ELSE d.state END";

/// Recipients `r` whose alert went out with a digest that may still arrive: they end when that did.
pub(in crate::store) fn under_way() -> String {
    format!(
        "EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = r.tenant AND d.notification = r.notification \
         AND d.user_id = r.user_id AND d.state = 'digested' AND {CAME} = 'pending')"
    )
}

/// Whether a delivery arrived, by itself or with a digest. Of a row `o` of deliveries.
pub(in crate::store) const ARRIVED: &str = "(o.state IN ('accepted', 'delivered') OR o.state = 'digested' AND EXISTS \
    (SELECT 1 FROM deliveries g WHERE g.tenant = o.tenant AND g.notification = o.digest AND g.user_id = o.user_id \
    AND g.state IN ('accepted', 'delivered')))";

/// Whether a member `m` with its delivery `d`, recipient `r` and notification `n` still waits, at `$8`.
pub(in crate::store) const WAITS: &str = "d.state = 'gathered' AND r.state = 'open' AND n.expires_at > $8 \
    AND n.state IN ('accepted', 'planned') AND n.answered IS NULL";

/// Whether a member is answered or taken back, by its recipient `r` and its notification `m`.
pub(in crate::store) const OVER: &str = "(r.state IN ('acknowledged', 'cancelled', 'superseded', 'erased') \
    OR m.state = 'cancelled' OR m.answered IS NOT NULL)";

/// A member of a digest `n` that is not over.
pub(in crate::store) fn live_member() -> String {
    format!(
        "(SELECT o.notification FROM deliveries o JOIN recipients r ON r.tenant = o.tenant \
         AND r.notification = o.notification AND r.user_id = o.user_id JOIN notifications m ON m.tenant = o.tenant \
         AND m.id = o.notification WHERE o.tenant = n.tenant AND o.digest = n.id AND o.digest IS NOT NULL AND NOT {OVER} LIMIT 1)"
    )
}

/// Whether a notification `n` is a digest whose members are all answered or taken back: it goes out no more.
pub(in crate::store) fn emptied() -> String {
    format!(
        "n.digest IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries o JOIN recipients r ON r.tenant = o.tenant \
         AND r.notification = o.notification AND r.user_id = o.user_id JOIN notifications m ON m.tenant = o.tenant \
         AND m.id = o.notification WHERE o.tenant = n.tenant AND o.digest = n.id AND o.digest IS NOT NULL AND NOT {OVER})"
    )
}

/// Recipients `r` who stand since another time than `$3` in a step of which all goes out with digests, the last of which
/// `$2` of the tenant `$1` is.
pub(in crate::store) const LAST_OF_STEP: &str = "FROM deliveries o JOIN recipients r ON r.tenant = o.tenant \
    AND r.notification = o.notification AND r.user_id = o.user_id AND r.state = 'open' AND r.step = o.step \
    AND r.step_at <> $3 WHERE o.tenant = $1 AND o.digest = $2 AND o.digest IS NOT NULL \
    AND NOT EXISTS (SELECT 1 FROM deliveries x WHERE x.tenant = o.tenant AND x.notification = o.notification \
    AND x.user_id = o.user_id AND x.step = o.step AND x.state NOT IN ('digested', 'skipped'))";

/// Said of a digest of which nothing is left.
pub(in crate::store) const NOTHING_LEFT: &str = "all that was in it was answered or taken back";

/// Tenant, digest, user.
pub(in crate::store) type DigestOfColumns = (String, String, String);

pub(in crate::store) fn digests_of(rows: Vec<DigestOfColumns>) -> Result<Vec<RecipientKey>, StoreError> {
    rows.into_iter()
        .map(|(tenant, digest, user)| Ok((word(&tenant)?, word(&digest)?, word(&user)?)))
        .collect()
}

/// What ends digests and their recipients.
pub(in crate::store) fn taken_back(digests: &[RecipientKey]) -> Writes {
    let ended = digests.iter().map(|(tenant, id, _)| NotificationEnd {
        tenant: tenant.clone(),
        id: *id,
        state: NotificationState::Cancelled,
        topics: None,
        plan: None,
    });
    let recipients = digests.iter().map(|(tenant, id, user)| RecipientEnd {
        tenant: tenant.clone(),
        notification: *id,
        user: *user,
        state: RecipientState::Cancelled,
        reason: Some(NOTHING_LEFT),
        acknowledgement: None,
    });
    Writes {
        ended: ended.collect(),
        recipient_ends: recipients.collect(),
        ..Writes::default()
    }
}

/// Said of what waited in a digest and was over before that closed.
pub(in crate::store) const DROPPED_OUT: &str = "it was over before its digest closed";

/// Whose digests jobs may join.
pub(in crate::store) fn joiners(jobs: &[PlanJob]) -> Vec<UserKey> {
    let mut users: Vec<UserKey> = jobs.iter().flat_map(PlanJob::gathered).collect();
    users.sort_unstable();
    users.dedup();
    users
}

fn digest_key([tenant, user, category, channel, name, key]: [String; 6]) -> Result<DigestKey, StoreError> {
    Ok(DigestKey {
        tenant: word(&tenant)?,
        user: word(&user)?,
        category: word(&category)?,
        channel: word(&channel)?,
        name: name.into(),
        key: key.into(),
    })
}

/// Tenant, user, category, channel, name, key; when it opened; its lease.
pub(in crate::store) type LeaseColumns = (String, String, String, String, String, String, i64, i64);

/// Digests that were handed out. One that cannot be read stands in nobody's way: it comes again when its lease ends.
pub(in crate::store) fn digest_leases(rows: Vec<LeaseColumns>) -> Vec<DigestLease> {
    let leases = rows.into_iter().filter_map(|row| {
        let (tenant, user, category, channel, name, key, opened, token) = row;
        match digest_key([tenant, user, category, channel, name, key]) {
            Ok(key) => Some(DigestLease {
                key,
                opened_at: Timestamp::from_micros(opened),
                token,
            }),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a digest cannot be read; it does not close"
                );
                None
            }
        }
    });
    leases.collect()
}

/// Tenants after `$1` with digests that are due at `$2`, up to `$3`; they are few beside what is due.
pub(in crate::store) const DUE_TENANTS: &str = "WITH RECURSIVE t(tenant) AS (SELECT MIN(tenant) FROM digests \
    WHERE tenant > $1 UNION ALL SELECT (SELECT MIN(d.tenant) FROM digests d WHERE d.tenant > t.tenant) FROM t \
    WHERE t.tenant IS NOT NULL) SELECT t.tenant FROM t WHERE t.tenant IS NOT NULL \
    AND EXISTS (SELECT 1 FROM digests d WHERE d.tenant = t.tenant AND d.due_at <= $2) LIMIT $3";

/// Tenant, user, category, channel, name, key; when it opened, when the latest joined, when it closes, and at the latest.
pub(in crate::store) type DigestColumns =
    (String, String, String, String, String, String, i64, i64, i64, i64);

fn digest(row: DigestColumns) -> Result<(DigestKey, DigestRow), StoreError> {
    let (tenant, user, category, channel, name, key, opened, last, closes, closes_by) = row;
    let key = digest_key([tenant, user, category, channel, name, key])?;
    let row = DigestRow {
        opened_at: Timestamp::from_micros(opened),
        last_at: Timestamp::from_micros(last),
        closes_at: Timestamp::from_micros(closes),
        closes_by: Timestamp::from_micros(closes_by),
    };
    Ok((key, row))
}

pub(in crate::store) fn open_digests(rows: Vec<DigestColumns>) -> Result<OpenDigests, StoreError> {
    rows.into_iter().map(digest).collect()
}

/// Notification, channel and address of a plain address, end of its time to live.
pub(in crate::store) type MemberColumns = (String, Option<String>, Option<String>, i64);

/// The ids of members.
pub(in crate::store) fn member_ids(rows: &[MemberColumns]) -> Result<Vec<NotificationId>, StoreError> {
    rows.iter().map(|(id, ..)| word(id)).collect()
}

/// The decision that a member's alert went out with a digest, as it is kept.
pub(in crate::store) fn digested(key: &DigestKey, digest: NotificationId) -> Result<String, StoreError> {
    encode(&Decision::Digested(Digested {
        channel: key.channel.clone(),
        name: key.name.clone(),
        digest,
    }))
}

/// Tenant, user, digest, member.
pub(in crate::store) type DigestedColumns = (String, String, String, String);

/// Members of digests, by the digest.
pub(in crate::store) type MembersOf = HashMap<(UserKey, NotificationId), Vec<NotificationId>>;

pub(in crate::store) fn members_of(rows: Vec<DigestedColumns>) -> Result<MembersOf, StoreError> {
    let mut members = MembersOf::new();
    for (tenant, user, digest, member) in rows {
        let user: UserId = word(&user)?;
        let of = members
            .entry(((word(&tenant)?, user), word(&digest)?))
            .or_default();
        of.push(word(&member)?);
    }
    Ok(members)
}

/// When the last of the members' times to live ends.
pub(in crate::store) fn latest(rows: &[MemberColumns], now: Timestamp) -> Timestamp {
    let ends = rows.iter().map(|(.., expires)| Timestamp::from_micros(*expires));
    ends.max().unwrap_or(now)
}

/// Notifications that commands answer: one of them may be a digest.
pub(in crate::store) fn answered(commands: &[MailboxCommand]) -> BTreeSet<(UserKey, NotificationId)> {
    let answers = commands.iter().flat_map(|command| {
        let operations = command.operations.iter();
        operations.filter_map(|operation| match operation {
            Operation::Entry(Which::Notification(id), action) => {
                to_members(action).map(|_| (command.key(), *id))
            }
            _ => None,
        })
    });
    answers.collect()
}

/// What answering a digest does to its members. One that is put away is not deleted with all that it held.
fn to_members(action: &EntryAction) -> Option<EntryAction> {
    match action {
        EntryAction::Seen | EntryAction::Read | EntryAction::Archive | EntryAction::Acted { .. } => {
            Some(action.clone())
        }
        // Its link is not theirs.
        EntryAction::Clicked => Some(EntryAction::Read),
        EntryAction::Delete => Some(EntryAction::Archive),
        _ => None,
    }
}

/// The commands with what follows for members of digests, behind what was asked for. None where nothing does.
pub(in crate::store) fn with_members(
    commands: &[MailboxCommand],
    members: &MembersOf,
) -> Option<Vec<MailboxCommand>> {
    if members.is_empty() {
        return None;
    }
    let mut commands = commands.to_vec();
    for command in &mut commands {
        let key = command.key();
        let mut more = Vec::new();
        for operation in &command.operations {
            let Operation::Entry(Which::Notification(id), action) = operation else {
                continue;
            };
            let of = members.get(&(key.clone(), *id)).into_iter().flatten();
            if let Some(action) = to_members(action) {
                more.extend(of.map(|id| Operation::Entry(Which::Notification(*id), action.clone())));
            }
        }
        command.operations.append(&mut more);
    }
    Some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_cannot_be_read_stands_in_nobodys_way() {
        let row = |user: &str| -> LeaseColumns {
            let words = ["default", user, "news", "email", "daily", ""].map(str::to_owned);
            let [tenant, user, category, channel, name, key] = words;
            (tenant, user, category, channel, name, key, 1, 2)
        };
        let user = UserId::at(Timestamp::from_seconds(1));
        let leases = digest_leases(vec![row("nobody"), row(&user.to_string())]);
        assert_eq!(leases.len(), 1);
        assert_eq!((leases[0].key.user, leases[0].token), (user, 2));
    }
}
