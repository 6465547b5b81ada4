use std::{error::Error, sync::Arc};

use carillon_domain::Clock;
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use super::WithdrawalsConfig;
use crate::{
    announcer::Announcer,
    intake::is_away,
    store::{
        Store,
        withdrawals::{WithdrawalLease, WithdrawnPage},
    },
    wake::Wake,
};

/// Withdrawals that take turns.
const TURNS: usize = 16;

/// Ends withdrawn notifications for those whom the first transaction left.
pub(crate) struct Withdrawer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Wakes this one.
    pub(crate) wake: Arc<Wake>,
    /// Wakes the deliverer.
    pub(crate) deliverer: Arc<Wake>,
    pub(crate) config: WithdrawalsConfig,
}

impl Withdrawer {
    /// Ends them until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        loop {
            let next = match self.turn().await {
                Ok(true) if !stop.is_cancelled() => continue,
                Ok(_) => self.store.next_withdrawal().await.ok().flatten(),
                Err(error) => {
                    failed(&error);
                    None
                }
            };
            let poll = self.config.poll.duration();
            if !self.wake.wait(&stop, &*self.clock, next, poll).await {
                return;
            }
        }
    }

    /// A page of each that is due. Answers whether there is more.
    pub(crate) async fn turn(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        // A look costs nothing, and mostly there is none.
        if self.store.next_withdrawal().await?.is_none_or(|due| due > now) {
            return Ok(false);
        }
        let until = now.after(self.config.lease.duration());
        let leases = self.store.lease_withdrawals(now, TURNS, until).await?;
        for lease in &leases {
            match self.page(lease).await {
                Ok(()) => {}
                Err(error) if is_away(&error) => return Err(error),
                // It comes again when its lease ends: the others have their turn.
                Err(error) => failed(&error),
            }
        }
        Ok(!leases.is_empty())
    }

    async fn page(&self, lease: &WithdrawalLease) -> Result<(), StoreError> {
        let turn = self.announcer.turn().await;
        let page = self.store.withdraw_page(self.clock.now(), lease).await?;
        turn.announce(page.envelopes).await;
        if let WithdrawnPage::More(count) | WithdrawnPage::Done(count) = page.value {
            metrics::counter!("carillon_dispatcher_withdrawn_recipients_total").increment(count as u64);
            self.deliverer.wake();
        }
        Ok(())
    }
}

fn failed(error: &StoreError) {
    metrics::counter!("carillon_dispatcher_withdrawal_failures_total").increment(1);
    tracing::error!(
        error = error as &dyn Error,
        "a withdrawn notification could not be ended for its recipients; it is tried again"
    );
}
