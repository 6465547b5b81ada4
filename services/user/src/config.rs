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
    /// How long a heartbeat with the focus counts, 10 s to 10 min: within it the user is active on that device.
    pub activity_life: Span,
    /// How long the count and the preview of a segment may look for, 10 ms to 30 s; what is found until then is answered
    /// as incomplete.
    pub segment_patience: Span,
    /// How many users the count and the preview of a segment look at, from 1; more is answered as incomplete.
    pub segment_rows: u64,
}

impl Default for UserConfig {
    fn default() -> Self {
        Self {
            cached: 100_000,
            cache_ttl: Span::from_secs(5),
            retired_retention: Span::from_days(30),
            activity_life: Span::from_secs(60),
            segment_patience: Span::from_secs(5),
            segment_rows: 1_000_000,
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
        let life = Duration::from_secs(10)..=Duration::from_secs(600);
        if !life.contains(&self.activity_life.duration()) {
            return Err(("activity_life".to_owned(), "expected 10s to 10m".to_owned()));
        }
        let patience = Duration::from_millis(10)..=Duration::from_secs(30);
        if !patience.contains(&self.segment_patience.duration()) {
            return Err(("segment_patience".to_owned(), "expected 10ms to 30s".to_owned()));
        }
        if self.segment_rows == 0 {
            return Err(("segment_rows".to_owned(), "must be at least 1".to_owned()));
        }
        Ok(())
    }
}
