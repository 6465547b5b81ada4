use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::super::{PostgresStore, column::column};
use crate::store::{
    outside::{self, DeliveryState, OutsideSweep, OutsideTally},
    rows::number,
};

impl PostgresStore {
    pub(super) async fn sweep_outside(
        &self,
        sweep: OutsideSweep,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the janitor serves all tenants")
            .await?;
        let removed = match sweep {
            OutsideSweep::Redrives => sqlx::query(
                "DELETE FROM redrives WHERE (tenant, id) IN (SELECT tenant, id FROM redrives \
                 WHERE state <> 'running' AND updated_at < $1 LIMIT $2)",
            )
            .bind(cutoff.as_micros())
            .bind(limit as i64)
            .execute(&mut *tx)
            .await?
            .rows_affected(),
            OutsideSweep::Events => {
                // What was revived of it is still under way.
                let rows: Vec<(String, String)> = sqlx::query_as(
                    "SELECT e.tenant, e.id FROM events e WHERE e.at < $1 AND NOT EXISTS (SELECT 1 FROM deliveries d \
                     JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id WHERE d.tenant = e.tenant \
                     AND d.notification = e.id) ORDER BY e.at LIMIT $2",
                )
                .bind(cutoff.as_micros())
                .bind(limit as i64)
                .fetch_all(&mut *tx)
                .await?;
                for statement in EVENTS {
                    sqlx::query(statement)
                        .bind(column!(rows, (tenant, _) => tenant.as_str()))
                        .bind(column!(rows, (_, id) => id.as_str()))
                        .execute(&mut *tx)
                        .await?;
                }
                rows.len() as u64
            }
        };
        tx.commit().await?;
        Ok(removed)
    }

    pub(super) async fn tally_states(&self) -> Result<Vec<(String, DeliveryState, u64)>, StoreError> {
        let mut read = self.postgres.read_system("metrics count all tenants").await?;
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT channel, state, COUNT(*) FROM deliveries WHERE channel <> 'in_app' \
             GROUP BY channel, state ORDER BY channel, state",
        )
        .fetch_all(&mut *read)
        .await?;
        let counted = |(channel, state, count): (String, String, i64)| {
            Ok((channel, outside::delivery_state(&state)?, number(count)?))
        };
        rows.into_iter().map(counted).collect()
    }

    pub(super) async fn tally_outside(&self) -> Result<OutsideTally, StoreError> {
        let mut read = self.postgres.read_system("metrics count all tenants").await?;
        // One statement, so that all numbers are of one moment.
        let (all, pending, dead, stranded, oldest): (i64, i64, i64, i64, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM deliveries WHERE channel <> 'in_app'), \
             (SELECT COUNT(*) FROM deliveries WHERE state = 'pending'), \
             (SELECT COUNT(*) FROM deliveries WHERE state = 'dead'), \
             (SELECT COUNT(*) FROM deliveries d WHERE d.state = 'pending' AND NOT EXISTS \
             (SELECT 1 FROM delivery_queue q WHERE q.tenant = d.tenant AND q.delivery = d.id)) \
             + (SELECT COUNT(*) FROM delivery_queue q WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.tenant = q.tenant \
             AND l.channel = q.channel AND l.lane = q.lane AND l.strand = q.strand)), \
             (SELECT MIN(due_at) FROM lanes)",
        )
        .fetch_one(&mut *read)
        .await?;
        let queued: Vec<(String, i64)> =
            sqlx::query_as("SELECT channel, COUNT(*) FROM delivery_queue GROUP BY channel")
                .fetch_all(&mut *read)
                .await?;
        Ok(OutsideTally {
            all: number(all)?,
            pending: number(pending)?,
            dead: number(dead)?,
            stranded: number(stranded)?,
            queued: queued
                .into_iter()
                .map(|(channel, count)| Ok((channel, number(count)?)))
                .collect::<Result<_, StoreError>>()?,
            oldest_due: oldest.map(Timestamp::from_micros),
        })
    }
}

/// Takes events away with everything below them.
const EVENTS: [&str; 4] = [
    "DELETE FROM attempts WHERE (tenant, delivery) IN (SELECT d.tenant, d.id FROM deliveries d \
     WHERE (d.tenant, d.notification) IN (SELECT * FROM UNNEST($1::text[], $2::text[])))",
    "DELETE FROM delivery_queue WHERE (tenant, delivery) IN (SELECT d.tenant, d.id FROM deliveries d \
     WHERE (d.tenant, d.notification) IN (SELECT * FROM UNNEST($1::text[], $2::text[])))",
    "DELETE FROM deliveries WHERE (tenant, notification) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))",
    "DELETE FROM events WHERE (tenant, id) IN (SELECT * FROM UNNEST($1::text[], $2::text[]))",
];
