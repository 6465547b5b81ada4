//! Mailboxes: their rows, and what a list of entries asks for.

use std::sync::Arc;

use bytes::Bytes;
use carillon_domain::{
    Acknowledgement, Category, ChangeKind, CollapseKey, Counts, DeviceName, EntryId, Epoch, NotificationId,
    Position, Priority, TenantId, Timestamp, UserId,
};

use super::UserKey;

/// A row of `mailboxes`.
#[derive(Debug, Clone)]
pub(crate) struct MailboxRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) epoch: Epoch,
    pub(crate) last_seq: u64,
    pub(crate) floor_seq: u64,
    pub(crate) counts: Counts,
    pub(crate) oldest_at: Option<Timestamp>,
}

impl MailboxRow {
    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.last_seq,
        }
    }
}

/// A row of `mailbox_log`.
#[derive(Debug, Clone)]
pub(crate) struct LogRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) seq: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) body: Bytes,
    pub(crate) at: Timestamp,
}

/// A row of `entries`.
#[derive(Debug, Clone)]
pub(crate) struct EntryRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) id: EntryId,
    pub(crate) notification: NotificationId,
    pub(crate) category: Category,
    pub(crate) collapse_key: Option<CollapseKey>,
    pub(crate) priority: Priority,
    /// Empty where only the state is read.
    pub(crate) content: Arc<str>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) arrived_at: Timestamp,
    pub(crate) seen_at: Option<Timestamp>,
    pub(crate) read_at: Option<Timestamp>,
    pub(crate) archived_at: Option<Timestamp>,
    pub(crate) snoozed_until: Option<Timestamp>,
    pub(crate) acknowledgement: Option<Acknowledgement>,
    pub(crate) seq: u64,
    pub(crate) gone_at: Option<Timestamp>,
    /// Whether it came while alerts were held or turned off.
    pub(crate) silent: bool,
}

impl EntryRow {
    pub(crate) fn key(&self) -> UserKey {
        (self.tenant.clone(), self.user)
    }

    /// Not archived, deleted or recalled: what a collapse key replaces.
    pub(crate) fn is_open(&self) -> bool {
        self.archived_at.is_none() && self.gone_at.is_none()
    }

    /// What it adds to the counts.
    pub(crate) fn counted(&self) -> Counts {
        if !self.is_open() || self.snoozed_until.is_some() {
            return Counts::default();
        }
        Counts {
            total: 1,
            unread: u64::from(self.read_at.is_none()),
            unseen: u64::from(self.seen_at.is_none()),
        }
    }
}

/// A row of `confirmations`, new.
#[derive(Debug, Clone)]
pub(crate) struct ConfirmationRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) device: DeviceName,
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    /// Its first one; not stored.
    pub(crate) new_device: bool,
}

/// What an inbox list asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntryQuery {
    pub(crate) view: View,
    pub(crate) unread: bool,
    pub(crate) category: Option<Category>,
    /// Only older than this one.
    pub(crate) before: Option<u64>,
    pub(crate) limit: u32,
}

/// Which entries a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum View {
    /// Neither archived nor snoozed.
    #[default]
    Inbox,
    Archived,
    Snoozed,
    /// All that are not deleted or recalled.
    All,
}

impl View {
    /// As a condition on a row of `entries e`.
    pub(in crate::store) const fn condition(self) -> &'static str {
        match self {
            Self::Inbox => " AND e.gone_at IS NULL AND e.archived_at IS NULL AND e.snoozed_until IS NULL",
            Self::Archived => " AND e.gone_at IS NULL AND e.archived_at IS NOT NULL",
            Self::Snoozed => {
                " AND e.gone_at IS NULL AND e.archived_at IS NULL AND e.snoozed_until IS NOT NULL"
            }
            Self::All => " AND e.gone_at IS NULL",
        }
    }
}
