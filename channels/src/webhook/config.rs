//! What can be set about webhooks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `channels.webhook`. Where webhooks may go stands in section `outbound`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Whether there are webhooks at all.
    pub enabled: bool,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}
