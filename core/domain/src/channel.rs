//! Delivery media, and where they reach somebody.

use std::sync::Arc;

use crate::notification::word;

word!(
    /// A delivery medium: `in_app`, `email`, `webhook`, or one that a worker brings: 1-32 characters of `a-z 0-9 _ -`.
    ChannelKind,
    32,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'),
    "a channel is 1-32 characters of a-z, 0-9, _ and -"
);

impl ChannelKind {
    /// The mailbox and its sockets: Carillon's own medium, always there.
    pub const IN_APP: &'static str = "in_app";
    /// SMTP.
    pub const EMAIL: &'static str = "email";
    /// HTTP callbacks (Standard Webhooks).
    pub const WEBHOOK: &'static str = "webhook";

    /// [`Self::IN_APP`].
    pub fn in_app() -> Self {
        Self(Arc::from(Self::IN_APP))
    }

    /// [`Self::WEBHOOK`].
    pub fn webhook() -> Self {
        Self(Arc::from(Self::WEBHOOK))
    }

    /// Whether it is [`Self::IN_APP`].
    pub fn is_in_app(&self) -> bool {
        self.as_str() == Self::IN_APP
    }
}

word!(
    /// Where a channel reaches somebody, in the channel's canonical spelling (an email address, a URL, a token): 1-2,048
    /// bytes without control characters.
    Address,
    2_048,
    |c| !c.is_control(),
    "an address is 1-2048 bytes without control characters"
);

/// What a channel can do beside delivering.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Put a newer notification with the same collapse key in the place of one that it delivered.
    pub replace: bool,
    /// Take back what it delivered.
    pub recall: bool,
    /// Whether an address must be verified before anything but the verification goes there.
    pub verified: bool,
}
