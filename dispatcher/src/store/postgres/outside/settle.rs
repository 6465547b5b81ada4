use std::{collections::BTreeSet, sync::Arc};

use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::PgConnection;

use super::{
    super::{PostgresStore, column::column, outbox::write_accepted},
    apply::apply,
    lanes::{hold_with, not_held, refresh},
    listeners::listeners,
};
use crate::store::outside::{
    self, Early, Effects, Found, FoundEndpoint, FoundRow, LaneKey, Settled, Settlement,
};

impl PostgresStore {
    pub(super) async fn settle(
        &self,
        now: Timestamp,
        settlements: &[Settlement],
    ) -> Result<Settled, StoreError> {
        let lanes: BTreeSet<LaneKey> = settlements
            .iter()
            .map(|settlement| settlement.delivery.key.clone())
            .collect();
        let (mut late, mut make) = (BTreeSet::new(), false);
        loop {
            let mut tx = self
                .postgres
                .begin_system("the deliverer serves all tenants")
                .await?;
            let tenants = lanes.iter().map(|lane| &lane.tenant);
            let listeners = listeners(&mut tx, tenants, self.limits.event_ttl).await?;
            // With the lanes of those who may be told, so that all are locked in one order.
            let mut told = listeners.lanes(&outside::may_follow(settlements));
            told.extend(late.iter().cloned());
            if !hold_with(&mut tx, now, &lanes, &told, make).await? {
                make = true;
                tx.rollback().await?;
                continue;
            }
            let found = found(&mut tx, settlements).await?;
            let mut effects = Effects::default();
            for (settlement, found) in settlements.iter().zip(found) {
                outside::settle(&mut effects, now, settlement, found, self.limits.disable_after);
            }
            effects.spare_the_well();
            outside::follow(&mut effects, now, &listeners);
            // What came back before its attempt said so is told to others than those who are told of successes.
            // Where an endpoint moved meanwhile, its work is in a lane that is not held yet.
            let others = not_held(&effects, &lanes.union(&told).cloned().collect());
            if !others.is_empty() {
                late.extend(others);
                tx.rollback().await?;
                continue;
            }
            apply(&mut tx, now, now, &effects).await?;
            let notices = outside::disabled_notices(now, self.limits.event_ttl, &effects)?;
            let notices: Vec<_> = notices.iter().map(|(tenant, row)| (tenant, row)).collect();
            write_accepted(&mut tx, now, &notices, None).await?;
            // Lanes that were made for what was not told go again.
            effects.lanes.extend(told);
            refresh(&mut tx, now, &effects.lanes, None).await?;
            tx.commit().await?;
            return Ok(Settled {
                stale: effects.stale,
                refused: effects.refused,
                ended: effects.ended,
                disabled: effects
                    .disabled
                    .into_iter()
                    .map(|((tenant, id), reason)| (tenant, id, reason))
                    .collect(),
            });
        }
    }
}

/// Where the deliveries stand whose leases still hold; such rows are locked.
async fn found(tx: &mut PgConnection, settlements: &[Settlement]) -> Result<Vec<Option<Found>>, StoreError> {
    let rows: Vec<FoundRow> = sqlx::query_as(
        "SELECT j.place, d.state, q.stands, d.news, e.state, e.failing_since, e.failed_at, q.lane, q.strand FROM UNNEST($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY \
         AS j(tenant, id, number, place) JOIN delivery_queue q ON q.tenant = j.tenant AND q.delivery = j.id \
         JOIN deliveries d ON d.tenant = q.tenant AND d.id = q.delivery AND d.channel <> 'in_app' \
         LEFT JOIN endpoints e ON d.channel = 'webhook' AND e.tenant = d.tenant AND e.id = d.address \
         WHERE q.earlier + q.lease = j.number ORDER BY d.tenant, d.id FOR UPDATE OF d, q",
    )
    .bind(column!(settlements, settlement => settlement.delivery.key.tenant.as_str()))
    .bind(column!(settlements, settlement => settlement.delivery.id.to_string()))
    .bind(column!(settlements, settlement => i64::from(settlement.delivery.number())))
    .fetch_all(tx)
    .await?;
    let mut found = vec![None; settlements.len()];
    for (place, state, stands, news, endpoint, failing, failed, lane, strand) in rows {
        let state = outside::delivery_state(&state)?;
        let index = usize::try_from(place - 1).ok();
        if let Some((slot, settlement)) =
            index.and_then(|index| Some((found.get_mut(index)?, settlements.get(index)?)))
        {
            *slot = Some(Found {
                state,
                stands: stands.as_deref().map(outside::delivery_state).transpose()?,
                news: news.as_deref().and_then(Early::from_stored),
                endpoint: FoundEndpoint::stored(endpoint.as_deref(), failing.zip(failed)),
                key: LaneKey {
                    lane: Arc::from(lane),
                    strand: Arc::from(strand),
                    ..settlement.delivery.key.clone()
                },
            });
        }
    }
    Ok(found)
}
