use std::collections::{BTreeMap, BTreeSet};

use carillon_domain::{DeliveryId, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    super::{
        PostgresStore, column::column, digests::open_digests, policy::choices, reach::reach_of_addresses,
    },
    lanes::{hold, lock},
};
use crate::events::EventKind;
use crate::store::{
    Fingerprints,
    listeners::Listeners,
    outside::{self, Bars, EarlierOnes, LaneKey, OVERTAKEN},
    records::PlanJob,
};

impl PostgresStore {
    pub(super) async fn bars(&self, now: Timestamp, jobs: &[PlanJob]) -> Result<Bars, StoreError> {
        let mut read = self
            .postgres
            .read_system("the planner serves all tenants")
            .await?;
        bars(&mut read, &self.prints, now, jobs).await
    }
}

/// What stands against sending these jobs outside the inbox.
pub(in crate::store::postgres) async fn bars(
    tx: &mut PgConnection,
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
        "SELECT s.tenant, s.channel, s.address FROM UNNEST($1::text[], $2::text[], $3::text[]) \
         AS j(tenant, channel, address) JOIN suppressions s ON s.tenant = j.tenant AND s.channel = j.channel \
         AND s.address = j.address",
    )
    .bind(column!(addresses, sought => sought.tenant))
    .bind(column!(addresses, sought => sought.channel))
    .bind(column!(addresses, sought => &*sought.spelled))
    .fetch_all(&mut *tx)
    .await?;
    let reach = reach_of_addresses(tx, &outside::as_they_are(&addresses)).await?;
    let mut bars = outside::bars(&addresses, suppressed, choices, digests)?;
    bars.scores = outside::scores(now, reach)?;
    Ok(bars)
}

/// Holds the lanes that jobs with a collapse key write to, so that two planners never both find the same older delivery;
/// with them all others that the jobs write to, so that all are locked in one order.
pub(in crate::store::postgres) async fn hold_lanes(
    tx: &mut PgConnection,
    now: Timestamp,
    jobs: &[PlanJob],
    listeners: &Listeners,
) -> Result<(), StoreError> {
    if outside::lanes_of(jobs, true).is_empty() {
        // Without any, all that are written to are locked by one statement.
        return Ok(());
    }
    let mut lanes = outside::lanes_of(jobs, false);
    lanes.append(&mut listeners.lanes(&[EventKind::NotificationPlanned, EventKind::NotificationExpired]));
    hold(tx, now, &lanes).await
}

/// What newer deliveries of these jobs take the place of.
pub(in crate::store::postgres) async fn earlier(
    tx: &mut PgConnection,
    jobs: &[PlanJob],
) -> Result<EarlierOnes, StoreError> {
    let names = outside::collapse_names(jobs);
    if names.is_empty() {
        return Ok(EarlierOnes::new());
    }
    let rows: Vec<outside::EarlierColumns> = sqlx::query_as(
        "SELECT d.tenant, d.user_id, d.collapse, d.id, d.channel, d.address, d.provider_id, \
         d.notification \
         FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, user_id, collapse) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.user_id = j.user_id AND d.collapse = j.collapse \
         WHERE d.collapse IS NOT NULL",
    )
    .bind(column!(names, (tenant, _, _) => *tenant))
    .bind(column!(names, (_, user, _) => user.as_str()))
    .bind(column!(names, (_, _, name) => &**name))
    .fetch_all(tx)
    .await?;
    outside::earlier(rows)
}

