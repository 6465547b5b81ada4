//! One of many cannot be leased or settled: each is tried alone, so that it keeps its neighbours from nothing.

use std::{error::Error, time::Duration};

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::engine::{AGAIN, Deliverer};
use crate::{
    intake::is_away,
    store::outside::{Ended, Handed, LanePick, ParkedLane, Settlement},
};

/// How long a lane is left alone that nothing can be handed out of.
const BROKEN: Duration = Duration::from_secs(30);

/// One of the lanes cannot be leased from: it must not keep its neighbours from it. It is looked at again later.
pub(super) async fn lane_by_lane(
    deliverer: &Deliverer,
    now: Timestamp,
    wanted: &[LanePick],
    until: Timestamp,
) -> Result<Handed, StoreError> {
    let mut all = Handed::default();
    let mut parks = Vec::new();
    for pick in wanted {
        let leased = deliverer
            .store
            .lease_deliveries(now, std::slice::from_ref(pick), until, now.after(AGAIN))
            .await;
        match leased {
            Ok(mut handed) => {
                all.leased.append(&mut handed.leased);
                all.ended.append(&mut handed.ended);
                all.more.append(&mut handed.more);
            }
            Err(error) => {
                // What was handed out already is sent, whatever the others do.
                if !is_away(&error) {
                    tracing::error!(
                        error = &error as &dyn Error,
                        tenant = %pick.key.tenant,
                        channel = %pick.key.channel,
                        lane = %pick.key.lane,
                        "nothing can be handed out of a lane; it is tried again later"
                    );
                    parks.push(ParkedLane {
                        key: pick.key.clone(),
                        until: now.after(BROKEN),
                    });
                } else if all.leased.is_empty() {
                    return Err(error);
                } else {
                    break;
                }
            }
        }
    }
    if !parks.is_empty()
        && let Err(error) = deliverer.store.park(&parks).await
    {
        tracing::warn!(error = &error as &dyn Error, "lanes could not be put off");
    }
    Ok(all)
}

/// One of them cannot be settled: it must not keep its neighbours from it. Its lease ends, and it is tried again.
pub(super) async fn one_by_one(
    deliverer: &Deliverer,
    now: Timestamp,
    batch: &[Settlement],
) -> Result<Vec<Ended>, StoreError> {
    let mut ended = Vec::new();
    for settlement in batch {
        match deliverer
            .store
            .settle(now, std::slice::from_ref(settlement))
            .await
        {
            Ok(settled) => {
                deliverer.endpoints.closed(&settled.disabled);
                ended.extend(settled.ended);
            }
            Err(error) if is_away(&error) => return Err(error),
            Err(error) => {
                metrics::counter!("carillon_delivery_unsettled_total").increment(1);
                tracing::error!(
                    error = &error as &dyn Error,
                    delivery = %settlement.delivery.id,
                    "an attempt's outcome could not be written"
                );
            }
        }
    }
    Ok(ended)
}
