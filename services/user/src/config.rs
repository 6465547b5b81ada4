use std::time::Duration;

use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Users: the tenant's own ids and ours.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserConfig {
    /// How many users' internal ids are remembered, and as many languages and addresses.
    pub cached: u64,
    /// How long these are remembered, 1 s to 60 s. An erasure goes through everything a second time when twice
    /// this time has passed: until then another process may still have written under the old id.
    pub cache_ttl: Span,
    /// How long an address that was found dead is still shown, 1 h to 10 years.
    pub retired_retention: Span,
}

impl Default for UserConfig {
    fn default() -> Self {
        Self {
            cached: 100_000,
            cache_ttl: Span::from_secs(5),
            retired_retention: Span::from_days(30),
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
        const YEAR: u64 = 365 * 24 * 60 * 60;
        let retention = Duration::from_secs(60 * 60)..=Duration::from_secs(10 * YEAR);
        if !retention.contains(&self.retired_retention.duration()) {
            return Err(("retired_retention".to_owned(), "expected 1h to 3650d".to_owned()));
        }
        Ok(())
    }
}
