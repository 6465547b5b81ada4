use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::records::{ClimbLease, ClimbRow, Climbing, LoadedClimbs, RecipientKey};
use crate::store::{
    digests::{ARRIVED, CAME},
    ledger::Writes,
    records::NotificationRow,
    rows::{self, NotificationColumns, plain_address, word},
};

/// Notifications whose time to live is over that one transaction ends at the most.
pub(in crate::store) const CLOSED_AT_ONCE: usize = 50;

/// By how much the clock of whoever writes an outcome may be behind that of whoever looks at its recipient.
pub(in crate::store) const AHEAD: Duration = Duration::from_secs(5);

/// Said of recipients whose notification's time to live ended.
pub(in crate::store) const LATE: &str = "its time to live ended";
/// The decisions that say so.
pub(in crate::store) const LATE_COMPLETED: &str =
    r#"{"kind":"ended","state":"completed","reason":"its time to live ended"}"#;
pub(in crate::store) const LATE_EXPIRED: &str =
    r#"{"kind":"ended","state":"expired","reason":"its time to live ended"}"#;

/// Until when an attempt of a delivery `d` may take, where its time to live is over at `now`. What went out with a digest
/// that may still arrive is looked at each minute; the digest's own end comes sooner.
pub(in crate::store) fn under_way(now: &str) -> String {
    format!(
        "CASE WHEN d.state = 'digested' AND {CAME} = 'pending' THEN {now} + CAST(60000000 AS BIGINT) \
         WHEN d.state = 'pending' AND d.expires_at <= {now} THEN (SELECT q.due_at FROM delivery_queue q \
         JOIN attempts a ON a.tenant = q.tenant AND a.delivery = q.delivery AND a.number = q.earlier + q.lease \
         WHERE q.tenant = d.tenant AND q.delivery = d.id AND q.due_at > {now} AND a.outcome IS NULL) END"
    )
}

/// Whether it is not known yet what became of an open recipient `r` whose time to live is over: nothing arrived, and an
/// attempt that began before may still take until after `$3`.
pub(in crate::store) fn is_undecided() -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.tenant = r.tenant AND o.notification = r.notification \
         AND o.user_id = r.user_id AND {ARRIVED}) AND EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = r.tenant \
         AND d.notification = r.notification AND d.user_id = r.user_id AND d.channel <> 'in_app' \
         AND {} IS NOT NULL)",
        under_way("$3")
    )
}

/// Leases as the databases give them, and keys that no code of ours wrote.
pub(in crate::store) fn leases(
    rows: Vec<(String, String, String, i64)>,
) -> (Vec<ClimbLease>, Vec<(String, String, String)>) {
    let (mut leases, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for (tenant, notification, user, token) in rows {
        let key = || Ok::<_, StoreError>((word(&tenant)?, word(&notification)?, word(&user)?));
        match key() {
            Ok(key) => leases.push(ClimbLease { key, token }),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    tenant,
                    notification,
                    "a climb cannot be read; it is taken away"
                );
                unreadable.push((tenant, notification, user));
            }
        }
    }
    (leases, unreadable)
}

/// The notifications of leases, once each.
pub(in crate::store) fn notifications(leases: &[ClimbLease]) -> BTreeSet<(&TenantId, NotificationId)> {
    leases.iter().map(|lease| (&lease.key.0, lease.key.1)).collect()
}

/// A lease's place, and the channel and address of a plain address.
pub(in crate::store) type ClimbingColumns = (i64, Option<String>, Option<String>);

/// Leases with what was read of them. A notification that cannot be read keeps nobody else's from being looked at: what
/// belongs to it comes again when its lease ends, until its time to live does.
pub(in crate::store) fn climbing(
    leases: &[ClimbLease],
    recipients: Vec<ClimbingColumns>,
    found: Vec<NotificationColumns>,
) -> Result<LoadedClimbs, StoreError> {
    let mut notifications: HashMap<(TenantId, NotificationId), Arc<NotificationRow>> = HashMap::new();
    for row in found {
        match rows::notification(row) {
            Ok(row) => {
                notifications.insert((row.tenant.clone(), row.id), Arc::new(row));
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "a notification cannot be read; it does not climb"
            ),
        }
    }
    let mut open = vec![false; leases.len()];
    let mut climbing = Vec::with_capacity(recipients.len());
    for (place, channel, address) in recipients {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let (Some(lease), Some(open)) = (leases.get(place), open.get_mut(place)) else {
            continue;
        };
        *open = true;
        let key = (lease.key.0.clone(), lease.key.1);
        if let Some(notification) = notifications.get(&key) {
            climbing.push(Climbing {
                lease: lease.clone(),
                notification: Arc::clone(notification),
                plain: plain_address(channel, address)?,
            });
        }
    }
    let gone = leases.iter().zip(open).filter(|(_, open)| !open);
    Ok(LoadedClimbs {
        gone: gone.map(|(lease, _)| lease.clone()).collect(),
        climbing,
    })
}

/// Recipients of whom nothing is due any more.
pub(in crate::store) fn over(writes: &Writes) -> Vec<RecipientKey> {
    let ended = writes
        .recipient_ends
        .iter()
        .map(|row| (row.tenant.clone(), row.notification, row.user));
    ended.collect()
}

/// A climb that was looked at: its lease, and when something is due again, if it is.
pub(in crate::store) type Looked<'a> = (&'a RecipientKey, i64, Option<Timestamp>);

/// Climbs that were looked at.
pub(in crate::store) fn looked(writes: &Writes) -> Vec<Looked<'_>> {
    let again = writes
        .climbs
        .iter()
        .filter_map(|row| Some((&row.key, row.token?, Some(row.due_at))));
    let over = writes
        .climb_ends
        .iter()
        .map(|lease| (&lease.key, lease.token, None));
    again.chain(over).collect()
}

/// When something is due of new recipients.
pub(in crate::store) fn new_climbs(writes: &Writes) -> Vec<&ClimbRow> {
    writes.climbs.iter().filter(|row| row.token.is_none()).collect()
}
