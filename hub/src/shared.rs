//! What every connection and feed of one hub has in common.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use carillon_runtime::config::Span;
use tokio::{runtime::Handle, time::Instant};

use crate::{HubConfig, metrics::Metrics, wheel::Wheel};

pub(crate) struct Shared {
    pub(crate) config: HubConfig,
    /// The runtime that drives the sockets; envelopes may arrive on other threads.
    pub(crate) runtime: Handle,
    pub(crate) metrics: Metrics,
    pub(crate) wheel: Wheel,
    pub(crate) draining: AtomicBool,
    started: Instant,
    millis: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: HubConfig) -> Self {
        Self {
            config,
            runtime: Handle::current(),
            metrics: Metrics::new(),
            wheel: Wheel::new(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    /// Monotonic time since the hub began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The same in milliseconds, as of the wheel's last turn: cheap enough for every write.
    pub(crate) fn millis(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    /// The wheel turned.
    pub(crate) fn turned(&self) {
        self.millis.store(
            u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A `retry` for SSE clients, jittered so that they do not all come back at once.
    pub(crate) fn retry_ms(&self) -> u64 {
        rand::random_range(millis(self.config.retry_min)..=millis(self.config.retry_max))
    }
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX)
}
