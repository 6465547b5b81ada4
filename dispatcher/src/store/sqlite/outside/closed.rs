use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::AssertSqlSafe;

use super::{super::SqliteStore, apply::apply, lanes::refresh, listeners::listeners};
use crate::store::outside::{
    self, CANDIDATE_JOINS, CandidateColumns, Ended, NO_STRAGGLER, candidate_columns,
};

/// What waits for endpoints that are not enabled; what is being tried ends by itself.
const CLOSED: &str = "SELECT q.tenant, q.delivery FROM endpoints x CROSS JOIN delivery_queue q ON q.tenant = x.tenant \
    AND q.channel = 'webhook' AND q.lane = x.lane \
    AND q.strand = CASE WHEN x.fifo = 1 THEN x.id ELSE '' END \
    CROSS JOIN deliveries y ON y.tenant = q.tenant AND y.id = q.delivery AND y.channel = 'webhook' \
    AND y.address = x.id WHERE x.state <> 'enabled' AND NOT EXISTS (SELECT 1 FROM attempts a \
    WHERE a.tenant = q.tenant AND a.delivery = q.delivery AND a.number = q.earlier + q.lease \
    AND q.lease > 0 AND a.outcome IS NULL) LIMIT $1";

impl SqliteStore {
    pub(super) async fn end_closed(
        &self,
        now: Timestamp,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("the deliverer serves all tenants")
            .await?;
        let statement = format!(
            "SELECT {candidate} FROM ({CLOSED}) k CROSS JOIN delivery_queue c \
             ON c.tenant = k.tenant AND c.delivery = k.delivery {CANDIDATE_JOINS}",
            candidate = candidate_columns(NO_STRAGGLER)
        );
        let rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
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
        let (candidates, unreadable) = outside::candidates(rows);
        let mut effects = outside::hand_out(now, candidates);
        effects.unreadable = unreadable;
        // Whoever was enabled in between keeps what waits.
        effects.only_ends();
        let tenants = effects.ended.iter().map(|end| &end.tenant);
        let listeners = listeners(&mut tx, tenants, self.limits.event_ttl).await?;
        outside::follow(&mut effects, now, &listeners);
        apply(&mut tx, now, now, &effects).await?;
        refresh(&mut tx, now, &effects.lanes, None).await?;
        tx.commit().await?;
        Ok(effects.ended)
    }
}
