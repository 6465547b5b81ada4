//! What reaches or shows a user.

use serde::{Deserialize, Serialize};

use crate::ChannelKind;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A browser's profile: the inbox reaches it while it is open, push where it has an address.
    Browser,
    /// An installed app; as a browser.
    App,
    /// A phone number, or what a worker's channel rings.
    Phone,
    /// A mailbox.
    Email,
    /// A program.
    Webhook,
    /// A place where many read: a chat room.
    Room,
}

impl DeviceKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Browser,
        Self::App,
        Self::Phone,
        Self::Email,
        Self::Webhook,
        Self::Room,
    ];

    /// As written in requests and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::App => "app",
            Self::Phone => "phone",
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Room => "room",
        }
    }

    /// From [`Self::as_str`].
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// What an address over `channel` belongs to, when nobody says.
    pub fn over(channel: &ChannelKind) -> Self {
        match channel.as_str() {
            ChannelKind::EMAIL => Self::Email,
            ChannelKind::WEBHOOK => Self::Webhook,
            "webpush" => Self::Browser,
            "apns" | "fcm" => Self::App,
            "matrix" => Self::Room,
            _ => Self::Phone,
        }
    }

    /// Whether the inbox reaches it without an address.
    pub const fn shows_inbox(self) -> bool {
        matches!(self, Self::Browser | Self::App)
    }

    /// Whether its address is one installation's or one person's: registered for somebody else, it is no longer the
    /// former owner's.
    pub const fn has_one_owner(self) -> bool {
        matches!(self, Self::Browser | Self::App | Self::Phone)
    }
}
