//! A rule as it is written and stored.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A rule: what becomes of the events that it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleDocument {
    /// What it is for, in words; at most 1,024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1_024)]
    pub(crate) description: Option<String>,
    /// Whether it counts.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// Rules see an event in this order, the smallest first, and by name where it is the same.
    #[serde(default)]
    pub(crate) order: i32,
    /// The type of the events that it is for: exactly, or how it begins with `*` at the end.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 255)]
    pub(crate) kind: String,
    /// The source of the events that it is for, in the same way; any when absent.
    #[serde(default = "any")]
    #[schema(min_length = 1, max_length = 1_024)]
    pub(crate) source: String,
    /// What must stand in the event's data, at most 16 conditions, which must all hold. `docs/events.md` says how they are
    /// written.
    #[serde(default, skip_serializing_if = "is_nothing")]
    #[schema(value_type = Object)]
    pub(crate) when: Value,
    /// The notification: `targets`, `content` or `template` with `data`, `category`, `channels`, `plan`, `priority`,
    /// `collapse_key`, `digest_key`, `ttl` and `send_at`, with places for what the event says.
    #[schema(value_type = Object)]
    pub(crate) notify: Value,
}

fn yes() -> bool {
    true
}

fn any() -> String {
    "*".to_owned()
}

fn is_nothing(value: &Value) -> bool {
    value.is_null()
}
