//! Logs on standard error.

use std::{io, sync::Once};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::lines::Lines;

/// Logs, written to standard error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, also per part, such as
    /// `info,carillon_hub=debug,carillon::access=debug`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, part, message and fields.
    Plain,
    /// For programs: one JSON object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Plain,
        }
    }
}

impl LogConfig {
    /// Checks the filter.
    ///
    /// # Errors
    /// The key below this section and the reason.
    pub fn validate(&self) -> Result<(), (String, String)> {
        EnvFilter::try_new(&self.filter)
            .map(drop)
            .map_err(|error| ("filter".to_owned(), error.to_string()))
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("log.filter: {0}")]
pub struct LogError(#[from] tracing_subscriber::filter::ParseError);

/// Sends this process's log lines to standard error, panics included. A second call in one process changes nothing:
/// the log is the process's, not a server's.
///
/// # Errors
/// When the filter is none.
pub fn init_log(config: &LogConfig) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let lines = Lines::new(config.format, io::stderr());
    if tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .is_ok()
    {
        log_panics();
    }
    Ok(())
}

/// A panic becomes a line like any other: with its trace id, and unable to break the format.
fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            let reason = panic.payload_as_str().unwrap_or_default();
            tracing::error!(target: "panic", location, reason, "panicked");
        }));
    });
}
