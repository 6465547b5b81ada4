//! What a process says about itself: logs and metrics.

mod lines;
mod log;
mod metrics;
mod process;

pub use log::{LogConfig, LogError, LogFormat, init_log};
pub use metrics::Metrics;
