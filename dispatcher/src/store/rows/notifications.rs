//! Rows of notifications and of the outbox.

use std::sync::Arc;

use carillon_domain::{ExternalUserId, NotificationState, Target, Timestamp};
use carillon_sql::StoreError;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{corrupt, from_priority, json, number, word};
use crate::store::{
    ledger::encode,
    records::{AcceptReply, Claim, Lease, Loaded, NotificationRow, StoredTarget, TemplateUse, Which},
};

/// The columns of [`notification`].
pub(in crate::store) const NOTIFICATION: &str = "n.tenant, n.id, n.state, n.category, n.priority, n.content, n.targets, \
    n.collapse_key, n.topics, n.channels, n.template, n.data, n.plan, n.created_at, n.send_at, n.expires_at, \
    n.critical, n.template_version, n.digest, n.digest_key";

/// The columns of [`NOTIFICATION`], grouped by what they can be.
pub(in crate::store) struct NotificationColumns {
    words: [String; 7],
    /// Collapse key, topics, channels, template, data, plan.
    optional: [Option<String>; 6],
    /// When it was made, is sent and expires; whether it is critical.
    numbers: [i64; 4],
    version: Option<i64>,
    digest: Option<String>,
    digest_key: Option<String>,
}

impl<'r, R> FromRow<'r, R> for NotificationColumns
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            words: [
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
                row.try_get(5)?,
                row.try_get(6)?,
            ],
            optional: [
                row.try_get(7)?,
                row.try_get(8)?,
                row.try_get(9)?,
                row.try_get(10)?,
                row.try_get(11)?,
                row.try_get(12)?,
            ],
            numbers: [
                row.try_get(13)?,
                row.try_get(14)?,
                row.try_get(15)?,
                row.try_get(16)?,
            ],
            version: row.try_get(17)?,
            digest: row.try_get(18)?,
            digest_key: row.try_get(19)?,
        })
    }
}

pub(in crate::store) fn notification(row: NotificationColumns) -> Result<NotificationRow, StoreError> {
    let [tenant, id, state, category, priority, content, targets] = &row.words;
    let [collapse, topics, channels, template, data, plan] = row.optional;
    let [created, send, expires, critical] = row.numbers;
    Ok(NotificationRow {
        tenant: word(tenant)?,
        id: word(id)?,
        state: notification_state(state)?,
        category: word(category)?,
        priority: from_priority(priority)?,
        collapse_key: collapse.as_deref().map(word).transpose()?,
        digest_key: row.digest_key.as_deref().map(word).transpose()?,
        content: Arc::from(content.as_str()),
        targets: json(targets)?,
        channels: channels.as_deref().map(json).transpose()?,
        template: match (template, row.version) {
            (Some(name), Some(version)) => Some(TemplateUse {
                name: word(&name)?,
                version: number(version)?,
                data: Arc::from(data.as_deref().unwrap_or("{}")),
            }),
            _ => None,
        },
        plan: plan.map(Arc::from),
        critical: critical != 0,
        created_at: Timestamp::from_micros(created),
        send_at: Timestamp::from_micros(send),
        expires_at: Timestamp::from_micros(expires),
        digest: row.digest.map(Arc::from),
        topics,
    })
}

/// About how many bytes a row `m` of notifications holds, as [`loaded`] counts them.
pub(in crate::store) const SIZE: &str =
    "(OCTET_LENGTH(m.content) + OCTET_LENGTH(m.targets) + COALESCE(OCTET_LENGTH(m.data), 0))";

/// Notifications as far as they fit into `most` bytes.
pub(in crate::store) fn loaded(found: Vec<NotificationColumns>, most: usize) -> Result<Loaded, StoreError> {
    let size = |row: &NotificationColumns| {
        let [.., content, targets] = &row.words;
        let [.., data, _] = &row.optional;
        content.len() + targets.len() + data.as_ref().map_or(0, String::len)
    };
    let held: usize = found.iter().map(size).sum();
    Ok(Loaded {
        // Those that were left out come after what fills it.
        more: held >= most,
        rows: found.into_iter().map(notification).collect::<Result<_, _>>()?,
    })
}

pub(in crate::store) fn notification_state(text: &str) -> Result<NotificationState, StoreError> {
    use NotificationState::{Accepted, Cancelled, Expired, Planned};
    [Accepted, Planned, Cancelled, Expired]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| corrupt("a state", text))
}

/// The ids of entries and of notifications that are named, as they are stored.
pub(in crate::store) fn named(which: &[Which]) -> (Vec<String>, Vec<String>) {
    let (mut entries, mut notifications) = (Vec::new(), Vec::new());
    for which in which {
        match which {
            Which::Entry(id) => entries.push(id.to_string()),
            Which::Notification(id) => notifications.push(id.to_string()),
        }
    }
    (entries, notifications)
}

/// What a used idempotency key answers.
pub(in crate::store) fn replay(claim: &Claim, fingerprint: &str, status: i64, body: String) -> AcceptReply {
    if fingerprint == claim.fingerprint {
        AcceptReply::Replayed {
            status: u16::try_from(status).unwrap_or(claim.status),
            body,
        }
    } else {
        AcceptReply::Mismatch
    }
}

/// Leases, the oldest notification first: ids begin with their time.
pub(in crate::store) fn leases(rows: Vec<(String, String, i64)>) -> Result<Vec<Lease>, StoreError> {
    let lease = |(tenant, notification, token): (String, String, i64)| {
        Ok(Lease {
            tenant: word(&tenant)?,
            notification: word(&notification)?,
            token,
        })
    };
    let mut leases = rows
        .into_iter()
        .map(lease)
        .collect::<Result<Vec<_>, StoreError>>()?;
    leases.sort_unstable_by_key(|lease| lease.notification);
    Ok(leases)
}

/// The targets without an erased user. `None`: they never named him. `Some((_, true))`: nobody else is left, so
/// that the content was about him alone.
pub(in crate::store) fn without(
    targets: &str,
    name: &ExternalUserId,
) -> Result<Option<(String, bool)>, StoreError> {
    let mut targets: Vec<StoredTarget> = json(targets)?;
    let mut named = false;
    for target in &mut targets {
        if matches!(target, StoredTarget::Known(Target::User(user)) if user == name) {
            *target = StoredTarget::Erased { erased: true };
            named = true;
        }
    }
    let alone = targets
        .iter()
        .all(|target| matches!(target, StoredTarget::Erased { .. }));
    Ok(if named {
        Some((encode(&targets)?, alone))
    } else {
        None
    })
}

/// What stays of a notification's content whose only recipients were erased.
pub(in crate::store) const ERASED_CONTENT: &str = r#"{"title":"(erased)"}"#;
