use std::sync::Arc;

use carillon_domain::Timestamp;
use carillon_sql::{StoreError, together};
use sqlx::SqliteConnection;

use super::{
    super::{SqliteStore, keys::json_list, outbox::write_accepted},
    apply::apply,
    lanes::refresh,
    listeners::listeners,
};
use crate::store::outside::{
    self, Early, Effects, Found, FoundEndpoint, FoundRow, LaneKey, Settled, Settlement,
};

impl SqliteStore {
    pub(super) async fn settle(
        &self,
        now: Timestamp,
        settlements: &[Settlement],
    ) -> Result<Settled, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("the deliverer serves all tenants")
            .await?;
        let listeners = listeners(
            &mut tx,
            settlements
                .iter()
                .map(|settlement| &settlement.delivery.key.tenant),
            self.limits.event_ttl,
        )
        .await?;
        let found = found(&mut tx, settlements).await?;
        let mut effects = Effects::default();
        for (settlement, found) in settlements.iter().zip(found) {
            outside::settle(&mut effects, now, settlement, found, self.limits.disable_after);
        }
        effects.spare_the_well();
        outside::follow(&mut effects, now, &listeners);
        apply(&mut tx, now, now, &effects).await?;
        let notices = outside::disabled_notices(now, self.limits.event_ttl, &effects)?;
        let notices: Vec<_> = notices.iter().map(|(tenant, row)| (tenant, row)).collect();
        write_accepted(&mut tx, now, &notices, None).await?;
        refresh(&mut tx, now, &effects.lanes, None).await?;
        tx.commit().await?;
        Ok(Settled {
            stale: effects.stale,
            refused: effects.refused,
            ended: effects.ended,
            disabled: effects
                .disabled
                .into_iter()
                .map(|((tenant, id), reason)| (tenant, id, reason))
                .collect(),
        })
    }
}

/// Where the deliveries stand whose leases still hold.
async fn found(
    tx: &mut SqliteConnection,
    settlements: &[Settlement],
) -> Result<Vec<Option<Found>>, StoreError> {
    let keys = json_list(settlements.iter().map(|settlement| {
        let leased = &settlement.delivery;
        (leased.key.tenant.as_str(), leased.id, leased.number())
    }))?;
    let rows = sqlx::query_as(
        "SELECT json_group_array(json_array(j.key, d.state, q.stands, d.news, e.state, e.failing_since, e.failed_at, q.lane, \
         q.strand)) FROM json_each($1) j \
         CROSS JOIN delivery_queue q ON q.tenant = j.value ->> 0 AND q.delivery = j.value ->> 1 \
         CROSS JOIN deliveries d ON d.tenant = q.tenant AND d.id = q.delivery AND d.channel <> 'in_app' \
         LEFT JOIN endpoints e ON d.channel = 'webhook' AND e.tenant = d.tenant AND e.id = d.address \
         WHERE q.earlier + q.lease = j.value ->> 2",
    )
    .bind(keys)
    .fetch_one(tx)
    .await?;
    let mut found = vec![None; settlements.len()];
    for (index, state, stands, news, endpoint, failing, failed, lane, strand) in together::<FoundRow>(rows)? {
        let state = outside::delivery_state(&state)?;
        let index = usize::try_from(index).ok();
        if let Some((place, settlement)) =
            index.and_then(|index| Some((found.get_mut(index)?, settlements.get(index)?)))
        {
            *place = Some(Found {
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
