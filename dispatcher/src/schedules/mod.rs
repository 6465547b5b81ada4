//! Schedules: notifications that are sent at a time, or again and again.

mod firing;
mod timing;

use carillon_runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use firing::{RunError, prepare};
pub(crate) use timing::{Timing, When};

/// The most schedules of a tenant.
pub(crate) const MOST: u64 = 1_000;

/// Section `dispatcher.schedules`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulesConfig {
    /// How late a time may be sent that nobody was there for. Of several that are not too late the last one is sent, once;
    /// the others are skipped and counted.
    pub grace: Span,
    /// How often it is looked at what is due without being woken, at least.
    pub poll: Span,
}

impl Default for SchedulesConfig {
    fn default() -> Self {
        Self {
            grace: Span::from_secs(3_600),
            poll: Span::from_secs(5),
        }
    }
}
