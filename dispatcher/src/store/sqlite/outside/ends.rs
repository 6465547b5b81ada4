use std::collections::HashSet;

use carillon_domain::{DeliveryId, Timestamp};
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use super::{
    super::keys::{json_list, pairs},
    apply::write_new,
    planning::withdraw,
};
use crate::store::{
    ladder::RecipientKey,
    outside::{self, LONGEST_ATTEMPT, NOT_RECALLABLE},
    rows::number,
    withdrawals::Recallable,
};

/// What waits for these recipients is not sent, and what was sent is taken back where its channel can; but not what
/// `except` names.
pub(in crate::store::sqlite) async fn end_outside(
    tx: &mut SqliteConnection,
    now: Timestamp,
    keys: &[RecipientKey],
    reason: &str,
    recallable: &Recallable,
    except: &HashSet<DeliveryId>,
) -> Result<(), StoreError> {
    let keys = json_list(keys.iter())?;
    let waiting: Vec<outside::WaitingColumns> = sqlx::query_as(
        "SELECT d.tenant, d.id FROM json_each($1) j \
         CROSS JOIN deliveries d ON d.tenant = j.value ->> 0 AND d.notification = j.value ->> 1 \
         AND d.user_id = j.value ->> 2 \
         WHERE d.channel <> 'in_app' AND d.state IN ('pending', 'gathered')",
    )
    .bind(keys.as_str())
    .fetch_all(&mut *tx)
    .await?;
    let waiting = outside::waiting(waiting, except)?;
    let ids = pairs(waiting.iter().map(|(tenant, id)| (tenant, id)))?;
    if !waiting.is_empty() {
        withdraw(tx, now, &ids).await?;
    }
    let sent: Vec<outside::SentOfColumns> = sqlx::query_as(
        "SELECT d.tenant, d.id, d.channel, d.lane, COALESCE((SELECT MAX(a.number) FROM attempts a \
         WHERE a.tenant = d.tenant AND a.delivery = d.id), 0) FROM \
         json_each($1) j CROSS JOIN deliveries d ON d.tenant = j.value ->> 0 AND d.notification = j.value ->> 1 \
         AND d.user_id = j.value ->> 2 \
         WHERE d.channel <> 'in_app' AND d.state IN ('accepted', 'delivered') AND d.lane IS NOT NULL",
    )
    .bind(keys.as_str())
    .fetch_all(&mut *tx)
    .await?;
    let taken = outside::taken_back(now, sent, recallable, except)?;
    write_new(tx, &[], &taken.work).await?;
    if !waiting.is_empty() {
        sqlx::query(
            "UPDATE deliveries SET collapse = NULL, reason = CASE WHEN state IN ('pending', 'gathered') THEN $2 ELSE reason END, \
             ended_at = CASE WHEN state IN ('pending', 'gathered') THEN $3 ELSE ended_at END, \
             state = CASE WHEN state IN ('pending', 'gathered') THEN 'cancelled' ELSE state END \
             WHERE channel <> 'in_app' AND (tenant, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(ids)
        .bind(reason)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    let rows = &taken.sent;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE deliveries SET collapse = NULL, reason = CASE WHEN j.value ->> 2 = 1 THEN $2 ELSE reason END \
             FROM json_each($1) j WHERE deliveries.tenant = j.value ->> 0 AND deliveries.id = j.value ->> 1 \
             AND deliveries.channel <> 'in_app'",
        )
        .bind(json_list(rows.iter())?)
        .bind(NOT_RECALLABLE)
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// How many attempts of a notification began and have not ended, whatever its size: their leases may have run out, and who
/// cancels again is told the same.
pub(in crate::store::sqlite) async fn in_flight(
    tx: &mut SqliteConnection,
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
const IN_FLIGHT: &str = "SELECT COUNT(*) FROM attempts a CROSS JOIN deliveries d ON d.tenant = a.tenant AND d.id = a.delivery \
    AND d.channel <> 'in_app' WHERE a.tenant = $1 AND a.outcome IS NULL AND a.started_at > $3 AND a.operation <> 'recall' \
    AND (d.notification = $2 OR EXISTS (SELECT 1 FROM deliveries m WHERE m.tenant = d.tenant AND m.digest = d.notification \
    AND m.notification = $2))";