/// Deliveries that newer ones took the place of: what waits is not sent, and none of them is found again. The lanes of
/// the newer ones are held, and whoever settles holds his before he looks at deliveries.
pub(in crate::store::postgres) async fn write_overtaken(
    tx: &mut PgConnection,
    now: Timestamp,
    overtaken: &BTreeMap<(TenantId, DeliveryId), bool>,
) -> Result<(), StoreError> {
    if overtaken.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) JOIN deliveries d ON d.tenant = j.tenant \
         AND d.id = j.id AND d.channel <> 'in_app' ORDER BY d.tenant, d.id FOR UPDATE OF d",
    )
    .bind(column!(overtaken, ((tenant, _), _) => tenant.as_str()))
    .bind(column!(overtaken, ((_, id), _) => id.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    let tenants = column!(overtaken, ((tenant, _), _) => tenant.as_str());
    let ids = column!(overtaken, ((_, id), _) => id.to_string());
    withdraw(tx, now, &tenants, &ids).await?;
    sqlx::query(
        "UPDATE deliveries SET collapse = CASE WHEN v.forgotten OR state IN ('pending', 'gathered') THEN NULL ELSE collapse END, \
         reason = CASE WHEN state IN ('pending', 'gathered') THEN $3 ELSE reason END, \
         ended_at = CASE WHEN state IN ('pending', 'gathered') THEN $4 ELSE ended_at END, \
         state = CASE WHEN state IN ('pending', 'gathered') THEN 'superseded' ELSE state END \
         FROM UNNEST($1::text[], $2::text[], $5::bool[]) AS v(tenant, id, forgotten) \
         WHERE deliveries.tenant = v.tenant AND deliveries.id = v.id AND deliveries.channel <> 'in_app'",
    )
    .bind(tenants)
    .bind(ids)
    .bind(OVERTAKEN)
    .bind(now.as_micros())
    .bind(column!(overtaken, (_, forgotten) => *forgotten))
    .execute(tx)
    .await?;
    Ok(())
}

/// Holds the lanes of a user's open work, and then his deliveries outside the inbox, so that he can be erased.
pub(in crate::store::postgres) async fn lock_of_user(
    tx: &mut PgConnection,
    tenant: &str,
    user: &str,
) -> Result<(), StoreError> {
    const DELIVERIES: &str = "(SELECT d.tenant, d.id FROM recipients r JOIN deliveries d ON d.tenant = r.tenant \
        AND d.notification = r.notification AND d.user_id = r.user_id AND d.channel <> 'in_app' \
        WHERE r.tenant = $1 AND r.user_id = $2 UNION SELECT d.tenant, d.id FROM endpoints e JOIN deliveries d \
        ON d.tenant = e.tenant AND d.channel = 'webhook' AND d.address = e.id \
        WHERE e.tenant = $1 AND e.user_id = $2)";
    let statement = format!(
        "SELECT DISTINCT q.tenant, q.channel, q.lane, q.strand, 0::bigint FROM {DELIVERIES} d \
         JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id"
    );
    let rows: Vec<outside::LaneColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant)
        .bind(user)
        .fetch_all(&mut *tx)
        .await?;
    let lanes: BTreeSet<LaneKey> = rows
        .into_iter()
        .map(|row| Ok(outside::due_lane(row)?.key))
        .collect::<Result<_, StoreError>>()?;
    lock(tx, &lanes).await?;
    let statement = format!(
        "SELECT 1 FROM {DELIVERIES} o JOIN deliveries d ON d.tenant = o.tenant AND d.id = o.id \
         AND d.channel <> 'in_app' ORDER BY d.tenant, d.id FOR UPDATE OF d"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(tenant)
        .bind(user)
        .fetch_all(tx)
        .await?;
    Ok(())
}

/// Before what waits is withdrawn: what was being sent again is what it was before, and nobody waits in a strand behind
/// what is not sent any more. What is being tried ends by itself.
pub(super) async fn withdraw(
    tx: &mut PgConnection,
    now: Timestamp,
    tenants: &[&str],
    ids: &[String],
) -> Result<(), StoreError> {
    for statement in [FREED, NOT_SENT_AGAIN] {
        sqlx::query(statement)
            .bind(tenants)
            .bind(ids)
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query(CLOSED).bind(tenants).bind(ids).execute(tx).await?;
    Ok(())
}

const FREED: &str = "UPDATE lanes SET due_at = LEAST(due_at, $3) WHERE strand <> '' \
    AND (tenant, channel, lane, strand) IN (SELECT q.tenant, q.channel, q.lane, q.strand \
    FROM UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
    JOIN delivery_queue q ON q.tenant = v.tenant AND q.delivery = v.id)";
const NOT_SENT_AGAIN: &str = "UPDATE deliveries d SET state = q.stands, ended_at = $3 \
    FROM UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
    JOIN delivery_queue q ON q.tenant = v.tenant AND q.delivery = v.id AND q.stands IS NOT NULL \
    WHERE d.tenant = q.tenant AND d.id = q.delivery AND d.state = 'pending' AND d.channel <> 'in_app'";
const CLOSED: &str = "DELETE FROM delivery_queue q USING UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
    WHERE q.tenant = v.tenant AND q.delivery = v.id AND (q.stands IS NOT NULL OR q.strand <> '' AND NOT EXISTS \
    (SELECT 1 FROM attempts a WHERE a.tenant = q.tenant AND a.delivery = q.delivery \
    AND a.number = q.earlier + q.lease AND a.outcome IS NULL))";
