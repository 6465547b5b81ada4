//! One attempt: its message is made, and its channel sends it.

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Fault, Outcome,
    ports::{Channel, Report},
};
use tokio::time::Instant;

use super::{
    compose::{Composer, Parts},
    settlement::{BEGIN, Said, ours_to_retry, unsent},
};
use crate::store::outside::LeasedDelivery;

/// A channel ends by itself within its patience; this much later it is cut off.
pub(super) const CUT_OFF: Duration = Duration::from_secs(1);

/// One attempt, which was committed at `committed`. Whatever is slow about it, its message's making too, is its own time:
/// the loop goes on. When its time to begin is over by then, it is not sent.
pub(super) async fn attempt(
    channel: &dyn Channel,
    composer: &Composer,
    delivery: Arc<LeasedDelivery>,
    parts: Arc<Parts>,
    committed: Instant,
) -> Said {
    let until = Instant::now() + channel.patience() + CUT_OFF;
    let work = match tokio::time::timeout_at(until, composer.made(delivery, parts)).await {
        Ok(Ok(work)) => work,
        Ok(Err(error)) => return unsent(&error),
        Err(_) => return ours_to_retry("its content could not be made in time"),
    };
    if committed.elapsed() >= BEGIN {
        return Said::not_begun();
    }
    let report = tokio::time::timeout_at(until, channel.attempt(&work)).await;
    Said::sent(report.unwrap_or_else(|_| too_slow()))
}

fn too_slow() -> Report {
    Report::new(Outcome::Retry {
        after: None,
        reason: "the attempt took too long".to_owned(),
        fault: Fault::Provider,
    })
}
