//! Mailbox changes and entries as JSON. They borrow the stored content as it is: a thousand recipients of one
//! notification share its text without anybody reading it again. `carillon_domain::Change` is the same shape, owned.

use carillon_domain::{
    Acknowledgement, Category, ChangeKind, CollapseKey, Counts, EntryId, EntryRef, NotificationId, Priority,
    StateChange, Timestamp,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::store::EntryRow;

/// As [`carillon_domain::Entry`].
#[derive(Serialize)]
pub(crate) struct EntryBody<'a> {
    id: EntryId,
    notification_id: NotificationId,
    category: &'a Category,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a CollapseKey>,
    priority: Priority,
    content: &'a RawValue,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snoozed_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement: Option<&'a Acknowledgement>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    silent: bool,
}

impl<'a> EntryBody<'a> {
    /// `content` is the row's own, checked to be JSON.
    pub(crate) fn new(row: &'a EntryRow, content: &'a RawValue) -> Self {
        Self {
            id: row.id,
            notification_id: row.notification,
            category: &row.category,
            collapse_key: row.collapse_key.as_ref(),
            priority: row.priority,
            content,
            created_at: row.created_at,
            updated_at: row.updated_at,
            seen_at: row.seen_at,
            read_at: row.read_at,
            archived_at: row.archived_at,
            snoozed_until: row.snoozed_until,
            acknowledgement: row.acknowledgement.as_ref(),
            silent: row.silent,
        }
    }
}

/// As [`carillon_domain::Change`].
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ChangeBody<'a> {
    Added {
        entry: EntryBody<'a>,
        counts: Counts,
    },
    Replaced {
        entry: EntryBody<'a>,
        superseded: NotificationId,
        counts: Counts,
    },
    StateChanged {
        change: StateChange,
        entries: &'a [EntryRef],
        at: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        #[serde(skip_serializing_if = "Option::is_none")]
        acknowledgement: Option<&'a Acknowledgement>,
        counts: Counts,
    },
    Recalled {
        entry: EntryRef,
        reason: &'a str,
        counts: Counts,
    },
    Deleted {
        entries: &'a [EntryRef],
        #[serde(skip_serializing_if = "Option::is_none")]
        acknowledgement: Option<&'a Acknowledgement>,
        counts: Counts,
    },
}

impl ChangeBody<'_> {
    pub(crate) const fn kind(&self) -> ChangeKind {
        match self {
            Self::Added { .. } => ChangeKind::Added,
            Self::Replaced { .. } => ChangeKind::Replaced,
            Self::StateChanged { .. } => ChangeKind::StateChanged,
            Self::Recalled { .. } => ChangeKind::Recalled,
            Self::Deleted { .. } => ChangeKind::Deleted,
        }
    }
}

/// What a topic target publishes: `{"type": "notification", "notification": {...}}`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum TopicBody<'a> {
    Notification { notification: TopicNotification<'a> },
}

/// A notification as its topic's subscribers see it.
#[derive(Serialize)]
pub(crate) struct TopicNotification<'a> {
    pub(crate) id: NotificationId,
    pub(crate) category: &'a Category,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) collapse_key: Option<&'a CollapseKey>,
    pub(crate) priority: Priority,
    pub(crate) content: &'a RawValue,
    pub(crate) created_at: Timestamp,
    pub(crate) send_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carillon_domain::{AckKind, Change, Content, Entry, TenantId, UserId};

    use super::*;

    #[test]
    fn bodies_read_back_as_the_domain_s_changes() {
        let at = Timestamp::from_seconds(1_700_000_000);
        let content: Content =
            serde_json::from_str(r#"{"title": "t", "data": {"a": [1, null]}}"#).expect("valid");
        let acknowledgement = Acknowledgement {
            kind: AckKind::Acted,
            at,
            device: Some("laptop".parse().expect("valid")),
            action: Some("retry".into()),
            by: None,
        };
        let row = EntryRow {
            tenant: TenantId::default(),
            user: UserId::at(at),
            id: EntryId::at(at),
            notification: NotificationId::at(at),
            category: Category::default(),
            collapse_key: Some("k".parse().expect("valid")),
            priority: Priority::High,
            content: Arc::from(serde_json::to_string(&content).expect("encodes")),
            created_at: at,
            updated_at: at,
            arrived_at: at,
            seen_at: Some(at),
            read_at: None,
            archived_at: Some(at),
            snoozed_until: None,
            acknowledgement: Some(acknowledgement.clone()),
            seq: 3,
            gone_at: None,
            silent: true,
        };
        let counts = Counts {
            total: 3,
            unread: 2,
            unseen: 1,
        };
        let raw: &RawValue = serde_json::from_str(&row.content).expect("JSON");
        let entry = Entry {
            id: row.id,
            notification_id: row.notification,
            category: row.category.clone(),
            collapse_key: row.collapse_key.clone(),
            priority: row.priority,
            content,
            created_at: at,
            updated_at: at,
            seen_at: Some(at),
            read_at: None,
            archived_at: Some(at),
            snoozed_until: None,
            acknowledgement: Some(acknowledgement.clone()),
            silent: true,
        };
        let reference = EntryRef {
            id: row.id,
            notification_id: row.notification,
        };
        let pairs = [
            (
                ChangeBody::Added {
                    entry: EntryBody::new(&row, raw),
                    counts,
                },
                Change::Added {
                    entry: entry.clone(),
                    counts,
                },
            ),
            (
                ChangeBody::Replaced {
                    entry: EntryBody::new(&row, raw),
                    superseded: row.notification,
                    counts,
                },
                Change::Replaced {
                    entry,
                    superseded: row.notification,
                    counts,
                },
            ),
            (
                ChangeBody::StateChanged {
                    change: StateChange::Snoozed,
                    entries: &[reference],
                    at,
                    until: Some(at),
                    acknowledgement: Some(&acknowledgement),
                    counts,
                },
                Change::StateChanged {
                    change: StateChange::Snoozed,
                    entries: vec![reference],
                    at,
                    until: Some(at),
                    acknowledgement: Some(acknowledgement.clone()),
                    counts,
                },
            ),
            (
                ChangeBody::Recalled {
                    entry: reference,
                    reason: "cancelled",
                    counts,
                },
                Change::Recalled {
                    entry: reference,
                    reason: "cancelled".into(),
                    counts,
                },
            ),
            (
                ChangeBody::Deleted {
                    entries: &[reference],
                    acknowledgement: None,
                    counts,
                },
                Change::Deleted {
                    entries: vec![reference],
                    acknowledgement: None,
                    counts,
                },
            ),
        ];
        for (body, change) in pairs {
            let text = serde_json::to_string(&body).expect("encodes");
            assert_eq!(serde_json::from_str::<Change>(&text).expect("reads"), change);
            assert_eq!(
                text,
                serde_json::to_string(&change).expect("encodes"),
                "the same text"
            );
            assert_eq!(body.kind(), change.kind());
        }
    }
}
