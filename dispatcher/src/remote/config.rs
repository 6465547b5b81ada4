use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `dispatcher.remote`: channels that workers bring.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RemoteConfig {
    /// How long a worker has for what it pulled, unless it asks for more.
    pub lease: Span,
    /// How long an attempt may take in all, however often its lease is extended.
    pub longest_attempt: Span,
    /// Deliveries that the workers of one channel have at the same time from one node, unless
    /// `dispatcher.delivery.channel_width` names the channel.
    pub width: usize,
    /// Deliveries that one worker's key has at the same time from one node.
    pub in_flight: usize,
    /// Pulls and streams that wait on one node; above, new ones are answered 503 at once.
    pub waiting: usize,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            lease: Span::from_secs(60),
            longest_attempt: Span::from_secs(60 * 60),
            width: 512,
            in_flight: 512,
            waiting: 256,
        }
    }
}

impl RemoteConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key within this section, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        for (key, value) in [
            ("width", self.width),
            ("in_flight", self.in_flight),
            ("waiting", self.waiting),
        ] {
            if !(1..=4_096).contains(&value) {
                return fail(key, "must be between 1 and 4096");
            }
        }
        if self.lease < Span::from_secs(1) || self.lease > Span::from_secs(60 * 60) {
            return fail("lease", "must be between 1s and 1h");
        }
        if self.longest_attempt < self.lease || self.longest_attempt > Span::from_days(1) {
            return fail("longest_attempt", "must not be below lease, and at most 1d");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(RemoteConfig::default().validate(), Ok(()));
        type Spoil = fn(&mut RemoteConfig);
        let cases: [(&str, Spoil); 3] = [
            ("width", |config| config.width = 0),
            ("lease", |config| config.lease = Span::from_secs(0)),
            ("longest_attempt", |config| {
                config.longest_attempt = Span::from_secs(1);
            }),
        ];
        for (key, spoil) in cases {
            let mut config = RemoteConfig::default();
            spoil(&mut config);
            assert_eq!(config.validate().map_err(|(key, _)| key), Err(key.to_owned()));
        }
    }
}
