//! Rows of notifications and of the outbox.

use std::sync::Arc;

use carillon_domain::{ExternalUserId, NotificationState, Target, Timestamp};
use carillon_sql::StoreError;

use super::{corrupt, from_priority, json, number, word};
use crate::store::{
    ledger::encode,
    records::{AcceptReply, Claim, Lease, NotificationRow, StoredTarget, TemplateUse, Which},
};

/// The columns of [`notification`].
pub(in crate::store) const NOTIFICATION: &str = "n.tenant, n.id, n.state, n.category, n.priority, n.collapse_key, \
    n.content, n.targets, n.created_at, n.send_at, n.expires_at, n.topics, n.channels, n.template, \
    n.template_version, n.data";

pub(in crate::store) type NotificationColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    String,
    i64,
    i64,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
);

pub(in crate::store) fn notification(row: NotificationColumns) -> Result<NotificationRow, StoreError> {
    let (tenant, id, state, category, priority, collapse, content, targets, created, send, expires, ..) =
        &row;
    let (.., topics, channels, template, version, data) = &row;
    Ok(NotificationRow {
        tenant: word(tenant)?,
        id: word(id)?,
        state: notification_state(state)?,
        category: word(category)?,
        priority: from_priority(priority)?,
        collapse_key: collapse.as_deref().map(word).transpose()?,
        content: Arc::from(content.as_str()),
        targets: json(targets)?,
        channels: channels.as_deref().map(json).transpose()?,
        template: match (template, version) {
            (Some(name), Some(version)) => Some(TemplateUse {
                name: word(name)?,
                version: number(*version)?,
                data: Arc::from(data.as_deref().unwrap_or("{}")),
            }),
            _ => None,
        },
        created_at: Timestamp::from_micros(*created),
        send_at: Timestamp::from_micros(*send),
        expires_at: Timestamp::from_micros(*expires),
        topics: topics.clone(),
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
