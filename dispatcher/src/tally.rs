//! Tally: the notifications' states add up to what was accepted, at any moment, and a metric says so.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use carillon_domain::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    channels::label,
    deliverer::schedule::{LaneStanding, Schedule},
    remote::Remote,
    store::{
        Store,
        outside::{DeliveryState, OutsideTally},
    },
    wake::Wake,
};

/// How often it is counted.
const EVERY: Duration = Duration::from_secs(30);
/// Each so many times deliveries are counted by channel and state, which reads all of them.
const SELDOM: u32 = 20;

/// Counts until `stop`.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    schedule: Arc<Mutex<Schedule>>,
    remote: Arc<Remote>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let never = Wake::default();
    for turn in 0_u32.. {
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
        match store.waiting_events().await {
            Ok((waiting, due)) => {
                metrics::gauge!("carillon_dispatcher_events_waiting").set(waiting as f64);
                let lag = due.map_or(0.0, |due| clock.now().since(due).as_secs_f64());
                metrics::gauge!("carillon_dispatcher_events_lag_seconds").set(lag);
            }
            Err(error) => tracing::warn!(error = &error as &dyn Error, "events could not be counted"),
        }
        match store.tally_outside().await {
            Ok(tally) => outside(&tally, clock.now()),
            Err(error) => tracing::warn!(error = &error as &dyn Error, "deliveries could not be counted"),
        }
        if turn % SELDOM == 0 {
            match store.tally_states().await {
                Ok(counted) => states(&counted),
                Err(error) => tracing::warn!(error = &error as &dyn Error, "deliveries could not be counted"),
            }
        }
        let mut lanes = schedule.lock().standings(clock.now());
        lanes.extend(remote.standings(None));
        breakers(lanes);
        if !never.wait(&stop, &*clock, None, EVERY).await {
            return;
        }
    }
}

/// Deliveries outside the inbox: their states add up to what was planned, and what is pending has work.
fn outside(tally: &OutsideTally, now: Timestamp) {
    let ended = tally.all.saturating_sub(tally.pending + tally.dead);
    for (state, count) in [("pending", tally.pending), ("dead", tally.dead), ("ended", ended)] {
        metrics::gauge!("carillon_delivery_deliveries", "state" => state).set(count as f64);
    }
    let mut queued: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (channel, count) in &tally.queued {
        *queued.entry(label(channel)).or_default() += count;
    }
    for (channel, count) in queued {
        metrics::gauge!("carillon_delivery_queue", "channel" => channel).set(count as f64);
    }
    let lag = tally.oldest_due.map_or(0.0, |due| now.since(due).as_secs_f64());
    metrics::gauge!("carillon_delivery_oldest_due_seconds").set(lag);
    metrics::gauge!("carillon_delivery_stranded").set(tally.stranded as f64);
    if tally.stranded > 0 {
        tracing::error!(?tally, "pending deliveries and their work do not add up");
    }
}

/// Deliveries outside the inbox by channel and state: what was planned over a channel and is still kept is the sum.
fn states(counted: &[(String, DeliveryState, u64)]) {
    let mut sums: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for (channel, state, count) in counted {
        *sums.entry((label(channel), state.as_str())).or_default() += count;
    }
    for ((channel, state), count) in sums {
        metrics::gauge!("carillon_delivery_states", "channel" => channel, "state" => state).set(count as f64);
    }
}

/// Lanes of this node by channel and by how their breakers stand; which ones, `GET /v1/breakers` tells.
fn breakers(lanes: Vec<LaneStanding>) {
    let mut counts: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    let under_way: usize = lanes.iter().map(|lane| lane.under_way).sum();
    for lane in lanes {
        for state in ["closed", "open", "half_open"] {
            counts.entry((label(lane.channel.as_str()), state)).or_default();
        }
        *counts
            .entry((label(lane.channel.as_str()), lane.breaker.as_str()))
            .or_default() += 1;
    }
    metrics::gauge!("carillon_delivery_under_way").set(under_way as f64);
    for ((channel, state), count) in counts {
        metrics::gauge!("carillon_delivery_breaker_state", "channel" => channel, "state" => state)
            .set(count as f64);
    }
}
