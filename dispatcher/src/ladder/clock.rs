//! One clock for all nodes: on PostgreSQL the database's.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use carillon_domain::{Clock, Timestamp};
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often it is looked at the database's clock.
const EVERY: Duration = Duration::from_secs(5);

/// This node's clock, set by the database's.
pub(crate) struct OneClock {
    own: Arc<dyn Clock>,
    /// How far the database's is ahead, in microseconds.
    ahead: AtomicI64,
}

impl Clock for OneClock {
    fn now(&self) -> Timestamp {
        let own = self.own.now().as_micros();
        Timestamp::from_micros(own.saturating_add(self.ahead.load(Ordering::Relaxed)))
    }
}

impl OneClock {
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        Self {
            own,
            ahead: AtomicI64::new(0),
        }
    }

    /// Sets it. The answer was on its way for half of the time that it took.
    pub(crate) async fn set(&self, store: &dyn Store) -> Result<(), StoreError> {
        let before = self.own.now().as_micros();
        if let Some(theirs) = store.time().await? {
            let after = self.own.now().as_micros();
            let between = before / 2 + after / 2;
            let ahead = theirs.as_micros().saturating_sub(between);
            self.ahead.store(ahead, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Keeps it set until `stop`.
pub(crate) async fn run(clock: Option<Arc<OneClock>>, store: Arc<dyn Store>, stop: CancellationToken) {
    let Some(clock) = clock else {
        return stop.cancelled().await;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = clock.set(&*store).await {
            tracing::warn!(
                error = &error as &dyn Error,
                "the database does not tell the time"
            );
        }
    }
}
