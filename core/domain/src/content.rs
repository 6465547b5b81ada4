//! What a notification says.

use serde::{Deserialize, Serialize};

/// What a notification says. Text is data: Carillon never interprets markup in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// One line, 1-1,024 bytes.
    pub title: String,
    /// The text, at most 16 KiB, without control characters other than line breaks and tabs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Where a click leads: an absolute `http` or `https` URL, or a path within the app; at most 2,048 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A picture's URL, at most 2,048 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon: Option<String>,
    /// Buttons, at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// Anything the app wants along: a JSON object, at most 32 KiB encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A button. Pressing it acknowledges the notification as `acted`, naming the action's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// 1-64 characters of `A-Z a-z 0-9 . _ -`, unique within the notification.
    pub id: String,
    /// What the button says: one line, 1-256 bytes.
    pub title: String,
    /// Where it leads; as [`Content::url`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
