//! The media that this process delivers over, as the configuration asks for them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use carillon_channels::{
    email::{EmailChannel, EmailConfig},
    outbound::Outbound,
    webhook::{WebhookChannel, WebhookConfig},
};
use carillon_domain::{Clock, ports::Channel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// The media beside the mailbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ChannelsConfig {
    /// Email, over one SMTP relay; none without a `host`.
    pub(crate) email: EmailConfig,
    /// Webhooks.
    pub(crate) webhook: WebhookConfig,
}

/// The channels that the configuration asks for.
///
/// # Errors
/// Names the section whose files or keys cannot be used.
pub(crate) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Vec<Arc<dyn Channel>>> {
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    if let Some(email) = EmailChannel::new(&config.channels.email).context("channels.email")? {
        if config
            .server
            .public_url()
            .is_some_and(|url| url.scheme() == "http")
        {
            tracing::warn!(
                "server.public_url is http: emails offer no one-click unsubscribe, which is for https alone"
            );
        }
        channels.push(Arc::new(email));
    }
    if config.channels.webhook.enabled {
        // Nobody may have us call ourselves.
        let own = config
            .server
            .public_url()
            .and_then(|url| url.host_str().map(str::to_owned));
        let outbound = Outbound::open(&config.outbound, own).context("outbound")?;
        channels.push(Arc::new(WebhookChannel::new(outbound, clock.clone())));
    }
    Ok(channels)
}
