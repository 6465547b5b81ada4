use std::collections::BTreeMap;

use carillon_domain::{DeliveryId, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use super::super::{
    SqliteStore,
    digests::open_digests,
    keys::{json_list, pairs},
    policy::choices,
    reach::reach_of_addresses,
};
use crate::store::{
    Fingerprints,
    outside::{self, Bars, EarlierOnes, OVERTAKEN},
    records::PlanJob,
};

impl SqliteStore {
    pub(super) async fn bars(&self, now: Timestamp, jobs: &[PlanJob]) -> Result<Bars, StoreError> {
        let mut read = self.sqlite.read_system("the planner serves all tenants").await?;
        bars(&mut read, &self.prints, now, jobs).await
    }
}

/// What stands against sending these jobs outside the inbox.
pub(in crate::store::sqlite) async fn bars(
    tx: &mut SqliteConnection,
    prints: &Fingerprints,
    now: Timestamp,
    jobs: &[PlanJob],
) -> Result<Bars, StoreError> {
    let (users, since) = outside::choosers(now, jobs);
    let choices = choices(tx, &users, since).await?;
    let digests = open_digests(tx, jobs).await?;
    let addresses = outside::addresses(jobs, prints);
    if addresses.is_empty() {
        return outside::bars(&addresses, Vec::new(), choices, digests);
    }
    let suppressed: Vec<outside::SuppressedColumns> = sqlx::query_as(
        "SELECT s.tenant, s.channel, s.address FROM json_each($1) j CROSS JOIN suppressions s \
         ON s.tenant = j.value ->> 0 AND s.channel = j.value ->> 1 AND s.address = j.value ->> 2",
    )
    .bind(json_list(
        addresses
            .iter()
            .map(|sought| (sought.tenant, sought.channel, &*sought.spelled)),
    )?)
    .fetch_all(&mut *tx)
    .await?;
    let reach = reach_of_addresses(tx, &outside::as_they_are(&addresses)).await?;
    let mut bars = outside::bars(&addresses, suppressed, choices, digests)?;
    bars.scores = outside::scores(now, reach)?;
    Ok(bars)
}

/// What newer deliveries of these jobs take the place of.
pub(in crate::store::sqlite) async fn earlier(
    tx: &mut SqliteConnection,
    jobs: &[PlanJob],
) -> Result<EarlierOnes, StoreError> {
    let names = outside::collapse_names(jobs);
    if names.is_empty() {
        return Ok(EarlierOnes::new());
    }
    let rows: Vec<outside::EarlierColumns> = sqlx::query_as(
        "SELECT d.tenant, d.user_id, d.collapse, d.id, d.channel, d.address, d.provider_id, \
         d.notification \
         FROM json_each($1) j CROSS JOIN deliveries d ON d.tenant = j.value ->> 0 AND d.user_id = j.value ->> 1 \
         AND d.collapse = j.value ->> 2 WHERE d.collapse IS NOT NULL",
    )
    .bind(json_list(names.into_iter())?)
    .fetch_all(tx)
    .await?;
    outside::earlier(rows)
}

/// Deliveries that newer ones took the place of: what waits is not sent, and none of them is found again.
pub(in crate::store::sqlite) async fn write_overtaken(
    tx: &mut SqliteConnection,
    now: Timestamp,
    overtaken: &BTreeMap<(TenantId, DeliveryId), bool>,
) -> Result<(), StoreError> {
    if overtaken.is_empty() {
        return Ok(());
    }
    let keys = pairs(overtaken.keys().map(|(tenant, id)| (tenant, id)))?;
    withdraw(tx, now, &keys).await?;
    let forgotten = overtaken.iter().filter(|(_, forgotten)| **forgotten);
    sqlx::query(
        "UPDATE deliveries SET collapse = NULL \
         WHERE channel <> 'in_app' AND (tenant, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    )
    .bind(pairs(forgotten.map(|((tenant, id), _)| (tenant, id)))?)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE deliveries SET collapse = CASE WHEN state IN ('pending', 'gathered') THEN NULL ELSE collapse END, \
         reason = CASE WHEN state IN ('pending', 'gathered') THEN $2 ELSE reason END, \
         ended_at = CASE WHEN state IN ('pending', 'gathered') THEN $3 ELSE ended_at END, \
         state = CASE WHEN state IN ('pending', 'gathered') THEN 'superseded' ELSE state END \
         WHERE channel <> 'in_app' AND (tenant, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    )
    .bind(keys)
    .bind(OVERTAKEN)
    .bind(now.as_micros())
    .execute(tx)
    .await?;
    Ok(())
}

/// Before what waits is withdrawn: what was being sent again is what it was before, and nobody waits in a strand behind
/// what is not sent any more. What is being tried ends by itself.
pub(super) async fn withdraw(
    tx: &mut SqliteConnection,
    now: Timestamp,
    keys: &str,
) -> Result<(), StoreError> {
    for statement in [NOT_SENT_AGAIN, FREED] {
        sqlx::query(statement)
            .bind(keys)
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query(CLOSED).bind(keys).execute(tx).await?;
    Ok(())
}

const NOT_SENT_AGAIN: &str = "UPDATE deliveries SET state = q.stands, ended_at = $2 FROM json_each($1) j \
    CROSS JOIN delivery_queue q ON q.tenant = j.value ->> 0 AND q.delivery = j.value ->> 1 AND q.stands IS NOT NULL \
    WHERE deliveries.tenant = q.tenant AND deliveries.id = q.delivery AND deliveries.state = 'pending' \
    AND deliveries.channel <> 'in_app'";
const FREED: &str = "UPDATE lanes SET due_at = MIN(due_at, $2) WHERE strand <> '' AND (tenant, channel, lane, strand) IN \
    (SELECT q.tenant, q.channel, q.lane, q.strand FROM json_each($1) j CROSS JOIN delivery_queue q \
    ON q.tenant = j.value ->> 0 AND q.delivery = j.value ->> 1)";
const CLOSED: &str = "DELETE FROM delivery_queue WHERE (tenant, delivery) IN \
    (SELECT value ->> 0, value ->> 1 FROM json_each($1)) AND (stands IS NOT NULL OR strand <> '' AND NOT EXISTS \
    (SELECT 1 FROM attempts a WHERE a.tenant = delivery_queue.tenant AND a.delivery = delivery_queue.delivery \
    AND a.number = delivery_queue.earlier + delivery_queue.lease AND a.outcome IS NULL))";
