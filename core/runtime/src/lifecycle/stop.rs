//! The two stages of stopping.

use tokio_util::sync::CancellationToken;

/// Two stages of stopping. After the first, nothing new is begun and what runs comes to its end; after the second,
/// what still runs is dropped.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Stop {
    /// Not stopping.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the first stage.
    pub fn finish(&self) {
        self.soft.cancel();
    }

    /// Begins the second stage.
    pub fn abort(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Whether the first stage has begun.
    pub fn is_finishing(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// The first stage, for `select!`.
    pub async fn finishing(&self) {
        self.soft.cancelled().await;
    }

    /// The second stage, for `select!`.
    pub async fn aborted(&self) {
        self.hard.cancelled().await;
    }

    /// The token of the first stage.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// The token of the second stage.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }
}
