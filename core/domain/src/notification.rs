//! The durable thing that somebody should know.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Address, ChannelKind, ExternalUserId, SegmentName, TopicName};

/// The longest time to live, counted from `send_at`: 30 days.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whom a notification is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One user: `{"user": "ada"}`.
    User(ExternalUserId),
    /// Those who are subscribed to a topic for good, its live subscribers and its history: `{"topic": "room.1"}`.
    Topic(TopicName),
    /// Those whom a saved filter over users holds when they are planned: `{"segment": "berlin"}`.
    Segment(SegmentName),
    /// A plain address that belongs to nobody we know: `{"address": {"channel": "email", "to": "ada@example.org"}}`.
    Address(PlainAddress),
}

/// An address without a user: a recipient of its own, with no inbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlainAddress {
    /// Over which channel; not `in_app`.
    pub channel: ChannelKind,
    /// In the channel's canonical spelling.
    pub to: Address,
}

/// How much it hurries. In-app delivery treats all alike; channels that alert order by it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// May wait.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// As written in requests and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// Where a notification stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationState {
    /// Committed; waits for its time or for the planner.
    Accepted,
    /// Recipients, inbox entries and deliveries are written.
    Planned,
    /// Withdrawn by its sender.
    Cancelled,
    /// Its time to live ended before it was planned.
    Expired,
}

impl NotificationState {
    /// As written in answers and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Planned => "planned",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// A word of limited length and alphabet, cheap to clone.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $max:literal, $allowed:expr, $error:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Invalid;

            fn from_str(text: &str) -> Result<Self, $crate::Invalid> {
                let allowed: fn(char) -> bool = $allowed;
                if matches!(text.len(), 1..=$max) && text.chars().all(allowed) {
                    Ok(Self(std::sync::Arc::from(text)))
                } else {
                    Err($crate::Invalid($error))
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .min_length(Some(1))
                    .max_length(Some($max))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use word;

word!(
    /// What kind of notification it is, the unit of preferences: 1-64 characters of `a-z 0-9 . _ -`.
    Category,
    64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    "a category is 1-64 characters of a-z, 0-9, ., _ and -"
);

impl Default for Category {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

word!(
    /// Notifications with the same category and collapse key replace each other in a user's inbox while the entry
    /// is open: 1-128 bytes without control characters.
    CollapseKey,
    128,
    |c| !c.is_control(),
    "a collapse key is 1-128 bytes without control characters"
);

word!(
    /// A digest key: of alerts that wait for a digest, only those with the same one are bundled. 1-64 bytes without control
    /// characters.
    BundleKey,
    64,
    |c| !c.is_control(),
    "a digest key is 1-64 bytes without control characters"
);

word!(
    /// A template's name within its tenant: 1-64 characters of `a-z 0-9 . _ -`.
    TemplateName,
    64,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    "a template's name is 1-64 characters of a-z, 0-9, ., _ and -"
);
