use carillon_domain::ChannelKind;
use carillon_policy::PUSH_CHANNELS;
use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `dispatcher.reachability`: how well devices have proved to be within reach, by the receipts that came back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReachabilityConfig {
    /// Channels whose far end confirms each delivery with a receipt. What goes over others says nothing about reach.
    #[schemars(with = "Vec<String>")]
    pub channels: Vec<ChannelKind>,
    /// How long a receipt may take. A later one counts nevertheless.
    pub patience: Span,
    /// How often deliveries are counted.
    pub poll: Span,
}

impl Default for ReachabilityConfig {
    fn default() -> Self {
        Self {
            channels: PUSH_CHANNELS
                .iter()
                .filter_map(|kind| kind.parse().ok())
                .collect(),
            patience: Span::from_secs(600),
            poll: Span::from_secs(60),
        }
    }
}
