use std::{error::Error, sync::Arc};

use carillon_domain::{Clock, TenantId, Timestamp};
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use super::{FADING, ReachabilityConfig};
use crate::{
    store::{Store, reach::Probes},
    wake::Wake,
};

/// Deliveries that one transaction counts at the most.
const PAGE: usize = 500;
/// What nothing was sent to for so many half-lives is forgotten.
const FORGET: u32 = 20;

/// Counts what went to devices and what came back.
pub(crate) struct Reachability {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: ReachabilityConfig,
}

impl Reachability {
    /// Counts until `stop`. Several may: whoever counts a tenant's holds the row that says how far it is.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let never = Wake::default();
        while never
            .wait(&stop, &*self.clock, None, self.config.poll.duration())
            .await
        {
            if let Err(error) = self.turn(&stop).await {
                tracing::error!(
                    error = &error as &dyn Error,
                    "what came back could not be counted; it is tried again"
                );
            }
        }
    }

    /// Counts everything that is old enough.
    pub(crate) async fn turn(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut after = None;
        while let Some(tenant) = self.store.next_probed(after.as_ref()).await? {
            while !stop.is_cancelled() && self.count(now, &tenant).await? >= PAGE {}
            if stop.is_cancelled() {
                return Ok(());
            }
            after = Some(tenant);
        }
        let forgotten = now.before(FADING.0.saturating_mul(FORGET));
        while !stop.is_cancelled() && self.store.forget_reach(forgotten, PAGE).await? >= PAGE as u64 {}
        Ok(())
    }

    async fn count(&self, now: Timestamp, tenant: &TenantId) -> Result<usize, StoreError> {
        let probes = Probes {
            channels: &self.config.channels,
            until: now.before(self.config.patience.duration()),
            fading: FADING,
            limit: PAGE,
        };
        self.store.count_probes(now, tenant, &probes).await
    }
}
