use std::collections::BTreeSet;

use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::AssertSqlSafe;

use super::{
    super::{PostgresStore, column::column},
    apply::apply,
    lanes::{lock, refresh},
    listeners::listeners,
};
use crate::store::outside::{self, CANDIDATE, CANDIDATE_JOINS, CandidateColumns, Ended, LaneKey};

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
        let mut tx = self
            .postgres
            .begin_system("the deliverer serves all tenants")
            .await?;
        let rows: Vec<(String, String, String, String, String)> = sqlx::query_as(CLOSED)
            .bind(limit as i64)
            .fetch_all(&mut *tx)
            .await?;
        if rows.is_empty() {
            sqlx::query("DELETE FROM endpoints WHERE state = 'deleted' AND updated_at < $1")
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
        lock(&mut tx, &lanes).await?;
        let statement = format!(
            "SELECT {CANDIDATE} FROM (SELECT q.* FROM delivery_queue q JOIN UNNEST($1::text[], $2::text[]) \
             AS k(tenant, delivery) ON k.tenant = q.tenant AND k.delivery = q.delivery \
             WHERE q.due_at <= $3 OR NOT EXISTS (SELECT 1 FROM attempts a WHERE a.tenant = q.tenant \
             AND a.delivery = q.delivery AND a.number = q.earlier + q.lease AND a.outcome IS NULL) \
             FOR UPDATE OF q SKIP LOCKED) c {CANDIDATE_JOINS}"
        );
        let rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(column!(rows, (tenant, ..) => tenant.as_str()))
            .bind(column!(rows, (.., id) => id.as_str()))
            .bind(now.as_micros())
            .fetch_all(&mut *tx)
            .await?;
        let candidates = rows
            .into_iter()
            .map(outside::candidate)
            .collect::<Result<_, _>>()?;
        let mut effects = outside::hand_out(now, candidates);
        // Whoever was enabled in between keeps what waits.
        effects.leased.clear();
        let tenants = effects.ended.iter().map(|end| &end.tenant);
        let listeners = listeners(&mut tx, tenants, self.limits.event_ttl).await?;
        outside::follow(&mut effects, now, &listeners);
        apply(&mut tx, now, now, &effects).await?;
        refresh(&mut tx, now, &lanes, None).await?;
        tx.commit().await?;
        Ok(effects.ended)
    }
}
