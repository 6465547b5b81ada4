use std::collections::BTreeSet;

use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::PgConnection;

use super::{
    super::{PostgresStore, column::column, ladder::climb_on, write::write_receipts},
    lanes::lanes_of_new_work,
};
use crate::store::endpoints::EventRow;
use crate::store::outside::{
    self, Effects, Outcomes, OutsideRow, SuppressionRow, UNREADABLE, Unreadable, WorkRow,
};

impl PostgresStore {
    pub(super) async fn open_work(&self, outside: &[OutsideRow], work: &[WorkRow]) -> Result<(), StoreError> {
        let mut tx = self
            .postgres
            .begin_system("work of several tenants may follow from one change")
            .await?;
        write_new(&mut tx, outside, work).await?;
        Ok(tx.commit().await?)
    }
}

/// Writes new deliveries, and open work with its lanes.
pub(in crate::store::postgres) async fn write_new(
    tx: &mut PgConnection,
    outside: &[OutsideRow],
    work: &[WorkRow],
) -> Result<(), StoreError> {
    // Lanes are locked before their work is.
    lanes_of_new_work(tx, work).await?;
    if !outside.is_empty() {
        sqlx::query(
            "INSERT INTO deliveries (tenant, notification, user_id, step, channel, address, id, state, reason, \
             created_at, device, lane, locale, expires_at, provider_id, ended_at, collapse, name) \
             SELECT v.tenant, v.notification, v.user_id, v.step, v.channel, v.address, v.id, v.state, v.reason, \
             v.created_at, v.device, v.lane, v.locale, v.expires_at, v.provider_id, v.ended_at, v.collapse, v.name \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
             $8::text[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], \
             $15::bigint[], $16::text[], $17::bigint[], $18::text[]) AS v(tenant, notification, user_id, channel, address, id, \
             state, reason, created_at, device, lane, locale, expires_at, provider_id, ended_at, collapse, step, name)",
        )
        .bind(column!(outside, row => row.tenant.as_str()))
        .bind(column!(outside, row => row.brings.to_string()))
        .bind(column!(outside, row => row.user.map_or_else(String::new, |user| user.to_string())))
        .bind(column!(outside, row => row.channel.as_str()))
        .bind(column!(outside, row => row.address.as_str()))
        .bind(column!(outside, row => row.id.to_string()))
        .bind(column!(outside, row => row.state.as_str()))
        .bind(column!(outside, row => row.reason.as_deref()))
        .bind(column!(outside, row => row.created_at.as_micros()))
        .bind(column!(outside, row => row.device.map(|device| device.to_string())))
        .bind(column!(outside, row => &*row.lane))
        .bind(column!(outside, row => row.locale.as_deref()))
        .bind(column!(outside, row => row.expires_at.as_micros()))
        .bind(column!(outside, row => row.provider_id.as_deref()))
        .bind(
            column!(outside, row => (!row.state.waits()).then_some(row.created_at.as_micros())),
        )
        .bind(column!(outside, row => row.collapse.as_deref()))
        .bind(column!(outside, row => i64::from(row.step)))
        .bind(column!(outside, row => row.name.as_ref().map(|name| name.as_str())))
        .execute(&mut *tx)
        .await?;
    }
    if !work.is_empty() {
        sqlx::query(
            "INSERT INTO delivery_queue (tenant, delivery, channel, lane, strand, ord, operation, due_at, \
             expires_at, earlier, zone) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
             $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(column!(work, row => row.key.tenant.as_str()))
        .bind(column!(work, row => row.delivery.to_string()))
        .bind(column!(work, row => row.key.channel.as_str()))
        .bind(column!(work, row => &*row.key.lane))
        .bind(column!(work, row => &*row.key.strand))
        .bind(column!(work, row => row.ord))
        .bind(column!(work, row => row.operation.as_str()))
        .bind(column!(work, row => row.due_at.as_micros()))
        .bind(column!(work, row => row.expires_at.as_micros()))
        .bind(column!(work, row => i64::from(row.earlier)))
        .bind(column!(work, row => row.zone.as_deref()))
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Writes events; their deliveries come as [`write_new`] takes them.
pub(in crate::store::postgres) async fn write_events(
    tx: &mut PgConnection,
    rows: &[EventRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO events (tenant, id, kind, body, at) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])",
    )
    .bind(column!(rows, row => row.tenant.as_str()))
    .bind(column!(rows, row => row.id.to_string()))
    .bind(column!(rows, row => row.kind))
    .bind(column!(rows, row => row.body.as_str()))
    .bind(column!(rows, row => row.at.as_micros()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes suppressions that are new.
pub(super) async fn write_suppressions(
    tx: &mut PgConnection,
    rows: &[SuppressionRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO suppressions (tenant, channel, address, reason, detail, delivery, at) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], \
         $7::bigint[]) AS v(tenant, channel, address, reason, detail, delivery, at) \
         ORDER BY v.tenant, v.channel, v.address ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.tenant.as_str()))
    .bind(column!(rows, row => row.channel.as_str()))
    .bind(column!(rows, row => row.address.as_str()))
    .bind(column!(rows, row => &*row.reason))
    .bind(column!(rows, row => row.detail.as_deref()))
    .bind(column!(rows, row => row.delivery.map(|id| id.to_string())))
    .bind(column!(rows, row => row.at.as_micros()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes everything but the lanes, which follow from it.
pub(super) async fn apply(
    tx: &mut PgConnection,
    now: Timestamp,
    until: Timestamp,
    effects: &Effects,
) -> Result<(), StoreError> {
    let mut outcomes = Outcomes::new();
    apply_one(tx, now, until, effects, &mut outcomes).await?;
    climb_on(tx, now, &outcomes).await
}

/// Writes one part of several: whoever writes the last makes due whom all of them concern, in one order.
pub(super) async fn apply_one(
    tx: &mut PgConnection,
    now: Timestamp,
    until: Timestamp,
    effects: &Effects,
    outcomes: &mut Outcomes,
) -> Result<(), StoreError> {
    outside::note_outcomes(outcomes, effects);
    attempts(tx, now, effects).await?;
    let rows = &effects.changes;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE deliveries d SET state = COALESCE(v.state, d.state), \
             reason = CASE WHEN v.state IS NULL THEN COALESCE(v.reason, d.reason) ELSE v.reason END, \
             outcome = COALESCE(v.outcome, d.outcome), attempts = COALESCE(v.attempts, d.attempts), \
             provider_id = COALESCE(v.provider_id, d.provider_id), ended_at = COALESCE(v.ended_at, d.ended_at), \
             news = COALESCE(v.news, d.news), receipts = COALESCE(v.receipts, d.receipts) \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], \
             $8::bigint[], $9::text[], $10::text[]) \
             AS v(tenant, id, state, reason, outcome, attempts, provider_id, ended_at, news, receipts) \
             WHERE d.tenant = v.tenant AND d.id = v.id AND d.channel <> 'in_app'",
        )
        .bind(column!(rows, row => row.key.0.as_str()))
        .bind(column!(rows, row => row.key.1.to_string()))
        .bind(column!(rows, row => row.state.map(|state| state.as_str())))
        .bind(column!(rows, row => row.reason.as_deref()))
        .bind(column!(rows, row => row.outcome))
        .bind(column!(rows, row => row.attempts.map(i64::from)))
        .bind(column!(rows, row => row.provider_id.as_deref()))
        .bind(column!(rows, row => row.ended_at.map(Timestamp::as_micros)))
        .bind(column!(rows, row => row.news.as_deref()))
        .bind(column!(rows, row => row.receipts.as_deref()))
        .execute(&mut *tx)
        .await?;
    }
    write_suppressions(tx, &effects.suppressions).await?;
    write_receipts(tx, &effects.receipts).await?;
    if !effects.failing.is_empty() && !effects.disabled.is_empty() {
        // Both below come in order by themselves, but not together.
        let endpoints: BTreeSet<_> = effects.failing.keys().chain(effects.disabled.keys()).collect();
        sqlx::query(
            "SELECT 1 FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) JOIN endpoints e \
             ON e.tenant = j.tenant AND e.id = j.id ORDER BY e.tenant, e.id FOR UPDATE OF e",
        )
        .bind(column!(endpoints, (tenant, _) => tenant.as_str()))
        .bind(column!(endpoints, (_, id) => id.to_string()))
        .fetch_all(&mut *tx)
        .await?;
    }
    for ((tenant, endpoint), failing) in &effects.failing {
        sqlx::query("UPDATE endpoints SET failing_since = $3, failed_at = $4 WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(endpoint.to_string())
            .bind(failing.map(|failing| failing.since.as_micros()))
            .bind(failing.map(|failing| failing.last.as_micros()))
            .execute(&mut *tx)
            .await?;
    }
    for ((tenant, endpoint), reason) in &effects.disabled {
        sqlx::query(
            "UPDATE endpoints SET state = 'disabled', reason = $3, updated_at = $4 \
             WHERE tenant = $1 AND id = $2 AND state = 'enabled'",
        )
        .bind(tenant.as_str())
        .bind(endpoint.to_string())
        .bind(reason.as_str())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    queue(tx, until, effects).await?;
    condemn(tx, now, &effects.unreadable).await?;
    hold(tx, now, effects).await?;
    write_events(tx, &effects.told.events).await?;
    write_new(tx, &effects.told.outside, &effects.told.work).await
}

async fn attempts(tx: &mut PgConnection, now: Timestamp, effects: &Effects) -> Result<(), StoreError> {
    let rows = &effects.lost;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE attempts a SET outcome = 'lost', ended_at = $4 \
             FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS v(tenant, delivery, number) \
             WHERE a.tenant = v.tenant AND a.delivery = v.delivery AND a.number = v.number \
             AND a.outcome IS NULL",
        )
        .bind(column!(rows, ((tenant, _), _) => tenant.as_str()))
        .bind(column!(rows, ((_, id), _) => id.to_string()))
        .bind(column!(rows, (_, number) => i64::from(*number)))
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    let rows = &effects.attempt_ends;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE attempts a SET ended_at = v.ended_at, outcome = v.outcome, status = v.status, \
             reason = v.reason, excerpt = v.excerpt, next_at = v.next_at FROM UNNEST($1::text[], $2::text[], \
             $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bigint[]) \
             AS v(tenant, delivery, number, ended_at, outcome, status, reason, excerpt, next_at) \
             WHERE a.tenant = v.tenant AND a.delivery = v.delivery AND a.number = v.number \
             AND a.outcome IS NULL",
        )
        .bind(column!(rows, row => row.key.0.as_str()))
        .bind(column!(rows, row => row.key.1.to_string()))
        .bind(column!(rows, row => i64::from(row.number)))
        .bind(column!(rows, row => row.ended_at.as_micros()))
        .bind(column!(rows, row => row.outcome))
        .bind(column!(rows, row => row.status.map(i64::from)))
        .bind(column!(rows, row => row.reason.as_deref()))
        .bind(column!(rows, row => row.excerpt.as_deref()))
        .bind(column!(rows, row => row.next_at.map(Timestamp::as_micros)))
        .execute(&mut *tx)
        .await?;
    }
    let rows = &effects.leased;
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO attempts (tenant, delivery, number, operation, started_at) \
             SELECT v.tenant, v.delivery, v.number, v.operation, $5 \
             FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[]) \
             AS v(tenant, delivery, number, operation)",
        )
        .bind(column!(rows, row => row.key.tenant.as_str()))
        .bind(column!(rows, row => row.id.to_string()))
        .bind(column!(rows, row => i64::from(row.number())))
        .bind(column!(rows, row => row.operation.as_str()))
        .bind(now.as_micros())
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Writes that first attempts are put off. Whoever climbs holds the recipient's row, and numbers on from what he read:
/// these numbers are the time's, so that both may write at once.
async fn hold(tx: &mut PgConnection, now: Timestamp, effects: &Effects) -> Result<(), StoreError> {
    let rows = outside::held(now, effects)?;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
         SELECT d.tenant, d.notification, d.user_id, GREATEST(v.number, 1 + COALESCE((SELECT MAX(o.number) FROM decisions o \
         WHERE o.tenant = d.tenant AND o.notification = d.notification AND o.user_id = d.user_id), 0)), $4, 'held', \
         d.step, v.body FROM UNNEST($1::text[], $2::text[], $3::bigint[], $5::text[]) AS v(tenant, id, number, body) \
         JOIN deliveries d ON d.tenant = v.tenant AND d.id = v.id AND d.channel <> 'in_app' ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.tenant))
    .bind(column!(rows, row => row.delivery.as_str()))
    .bind(column!(rows, row => row.number))
    .bind(now.as_micros())
    .bind(column!(rows, row => row.body.as_str()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends work that cannot be read.
async fn condemn(tx: &mut PgConnection, now: Timestamp, rows: &[Unreadable]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let tenants = column!(rows, (tenant, _) => tenant.as_str());
    let ids = column!(rows, (_, id) => id.as_str());
    sqlx::query(
        "UPDATE deliveries d SET state = 'dead', reason = $3, ended_at = $4 \
         FROM UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
         WHERE d.tenant = v.tenant AND d.id = v.id AND d.channel <> 'in_app'",
    )
    .bind(&tenants)
    .bind(&ids)
    .bind(UNREADABLE)
    .bind(now.as_micros())
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM delivery_queue q USING UNNEST($1::text[], $2::text[]) AS v(tenant, delivery) \
         WHERE q.tenant = v.tenant AND q.delivery = v.delivery",
    )
    .bind(&tenants)
    .bind(&ids)
    .execute(tx)
    .await?;
    Ok(())
}

async fn queue(tx: &mut PgConnection, until: Timestamp, effects: &Effects) -> Result<(), StoreError> {
    let rows = &effects.leased;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE delivery_queue q SET lease = q.lease + 1, due_at = $3 \
             FROM UNNEST($1::text[], $2::text[]) AS v(tenant, delivery) \
             WHERE q.tenant = v.tenant AND q.delivery = v.delivery",
        )
        .bind(column!(rows, row => row.key.tenant.as_str()))
        .bind(column!(rows, row => row.id.to_string()))
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
    }
    let rows = &effects.gone;
    if !rows.is_empty() {
        sqlx::query(
            "DELETE FROM delivery_queue q USING UNNEST($1::text[], $2::text[]) AS v(tenant, delivery) \
             WHERE q.tenant = v.tenant AND q.delivery = v.delivery",
        )
        .bind(column!(rows, (tenant, _) => tenant.as_str()))
        .bind(column!(rows, (_, id) => id.to_string()))
        .execute(&mut *tx)
        .await?;
    }
    let rows = &effects.moved;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE delivery_queue q SET lane = v.lane, strand = v.strand \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS v(tenant, delivery, lane, strand) \
             WHERE q.tenant = v.tenant AND q.delivery = v.delivery",
        )
        .bind(column!(rows, ((tenant, _), _) => tenant.as_str()))
        .bind(column!(rows, ((_, id), _) => id.to_string()))
        .bind(column!(rows, (_, home) => &*home.lane))
        .bind(column!(rows, (_, home) => &*home.strand))
        .execute(&mut *tx)
        .await?;
    }
    let rows = &effects.due;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE delivery_queue q SET due_at = v.due_at \
             FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS v(tenant, delivery, due_at) \
             WHERE q.tenant = v.tenant AND q.delivery = v.delivery",
        )
        .bind(column!(rows, ((tenant, _), _) => tenant.as_str()))
        .bind(column!(rows, ((_, id), _) => id.to_string()))
        .bind(column!(rows, (_, at) => at.as_micros()))
        .execute(&mut *tx)
        .await?;
    }
    let rows = &effects.unsent;
    if !rows.is_empty() {
        // The number of the next attempt is the sum, and the retry policy sees `lease` alone. After a hundred it waits
        // longer each time, up to a minute: whoever takes and lets go again and again fills no log.
        sqlx::query(
            "UPDATE delivery_queue q SET earlier = q.earlier + 1, lease = q.lease - 1, \
             due_at = $3 + LEAST(GREATEST(q.earlier - 100, 0), 600) * 100000 \
             FROM UNNEST($1::text[], $2::text[]) AS v(tenant, delivery) \
             WHERE q.tenant = v.tenant AND q.delivery = v.delivery",
        )
        .bind(column!(rows, (tenant, _) => tenant.as_str()))
        .bind(column!(rows, (_, id) => id.to_string()))
        .bind(until.as_micros())
        .execute(tx)
        .await?;
    }
    Ok(())
}
