use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `dispatcher.withdrawals`: how a notification ends for many recipients.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WithdrawalsConfig {
    /// Recipients that one transaction ends. The request that cancels ends so many itself.
    pub page: usize,
    /// How long a page may take before another node tries it.
    pub lease: Span,
    /// How often it is looked for without a wake-up, at least.
    pub poll: Span,
}

impl Default for WithdrawalsConfig {
    fn default() -> Self {
        Self {
            page: 1_000,
            lease: Span::from_secs(30),
            poll: Span::from_secs(5),
        }
    }
}

impl WithdrawalsConfig {
    /// Checks what the types cannot; answers the key and what is wrong with it.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1..=10_000).contains(&self.page) {
            return Err(("page", "must be between 1 and 10000".to_owned()));
        }
        for (key, value) in [("lease", self.lease), ("poll", self.poll)] {
            if value.is_zero() {
                return Err((key, "must be above zero".to_owned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named() {
        assert_eq!(WithdrawalsConfig::default().validate(), Ok(()));
        let config = WithdrawalsConfig {
            page: 0,
            ..WithdrawalsConfig::default()
        };
        assert_eq!(config.validate().map_err(|(key, _)| key), Err("page"));
    }
}
