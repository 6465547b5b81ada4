//! What users and the clock do to mailboxes, and what became of it.

use carillon_domain::{
    Category, ChannelKind, Counts, DeliveryId, DeviceName, EntryId, ExternalUserId, NotificationId, Position,
    TenantId, Timestamp, UserId,
};

use super::UserKey;

/// What a user (or the clock) does to a mailbox.
#[derive(Debug, Clone)]
pub(crate) struct MailboxCommand {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// The tenant's own id of the user, where a person does it.
    pub(crate) name: Option<ExternalUserId>,
    pub(crate) device: Option<DeviceName>,
    /// Deliveries whose answer this is: what they show is not taken back.
    pub(crate) answering: Vec<DeliveryId>,
    /// The channel over which it was told; none from the inbox.
    pub(crate) channel: Option<ChannelKind>,
    pub(crate) operations: Vec<Operation>,
}

impl MailboxCommand {
    pub(crate) fn key(&self) -> UserKey {
        (self.tenant.clone(), self.user)
    }
}

/// One step of a [`MailboxCommand`].
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// Everything up to the position arrived on the command's device.
    Confirm(Position),
    /// Something happens to one entry.
    Entry(Which, EntryAction),
    /// The oldest unread entries become read; call again while `more`.
    ReadAll {
        category: Option<Category>,
        before: Option<Position>,
    },
}

/// Which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    Entry(EntryId),
    /// The entry that shows this notification.
    Notification(NotificationId),
}

/// What happens to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryAction {
    Seen,
    Read,
    /// Its link was followed, which reads it.
    Clicked,
    Unread,
    Archive,
    Delete,
    Acted {
        action: Option<String>,
    },
    Snooze {
        until: Timestamp,
    },
    /// The clock: its time came.
    Wake,
    /// The janitor: its retention ended.
    Forget,
}

/// What became of an [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationResult {
    /// Done.
    Ok,
    /// There was nothing to do.
    Unchanged,
    /// There is no such entry, or the position is none of this mailbox.
    NotFound,
    /// The entry's state does not allow it.
    #[serde(skip)]
    Conflict,
}

/// The mailbox after a [`MailboxCommand`].
#[derive(Debug, Clone)]
pub(crate) struct MailboxReply {
    pub(crate) position: Position,
    pub(crate) counts: Counts,
    /// One per operation, in order.
    pub(crate) results: Vec<OperationResult>,
    /// Whether a [`Operation::ReadAll`] has more to do.
    pub(crate) more: bool,
}
