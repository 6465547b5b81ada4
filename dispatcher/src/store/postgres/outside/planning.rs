use std::collections::BTreeSet;

use carillon_domain::{ChannelKind, DeliveryId, NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::PgConnection;

use super::{
    super::{PostgresStore, column::column},
    apply::write_new,
    lanes::hold,
};
use crate::store::{
    outside::{self, Bars, EarlierOnes, LaneKey, NOT_RECALLABLE, OVERTAKEN, take_back},
    records::PlanJob,
    rows::number,
};

impl PostgresStore {
    pub(super) async fn bars(&self, jobs: &[PlanJob]) -> Result<Bars, StoreError> {
        let mut read = self
            .postgres
            .read_system("the planner serves all tenants")
            .await?;
        bars(&mut read, jobs).await
    }
}

/// What stands against sending these jobs outside the inbox.
pub(in crate::store::postgres) async fn bars(
    tx: &mut PgConnection,
    jobs: &[PlanJob],
) -> Result<Bars, StoreError> {
    let addresses = outside::addresses(jobs);
    if addresses.is_empty() {
        return Ok(Bars::default());
    }
    let suppressed: Vec<outside::SuppressedColumns> = sqlx::query_as(
        "SELECT s.tenant, s.channel, s.address FROM UNNEST($1::text[], $2::text[], $3::text[]) \
         AS j(tenant, channel, address) JOIN suppressions s ON s.tenant = j.tenant AND s.channel = j.channel \
         AND s.address = j.address",
    )
    .bind(column!(addresses, (tenant, _, _) => *tenant))
    .bind(column!(addresses, (_, channel, _) => *channel))
    .bind(column!(addresses, (_, _, address) => *address))
    .fetch_all(&mut *tx)
    .await?;
    let categories = outside::categories(jobs);
    let opted_out: Vec<outside::OptOutColumns> = sqlx::query_as(
        "SELECT o.tenant, o.user_id, o.category, o.channel FROM UNNEST($1::text[], $2::text[], $3::text[]) \
         AS j(tenant, user_id, category) JOIN opt_outs o ON o.tenant = j.tenant AND o.user_id = j.user_id \
         AND o.category = j.category",
    )
    .bind(column!(categories, (tenant, _, _) => *tenant))
    .bind(column!(categories, (_, user, _) => user.as_str()))
    .bind(column!(categories, (_, _, category) => *category))
    .fetch_all(&mut *tx)
    .await?;
    outside::bars(suppressed, opted_out)
}

/// Holds the lanes that jobs with a collapse key write to, so that two planners never both find the same older delivery.
pub(in crate::store::postgres) async fn hold_lanes(
    tx: &mut PgConnection,
    now: Timestamp,
    jobs: &[PlanJob],
) -> Result<(), StoreError> {
    hold(tx, now, &outside::collapsing_lanes(jobs)).await
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
        "SELECT d.tenant, d.user_id, d.collapse, d.id, d.channel, d.address, d.provider_id \
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
    overtaken: &[(TenantId, DeliveryId)],
) -> Result<(), StoreError> {
    if overtaken.is_empty() {
        return Ok(());
    }
    // In one order on every node.
    let mut overtaken: Vec<_> = overtaken.iter().collect();
    overtaken.sort_unstable();
    sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) JOIN deliveries d ON d.tenant = j.tenant \
         AND d.id = j.id AND d.channel <> 'in_app' ORDER BY d.tenant, d.id FOR UPDATE OF d",
    )
    .bind(column!(overtaken, (tenant, _) => tenant.as_str()))
    .bind(column!(overtaken, (_, id) => id.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query(
        "UPDATE deliveries SET collapse = NULL, \
         reason = CASE WHEN state = 'pending' THEN $3 ELSE reason END, \
         ended_at = CASE WHEN state = 'pending' THEN $4 ELSE ended_at END, \
         state = CASE WHEN state = 'pending' THEN 'superseded' ELSE state END \
         FROM UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
         WHERE deliveries.tenant = v.tenant AND deliveries.id = v.id AND deliveries.channel <> 'in_app'",
    )
    .bind(column!(overtaken, (tenant, _) => tenant.as_str()))
    .bind(column!(overtaken, (_, id) => id.to_string()))
    .bind(OVERTAKEN)
    .bind(now.as_micros())
    .execute(tx)
    .await?;
    Ok(())
}

/// Holds the lanes of a notification's deliveries, so that none of them ends while it is cancelled.
pub(in crate::store::postgres) async fn hold_lanes_of(
    tx: &mut PgConnection,
    now: Timestamp,
    tenant: &TenantId,
    id: NotificationId,
) -> Result<(), StoreError> {
    let rows: Vec<outside::LaneColumns> = sqlx::query_as(
        "SELECT DISTINCT d.tenant, d.channel, d.lane, COALESCE(q.strand, ''), 0::bigint FROM deliveries d \
         LEFT JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id \
         WHERE d.tenant = $1 AND d.notification = $2 AND d.channel <> 'in_app' AND d.lane IS NOT NULL \
         AND d.state IN ('pending', 'accepted', 'delivered')",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .fetch_all(&mut *tx)
    .await?;
    let lanes: BTreeSet<LaneKey> = rows
        .into_iter()
        .map(|row| Ok(outside::due_lane(row)?.key))
        .collect::<Result<_, StoreError>>()?;
    hold(tx, now, &lanes).await
}

/// Takes back what a cancelled notification sent outside the inbox. Answers how many attempts run and cannot be stopped.
pub(in crate::store::postgres) async fn cancel_outside(
    tx: &mut PgConnection,
    now: Timestamp,
    tenant: &TenantId,
    id: NotificationId,
    recallable: &[ChannelKind],
) -> Result<u64, StoreError> {
    let (in_flight,): (i64,) = sqlx::query_as(
        "SELECT COUNT(*) FROM deliveries d JOIN attempts a ON a.tenant = d.tenant AND a.delivery = d.id \
         AND a.outcome IS NULL WHERE d.tenant = $1 AND d.notification = $2 AND d.channel <> 'in_app' \
         AND d.state = 'pending'",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .fetch_one(&mut *tx)
    .await?;
    let sent: Vec<outside::SentColumns> = sqlx::query_as(
        "SELECT id, channel, lane, attempts FROM deliveries WHERE tenant = $1 AND notification = $2 \
         AND channel <> 'in_app' AND state IN ('accepted', 'delivered') AND lane IS NOT NULL",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .fetch_all(&mut *tx)
    .await?;
    let sent = sent.into_iter().map(outside::sent).collect::<Result<_, _>>()?;
    let (work, stay) = take_back(now, tenant, sent, recallable);
    write_new(tx, &[], &work).await?;
    sqlx::query(
        "UPDATE deliveries SET collapse = NULL, reason = CASE WHEN id = ANY($3) THEN $4 ELSE reason END \
         WHERE tenant = $1 AND notification = $2 AND channel <> 'in_app'",
    )
    .bind(tenant.as_str())
    .bind(id.to_string())
    .bind(column!(stay, id => id.to_string()))
    .bind(NOT_RECALLABLE)
    .execute(tx)
    .await?;
    number(in_flight)
}
