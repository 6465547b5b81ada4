//! What the store takes and gives for users' choices and policies, the same for every backend.

use std::{collections::HashMap, sync::Arc};

use carillon_domain::{Category, ChannelKind, TenantId, Timestamp, UserId};

use crate::store::records::UserKey;

/// What a user chose for a category, a channel, or a category over a channel; none stands for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreferenceRow {
    pub(crate) category: Option<Category>,
    pub(crate) channel: Option<ChannelKind>,
    /// On, off, or left to what is less specific.
    pub(crate) enabled: Option<bool>,
    /// `immediate`, or a name of a category's digest.
    pub(crate) digest: Option<String>,
    /// When it was chosen.
    pub(crate) at: Timestamp,
}

/// A change of one preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreferenceChange {
    pub(crate) category: Option<Category>,
    pub(crate) channel: Option<ChannelKind>,
    /// What it is from now on; none removes it.
    pub(crate) to: Option<Chosen>,
}

/// Changes of a user's preferences that are carried out together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PreferenceChanges {
    /// Whether all others go.
    pub(crate) whole: bool,
    pub(crate) changes: Vec<PreferenceChange>,
}

/// What a user wants; at least one of both is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) enabled: Option<bool>,
    pub(crate) digest: Option<String>,
}

/// What became of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreferencesWritten {
    Done,
    /// The user would have too many; nothing was changed.
    TooMany,
    /// The user was erased; nothing was changed.
    Erased,
}

/// Everything that a user chose, as it is read where an alert is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choices {
    pub(crate) preferences: Vec<PreferenceRow>,
    /// JSON, the user's own; none where the user has none.
    pub(crate) body: Option<Arc<str>>,
    /// When alerts that count against the caps began, since the time that was asked for.
    pub(crate) alerts: Vec<Timestamp>,
}

/// By user; who chose nothing is not there.
pub(in crate::store) type ChoicesOf = HashMap<UserKey, Choices>;

/// An alert that counts against the caps: the first of a notification and a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlertRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) at: Timestamp,
    pub(crate) notification: carillon_domain::NotificationId,
    pub(crate) category: Category,
}
