//! What the store takes and gives for categories and templates, the same for every backend.

use std::sync::Arc;

use carillon_domain::{Category, ChannelKind, TemplateName, TenantId, Timestamp, UserId};

/// What became of something that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Made,
    Replaced,
    /// The tenant has too many.
    Full,
}

/// A category to write.
#[derive(Debug, Clone)]
pub(crate) struct CategoryWrite {
    pub(crate) name: Category,
    pub(crate) title: Option<String>,
    pub(crate) channels: Vec<ChannelKind>,
    /// Whether its users cannot turn it off.
    pub(crate) mandatory: bool,
    /// What else it says, JSON.
    pub(crate) policy: Option<String>,
}

/// A row of `categories`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CategoryRow {
    pub(crate) name: Category,
    /// What people call it.
    pub(crate) title: Option<String>,
    /// Where its notifications go that name no channels.
    pub(crate) channels: Vec<ChannelKind>,
    /// What else it says, JSON.
    pub(crate) policy: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What a recipient turned off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OptOut {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) category: Category,
    pub(crate) channel: ChannelKind,
}

/// A template's version to write.
#[derive(Debug, Clone)]
pub(crate) struct TemplateWrite {
    pub(crate) name: TemplateName,
    pub(crate) default_locale: String,
    /// JSON: locale to [`carillon_domain::ports::TemplateSource`].
    pub(crate) locales: String,
}

/// A row of `templates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateRow {
    pub(crate) name: TemplateName,
    /// The newest.
    pub(crate) version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A row of `template_versions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateVersionRow {
    pub(crate) version: u64,
    pub(crate) default_locale: String,
    /// JSON: locale to [`carillon_domain::ports::TemplateSource`].
    pub(crate) locales: Arc<str>,
    pub(crate) created_at: Timestamp,
}
