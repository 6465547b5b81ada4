//! Redrives: dead letters become pending again, page by page. Each page is one transaction with its progress, so that
//! whoever comes after a restart goes on where the last one stopped.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::Clock;
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{intake::is_away, store::Store, wake::Wake};

/// Redrives that take turns.
const TURNS: usize = 16;
/// How often it looks without being woken.
const POLL: Duration = Duration::from_secs(5);

/// Carries redrives on.
pub(crate) struct Redriver {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Wakes this one.
    pub(crate) wake: Arc<Wake>,
    /// Wakes the deliverer.
    pub(crate) deliverer: Arc<Wake>,
    /// Dead letters that one transaction makes pending again.
    pub(crate) page: usize,
}

impl Redriver {
    /// Redrives until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            match self.turn().await {
                Ok(true) if !stop.is_cancelled() => continue,
                Ok(_) => {}
                Err(error) => {
                    metrics::counter!("carillon_delivery_redrive_failures_total").increment(1);
                    tracing::error!(
                        error = &error as &dyn Error,
                        "a redrive could not go on; it is tried again"
                    );
                }
            }
            if !self.wake.wait(&stop, &*self.clock, None, POLL).await {
                return;
            }
        }
    }

    /// A page of each that runs. Answers whether there is more.
    async fn turn(&self) -> Result<bool, StoreError> {
        let mut more = false;
        for (tenant, id) in self.store.running_redrives(TURNS).await? {
            let now = self.clock.now();
            match self.store.redrive_page(now, &tenant, id, self.page).await {
                Ok(goes_on) => more |= goes_on,
                Err(error) if is_away(&error) => return Err(error),
                // It goes to the end of the queue: the others have their turn.
                Err(error) => {
                    metrics::counter!("carillon_delivery_redrive_failures_total").increment(1);
                    tracing::error!(
                        error = &error as &dyn Error,
                        redrive = %id,
                        "a redrive could not go on; it is tried again"
                    );
                    self.store.put_off_redrive(now, &tenant, id).await?;
                }
            }
            self.deliverer.wake();
        }
        Ok(more)
    }
}
