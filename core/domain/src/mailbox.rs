//! A user's mailbox: entries, and the hole-free numbered log of their changes.

use serde::{Deserialize, Serialize};

use crate::{
    Acknowledgement, Category, CollapseKey, Content, EntryId, NotificationId, Position, Priority, Timestamp,
};

/// One notification in one user's mailbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Entry {
    /// The entry's id; a replacement keeps it.
    pub id: EntryId,
    /// The notification that it shows now.
    pub notification_id: NotificationId,
    /// What kind of notification it is.
    pub category: Category,
    /// What it replaces and is replaced by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<CollapseKey>,
    /// How much it hurries.
    pub priority: Priority,
    /// What it says.
    pub content: Content,
    /// When the entry was first made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// When it was read; `unread` takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// When it was archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
    /// Until when it is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<Timestamp>,
    /// Who answered first, and how; never undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Acknowledgement>,
    /// Whether it came while the user's alerts were held or turned off: it is shown without a sound. Left out where not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// How many entries stand in an inbox: those neither archived, deleted, recalled nor snoozed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// In the inbox.
    pub total: u64,
    /// Of these, not read.
    pub unread: u64,
    /// Of these, not seen.
    pub unseen: u64,
}

/// Which entry a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRef {
    /// The entry.
    pub id: EntryId,
    /// The notification that it showed when it changed.
    pub notification_id: NotificationId,
}

/// What a state change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateChange {
    /// Seen.
    Seen,
    /// Read.
    Read,
    /// The display of `read` undone.
    Unread,
    /// Put away.
    Archived,
    /// Hidden until a time.
    Snoozed,
    /// Back in the inbox, since its time came.
    Unsnoozed,
    /// Acknowledged by a button.
    Acted,
}

/// One change of a mailbox: the body of an SSE mailbox event and of a publication in `carillon:inbox`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// A notification arrived.
    Added {
        /// The new entry.
        entry: Entry,
        /// The inbox after the change.
        counts: Counts,
    },
    /// A notification with the same category and collapse key took an open entry's place: same entry id, unread.
    Replaced {
        /// The entry as it is now.
        entry: Entry,
        /// The notification that it showed before.
        superseded: NotificationId,
        /// The inbox after the change.
        counts: Counts,
    },
    /// Entries changed their state; at most 500 in one change.
    StateChanged {
        /// What happened.
        change: StateChange,
        /// To which entries.
        entries: Vec<EntryRef>,
        /// When.
        at: Timestamp,
        /// With `snoozed`: until when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// When this change was also the first acknowledgement.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acknowledgement: Option<Acknowledgement>,
        /// The inbox after the change.
        counts: Counts,
    },
    /// The sender took it back; the entry is gone.
    Recalled {
        /// Which entry.
        entry: EntryRef,
        /// Why, for example `cancelled`.
        reason: String,
        /// The inbox after the change.
        counts: Counts,
    },
    /// The user deleted it, or its retention ended; the entry is gone.
    Deleted {
        /// Which entries.
        entries: Vec<EntryRef>,
        /// The acknowledgement that a deletion by the user is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acknowledgement: Option<Acknowledgement>,
        /// The inbox after the change.
        counts: Counts,
    },
}

impl Change {
    /// Which of the five kinds.
    pub const fn kind(&self) -> ChangeKind {
        match self {
            Self::Added { .. } => ChangeKind::Added,
            Self::Replaced { .. } => ChangeKind::Replaced,
            Self::StateChanged { .. } => ChangeKind::StateChanged,
            Self::Recalled { .. } => ChangeKind::Recalled,
            Self::Deleted { .. } => ChangeKind::Deleted,
        }
    }
}

/// The five kinds of change; as an SSE event name, [`ChangeKind::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// See [`Change::Added`].
    Added,
    /// See [`Change::Replaced`].
    Replaced,
    /// See [`Change::StateChanged`].
    StateChanged,
    /// See [`Change::Recalled`].
    Recalled,
    /// See [`Change::Deleted`].
    Deleted,
}

impl ChangeKind {
    /// As written on the wire and in stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Replaced => "replaced",
            Self::StateChanged => "state_changed",
            Self::Recalled => "recalled",
            Self::Deleted => "deleted",
        }
    }

    /// From [`Self::as_str`].
    pub fn from_stored(text: &str) -> Option<Self> {
        [
            Self::Added,
            Self::Replaced,
            Self::StateChanged,
            Self::Recalled,
            Self::Deleted,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// A change with its number, as `Inbox::since` gives it: `body` is [`Change`] as JSON, encoded once.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedChange {
    /// Where it stands in the log.
    pub position: Position,
    /// Which kind.
    pub kind: ChangeKind,
    /// [`Change`] as JSON.
    pub body: bytes::Bytes,
}
