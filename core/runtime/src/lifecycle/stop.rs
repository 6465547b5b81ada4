//! The two stages of stopping.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Two stages of stopping. After the first, nothing new is begun and what runs comes to its end; after the second,
/// what still runs is dropped.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
    /// The stages again: asking a token takes a lock, which a connection would do at each step.
    stages: Arc<Stages>,
}

#[derive(Debug, Default)]
struct Stages {
    finishing: AtomicBool,
    aborted: AtomicBool,
}

impl Stop {
    /// Not stopping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the first stage.
    pub fn finish(&self) {
        self.stages.finishing.store(true, Ordering::Release);
        self.soft.cancel();
    }

    /// Begins the second stage.
    pub fn abort(&self) {
        self.stages.aborted.store(true, Ordering::Release);
        self.finish();
        self.hard.cancel();
    }

    /// Whether the first stage has begun.
    pub fn is_finishing(&self) -> bool {
        self.stages.finishing.load(Ordering::Acquire)
    }

    /// Whether the second stage has begun.
    pub fn is_aborted(&self) -> bool {
        self.stages.aborted.load(Ordering::Acquire)
    }

    /// The first stage, for `select!`.
    pub async fn finishing(&self) {
        self.soft.cancelled().await;
    }

    /// The second stage, for `select!`.
    pub async fn aborted(&self) {
        self.hard.cancelled().await;
    }

    /// The first stage as a token, to wait for; it begins by [`Self::finish`] alone.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// The second stage as a token, to wait for; it begins by [`Self::abort`] alone.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }
}
