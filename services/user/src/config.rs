use std::time::Duration;

use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Users: the tenant's own ids and ours.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserConfig {
    /// How many users' internal ids are remembered.
    pub cached: u64,
    /// How long an internal id is remembered, 1 s to 60 s. An erasure goes through everything a second time when twice
    /// this time has passed: until then another process may still have written under the old id.
    pub cache_ttl: Span,
}

impl Default for UserConfig {
    fn default() -> Self {
        Self {
            cached: 100_000,
            cache_ttl: Span::from_secs(5),
        }
    }
}

impl UserConfig {
    /// Whether everything fits together.
    ///
    /// # Errors
    /// The key, below `user`, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        if self.cached == 0 {
            return Err(("cached".to_owned(), "must be at least 1".to_owned()));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&self.cache_ttl.duration()) {
            return Err(("cache_ttl".to_owned(), "expected 1s to 1m".to_owned()));
        }
        Ok(())
    }
}
