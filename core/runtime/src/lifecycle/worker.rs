use std::error::Error;

use async_trait::async_trait;

use super::Stop;

/// A part that runs as long as the process does.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// For logs and metrics, `snake_case`.
    fn name(&self) -> &'static str;

    /// Runs until `stop`'s first stage and then comes to its end; after the second stage it is dropped where it stands.
    ///
    /// # Errors
    /// What made it give up. It is then run again, as after a panic, so it must be able to begin anew.
    async fn run(&self, stop: Stop) -> Result<(), Box<dyn Error + Send + Sync>>;
}
