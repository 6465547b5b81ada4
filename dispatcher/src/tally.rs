//! Tally: the notifications' states add up to what was accepted, at any moment, and a metric says so.

use std::{error::Error, sync::Arc, time::Duration};

use carillon_domain::Clock;
use tokio_util::sync::CancellationToken;

use crate::{store::Store, wake::Wake};

/// How often it is counted.
const EVERY: Duration = Duration::from_secs(30);

/// Counts until `stop`.
pub(crate) async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let never = Wake::default();
    loop {
        match store.tally(clock.now()).await {
            Ok(tally) => {
                for (state, count) in [
                    ("accepted", tally.accepted),
                    ("planned", tally.planned),
                    ("cancelled", tally.cancelled),
                    ("expired", tally.expired),
                ] {
                    metrics::gauge!("carillon_dispatcher_notifications", "state" => state).set(count as f64);
                }
                metrics::gauge!("carillon_dispatcher_outbox").set(tally.outbox as f64);
                metrics::gauge!("carillon_dispatcher_outbox_lag_seconds").set(tally.lag.as_secs_f64());
                // What is accepted has an outbox row, and nothing else has: always 0.
                let stranded = tally.accepted.abs_diff(tally.outbox);
                metrics::gauge!("carillon_dispatcher_stranded").set(stranded as f64);
                if stranded > 0 {
                    tracing::error!(?tally, "accepted notifications and the outbox do not add up");
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn Error, "notifications could not be counted"),
        }
        if !never.wait(&stop, &*clock, None, EVERY).await {
            return;
        }
    }
}
