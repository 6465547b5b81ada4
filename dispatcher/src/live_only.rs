//! Topics without history.

use std::sync::Arc;

use carillon_domain::TopicName;

/// The prefixes of topics that are live-only.
#[derive(Debug, Clone)]
pub(crate) struct LiveOnly(Arc<[String]>);

impl LiveOnly {
    pub(crate) fn new(prefixes: &[String]) -> Self {
        Self(prefixes.into())
    }

    /// Whether `topic` has no history and no numbers.
    pub(crate) fn covers(&self, topic: &TopicName) -> bool {
        self.0
            .iter()
            .any(|prefix| topic.as_str().starts_with(prefix.as_str()))
    }
}
