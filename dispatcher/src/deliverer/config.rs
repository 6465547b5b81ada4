//! How deliveries outside the inbox are tried.

use std::collections::BTreeMap;

use carillon_domain::ChannelKind;
use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `dispatcher.delivery`: deliveries over channels outside the inbox. What fails together is a lane: a provider,
/// or the host of an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// Attempts that one node makes at the same time in one lane. A tenant has at most three quarters of them, and the last
    /// one is for a tenant that has none there.
    pub width: usize,
    /// The same for single channels, by their names; others use `width`.
    pub channel_width: BTreeMap<String, usize>,
    /// Attempts that one node makes at the same time in all lanes together. A tenant has at most three
    /// times as many of them as are free, so that the last ones are for the others.
    pub total_width: usize,
    /// Deliveries that one transaction hands out or settles at the most.
    pub batch: usize,
    /// How often a node looks for due deliveries without being woken, at least.
    pub poll: Span,
    /// How much longer than an attempt its lease is: what the node has to write its outcome down.
    pub lease_margin: Span,
    /// When a failed attempt is repeated.
    pub retry: RetryConfig,
    /// When a lane is left alone.
    pub breaker: BreakerConfig,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            width: 32,
            channel_width: BTreeMap::new(),
            total_width: 2_048,
            batch: 256,
            poll: Span::from_secs(5),
            lease_margin: Span::from_secs(30),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

/// Section `dispatcher.delivery.retry`: the wait after a failed attempt is drawn between nothing and a bound that grows
/// from attempt to attempt. A `Retry-After` is waited for. The time to live ends the attempts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// The bound after the first attempt.
    pub first: Span,
    /// By what the bound grows with each attempt.
    pub factor: u32,
    /// The longest bound.
    pub longest: Span,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            first: Span::from_secs(5),
            factor: 4,
            longest: Span::from_secs(6 * 60 * 60),
        }
    }
}

/// Section `dispatcher.delivery.breaker`: after failures that are the provider's or the host's, nothing is tried in that
/// lane for a while (the breaker is open), then one attempt alone; its success closes the breaker again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row after which a lane is left alone.
    pub failures: u32,
    /// Failures of the last 32 attempts, in percent, after which a lane is left alone; above 100 for never.
    pub failure_percent: u32,
    /// How long a lane is left alone at first, at the most; it doubles while attempts go on failing.
    pub first: Span,
    /// How long a lane is left alone at the most.
    pub longest: Span,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 60,
            first: Span::from_secs(10),
            longest: Span::from_secs(300),
        }
    }
}

impl DeliveryConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The key within this section, and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, reason: &str| Err((key.to_owned(), reason.to_owned()));
        let counts = [
            ("width", self.width, 1, 4_096),
            ("total_width", self.total_width, 4, 65_536),
            ("batch", self.batch, 1, 1_000),
            ("retry.factor", self.retry.factor as usize, 1, 100),
            ("breaker.failures", self.breaker.failures as usize, 1, 1_000),
            (
                "breaker.failure_percent",
                self.breaker.failure_percent as usize,
                1,
                1_000,
            ),
        ];
        for (key, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return fail(key, &format!("must be between {least} and {most}"));
            }
        }
        for (channel, width) in &self.channel_width {
            let key = format!("channel_width.{channel}");
            if channel.parse::<ChannelKind>().is_err() {
                return fail(&key, "is no channel's name");
            }
            if !(1..=4_096).contains(width) {
                return fail(&key, "must be between 1 and 4096");
            }
        }
        let month = Span::from_days(30);
        for (key, value) in [
            ("poll", self.poll),
            ("lease_margin", self.lease_margin),
            ("retry.first", self.retry.first),
            ("breaker.first", self.breaker.first),
        ] {
            if value.is_zero() || value > month {
                return fail(key, "must be above zero, and at most 30d");
            }
        }
        if self.retry.longest < self.retry.first || self.retry.longest > month {
            return fail("retry.longest", "must not be below retry.first, and at most 30d");
        }
        if self.breaker.longest < self.breaker.first || self.breaker.longest > Span::from_days(1) {
            return fail(
                "breaker.longest",
                "must not be below breaker.first, and at most 1d",
            );
        }
        Ok(())
    }

    /// Tries no more at a time in a lane of `channel` than the channel does itself: the rest would wait there, and count
    /// as tried.
    pub(crate) fn limit_width(&mut self, channel: &ChannelKind, most: usize) {
        let width = self.width_of(channel).min(most.max(1));
        self.channel_width.insert(channel.as_str().to_owned(), width);
    }

    /// How many attempts run at the same time in a lane of `channel`.
    pub(crate) fn width_of(&self, channel: &ChannelKind) -> usize {
        self.channel_width
            .get(channel.as_str())
            .copied()
            .unwrap_or(self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(DeliveryConfig::default().validate(), Ok(()));
        type Spoil = fn(&mut DeliveryConfig);
        let cases: [(&str, Spoil); 6] = [
            ("width", |config| config.width = 0),
            ("total_width", |config| config.total_width = 0),
            ("channel_width.E-Mail", |config| {
                config.channel_width.insert("E-Mail".into(), 4);
            }),
            ("retry.first", |config| config.retry.first = Span::from_secs(0)),
            ("retry.longest", |config| {
                config.retry.longest = Span::from_secs(1);
            }),
            ("breaker.longest", |config| {
                config.breaker.longest = Span::from_days(2);
            }),
        ];
        for (key, spoil) in cases {
            let mut config = DeliveryConfig::default();
            spoil(&mut config);
            assert_eq!(config.validate().map_err(|(key, _)| key), Err(key.to_owned()));
        }
    }

    #[test]
    fn a_channel_may_have_a_width_of_its_own() {
        let mut config = DeliveryConfig::default();
        config.channel_width.insert("email".into(), 4);
        let email: ChannelKind = "email".parse().expect("valid");
        let webhook: ChannelKind = "webhook".parse().expect("valid");
        assert_eq!((config.width_of(&email), config.width_of(&webhook)), (4, 32));
        config.limit_width(&email, 8);
        config.limit_width(&webhook, 8);
        assert_eq!((config.width_of(&email), config.width_of(&webhook)), (4, 8));
    }
}
