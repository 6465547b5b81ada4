use std::collections::{BTreeSet, HashSet};

use carillon_domain::{DeliveryId, Timestamp};
use carillon_sql::StoreError;
use sqlx::PgConnection;

use super::{super::column::column, apply::write_new, lanes::hold, planning::withdraw};
use crate::store::{
    ladder::RecipientKey,
    outside::{self, LONGEST_ATTEMPT, LaneKey, NOT_RECALLABLE},
    rows::number,
    withdrawals::Recallable,
};

/// Holds the lanes of what these recipients' ends change outside the inbox, and of those who may be told, so that nothing
/// of it starts or ends meanwhile; then the deliveries, in the one order. Answers whether there is any.
pub(in crate::store::postgres) async fn hold_ends(
    tx: &mut PgConnection,
    now: Timestamp,
    keys: &[RecipientKey],
    recallable: &Recallable,
    mut told: BTreeSet<LaneKey>,
) -> Result<bool, StoreError> {
    let found: Vec<outside::EndLaneColumns> = sqlx::query_as(
        "SELECT DISTINCT d.tenant, d.channel, COALESCE(q.lane, d.lane), COALESCE(q.strand, ''), d.state FROM \
         UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, notification, user_id) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.notification = j.notification AND d.user_id = j.user_id \
         LEFT JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id \
         WHERE d.channel <> 'in_app' AND d.lane IS NOT NULL \
         AND d.state IN ('pending', 'gathered', 'accepted', 'delivered', 'dead')",
    )
    .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
    .bind(column!(keys, (_, id, _) => id.to_string()))
    .bind(column!(keys, (_, _, user) => user.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    if found.is_empty() {
        // All lanes that are written to are locked by one statement then.
        return Ok(false);
    }
    let mut lanes = outside::end_lanes(found, recallable)?;
    lanes.append(&mut told);
    hold(tx, now, &lanes).await?;
    sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, notification, user_id) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.notification = j.notification AND d.user_id = j.user_id \
         WHERE d.channel <> 'in_app' ORDER BY d.tenant, d.id FOR UPDATE OF d",
    )
    .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
    .bind(column!(keys, (_, id, _) => id.to_string()))
    .bind(column!(keys, (_, _, user) => user.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    Ok(true)
}

/// What waits for these recipients is not sent, and what was sent is taken back where its channel can; but not what
/// `except` names. [`hold_ends`] came before.
pub(in crate::store::postgres) async fn end_outside(
    tx: &mut PgConnection,
    now: Timestamp,
    keys: &[RecipientKey],
    reason: &str,
    recallable: &Recallable,
    except: &HashSet<DeliveryId>,
) -> Result<(), StoreError> {
    let waiting: Vec<outside::WaitingColumns> = sqlx::query_as(
        "SELECT d.tenant, d.id FROM \
         UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, notification, user_id) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.notification = j.notification AND d.user_id = j.user_id \
         WHERE d.channel <> 'in_app' AND d.state IN ('pending', 'gathered')",
    )
    .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
    .bind(column!(keys, (_, id, _) => id.to_string()))
    .bind(column!(keys, (_, _, user) => user.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    let waiting = outside::waiting(waiting, except)?;
    let tenants = column!(waiting, (tenant, _) => tenant.as_str());
    let ids = column!(waiting, (_, id) => id.to_string());
    if !waiting.is_empty() {
        withdraw(tx, now, &tenants, &ids).await?;
    }
    let sent: Vec<outside::SentOfColumns> = sqlx::query_as(
        "SELECT d.tenant, d.id, d.channel, d.lane, COALESCE((SELECT MAX(a.number) FROM attempts a \
         WHERE a.tenant = d.tenant AND a.delivery = d.id), 0) FROM \
         UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, notification, user_id) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.notification = j.notification AND d.user_id = j.user_id \
         WHERE d.channel <> 'in_app' AND d.state IN ('accepted', 'delivered') AND d.lane IS NOT NULL",
    )
    .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
    .bind(column!(keys, (_, id, _) => id.to_string()))
    .bind(column!(keys, (_, _, user) => user.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    let taken = outside::taken_back(now, sent, recallable, except)?;
    write_new(tx, &[], &taken.work).await?;
    if !waiting.is_empty() {
        sqlx::query(
            "UPDATE deliveries d SET collapse = NULL, reason = CASE WHEN d.state IN ('pending', 'gathered') THEN $3 ELSE d.reason END, \
             ended_at = CASE WHEN d.state IN ('pending', 'gathered') THEN $4 ELSE d.ended_at END, \
             state = CASE WHEN d.state IN ('pending', 'gathered') THEN 'cancelled' ELSE d.state END \
             FROM UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
             WHERE d.tenant = v.tenant AND d.id = v.id AND d.channel <> 'in_app'",
        )
        .bind(&tenants)
        .bind(&ids)
        .bind(reason)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    let rows = &taken.sent;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE deliveries d SET collapse = NULL, reason = CASE WHEN v.stays = 1 THEN $4 ELSE d.reason END \
             FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS v(tenant, id, stays) \
             WHERE d.tenant = v.tenant AND d.id = v.id AND d.channel <> 'in_app'",
        )
        .bind(column!(rows, (tenant, _, _) => tenant.as_str()))
        .bind(column!(rows, (_, id, _) => id.to_string()))
        .bind(column!(rows, (_, _, stays) => i64::from(*stays)))
        .bind(NOT_RECALLABLE)
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// How many attempts of a notification began and have not ended, whatever its size: their leases may have run out, and who
/// cancels again is told the same.
pub(in crate::store::postgres) async fn in_flight(
    tx: &mut PgConnection,
    now: Timestamp,
    tenant: &str,
    notification: &str,
) -> Result<u64, StoreError> {
    let (count,): (i64,) = sqlx::query_as(IN_FLIGHT)
        .bind(tenant)
        .bind(notification)
        .bind(now.before(LONGEST_ATTEMPT).as_micros())
        .fetch_one(tx)
        .await?;
    number(count)
}

/// Of the notification itself, and of digests that it is in.
const IN_FLIGHT: &str = "SELECT COUNT(*) FROM attempts a JOIN deliveries d ON d.tenant = a.tenant AND d.id = a.delivery \
    AND d.channel <> 'in_app' WHERE a.tenant = $1 AND a.outcome IS NULL AND a.started_at > $3 AND a.operation <> 'recall' \
    AND (d.notification = $2 OR EXISTS (SELECT 1 FROM deliveries m WHERE m.tenant = d.tenant AND m.digest = d.notification \
    AND m.notification = $2))";
