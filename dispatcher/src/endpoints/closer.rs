//! What waits for endpoints that are disabled or deleted becomes a dead letter, page by page. Each page is one
//! transaction, so that whoever comes after a restart goes on where the last one stopped.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::Clock;
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{store::Store, wake::Wake};

/// How often it looks without being woken.
const POLL: Duration = Duration::from_secs(30);
/// How long a deleted endpoint's row stays, for what was under way.
const KEPT: Duration = Duration::from_secs(86_400);

/// Ends what waits for closed endpoints.
pub(crate) struct Closer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Wakes this one.
    pub(crate) wake: Arc<Wake>,
    /// Wakes the deliverer.
    pub(crate) deliverer: Arc<Wake>,
    /// Deliveries that one transaction ends.
    pub(crate) page: usize,
}

impl Closer {
    /// Ends them until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            match self.turn().await {
                Ok(true) if !stop.is_cancelled() => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn Error,
                        "what waits for closed endpoints could not be ended; it is tried again"
                    );
                }
            }
            if !self.wake.wait(&stop, &*self.clock, None, POLL).await {
                return;
            }
        }
    }

    /// One page. Answers whether there may be more.
    async fn turn(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let ended = self.store.end_closed(now, now.before(KEPT), self.page).await?;
        if ended.is_empty() {
            return Ok(false);
        }
        tracing::info!(
            count = ended.len(),
            "deliveries to closed endpoints are dead letters"
        );
        // Others may be told of it.
        self.deliverer.wake();
        Ok(true)
    }
}
