use std::collections::BTreeSet;

use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    super::{PostgresStore, column::column},
    apply::apply,
    lanes::{hold_with, lock_changes, not_held, refresh},
};
use crate::store::outside::{
    self, CANDIDATE_JOINS, Candidate, CandidateColumns, Ended, LaneKey, NO_STRAGGLER, Unreadable,
    candidate_columns,
};

/// What waits for endpoints that are not enabled; what is being tried ends by itself.
const CLOSED: &str = "SELECT q.tenant, q.channel, q.lane, q.strand, q.delivery FROM endpoints x JOIN delivery_queue q ON q.tenant = x.tenant \
    AND q.channel = 'webhook' AND q.lane = x.lane \
    AND q.strand = CASE WHEN x.fifo = 1 THEN x.id ELSE '' END \
    JOIN deliveries y ON y.tenant = q.tenant AND y.id = q.delivery AND y.channel = 'webhook' \
    AND y.address = x.id WHERE x.state <> 'enabled' AND NOT EXISTS (SELECT 1 FROM attempts a \
    WHERE a.tenant = q.tenant AND a.delivery = q.delivery AND a.number = q.earlier + q.lease \
    AND q.lease > 0 AND a.outcome IS NULL) LIMIT $1";

impl PostgresStore {
    pub(super) async fn end_closed(
        &self,
        now: Timestamp,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        let (mut told, mut make) = (BTreeSet::new(), false);
        loop {
            let mut tx = self
                .postgres
                .begin_system("the deliverer serves all tenants")
                .await?;
            let rows: Vec<ClosedColumns> = sqlx::query_as(CLOSED)
                .bind(limit as i64)
                .fetch_all(&mut *tx)
                .await?;
            if rows.is_empty() {
                sqlx::query(
                    "DELETE FROM endpoints WHERE (tenant, id) IN (SELECT e.tenant, e.id FROM endpoints e \
                     WHERE e.state = 'deleted' AND e.updated_at < $1 ORDER BY e.tenant, e.id FOR UPDATE SKIP LOCKED)",
                )
                .bind(cutoff.as_micros())
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                return Ok(Vec::new());
            }
            // Lanes are locked before their work is.
            let mut lanes = BTreeSet::<LaneKey>::new();
            for (tenant, channel, lane, strand, _) in &rows {
                let columns = (tenant.clone(), channel.clone(), lane.clone(), strand.clone(), 0);
                lanes.insert(outside::due_lane(columns)?.key);
            }
            if !hold_with(&mut tx, now, &lanes, &told, make).await? {
                make = true;
                tx.rollback().await?;
                continue;
            }
            let (candidates, unreadable) = candidates(&mut tx, now, &rows).await?;
            let mut effects = outside::hand_out(now, candidates);
            effects.unreadable = unreadable;
            // Whoever was enabled in between keeps what waits.
            effects.only_ends();
            self.tell(&mut tx, now, &mut effects).await?;
            let late = not_held(&effects, &lanes);
            if told.is_empty() && !late.is_empty() {
                told = late;
                tx.rollback().await?;
                continue;
            }
            lock_changes(&mut tx, &effects).await?;
            apply(&mut tx, now, now, &effects).await?;
            refresh(&mut tx, now, &lanes, None).await?;
            tx.commit().await?;
            return Ok(effects.ended);
        }
    }
}

/// Tenant, channel, lane, strand, delivery.
type ClosedColumns = (String, String, String, String, String);

/// Those of the deliveries that nobody tries; their work is locked.
async fn candidates(
    tx: &mut PgConnection,
    now: Timestamp,
    rows: &[ClosedColumns],
) -> Result<(Vec<Candidate>, Vec<Unreadable>), StoreError> {
    let statement = format!(
        "SELECT {candidate} FROM (SELECT q.* FROM delivery_queue q JOIN UNNEST($1::text[], $2::text[]) \
         AS k(tenant, delivery) ON k.tenant = q.tenant AND k.delivery = q.delivery \
         WHERE q.due_at <= $3 OR NOT EXISTS (SELECT 1 FROM attempts a WHERE a.tenant = q.tenant \
         AND a.delivery = q.delivery AND a.number = q.earlier + q.lease AND a.outcome IS NULL) \
         FOR UPDATE OF q SKIP LOCKED) c {CANDIDATE_JOINS}",
        candidate = candidate_columns(NO_STRAGGLER)
    );
    let rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(column!(rows, (tenant, ..) => tenant.as_str()))
        .bind(column!(rows, (.., id) => id.as_str()))
        .bind(now.as_micros())
        .fetch_all(tx)
        .await?;
    Ok(outside::candidates(rows))
}
