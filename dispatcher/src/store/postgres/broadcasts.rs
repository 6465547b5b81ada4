use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::PgConnection;

use super::{PostgresStore, column::column};
use crate::store::{
    Lease,
    broadcasts::{self, BroadcastRow, BroadcastStore, BroadcastWrite},
    rows::stored,
};

#[async_trait]
impl BroadcastStore for PostgresStore {
    async fn broadcasts(&self, ids: &[(TenantId, NotificationId)]) -> Result<Vec<BroadcastRow>, StoreError> {
        let mut read = self
            .postgres
            .read_system("the planner serves all tenants")
            .await?;
        let rows: Vec<broadcasts::BroadcastColumns> = sqlx::query_as(
            "SELECT b.tenant, b.notification, b.state, b.started_at, b.cursor, b.planned, b.updated_at \
             FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
             JOIN broadcasts b ON b.tenant = j.tenant AND b.notification = j.id",
        )
        .bind(column!(ids, (tenant, _) => tenant.as_str()))
        .bind(column!(ids, (_, id) => id.to_string()))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(broadcasts::broadcast).collect()
    }

    async fn extend_outbox(&self, leases: &[Lease], until: Timestamp) -> Result<(), StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the planner serves all tenants")
            .await?;
        // In one order with everybody else who holds several.
        sqlx::query(
            "UPDATE outbox o SET due_at = $4 FROM (SELECT o.tenant, o.notification FROM outbox o \
             JOIN UNNEST($1::text[], $2::text[], $3::bigint[]) AS v(tenant, id, lease) \
             ON o.tenant = v.tenant AND o.notification = v.id AND o.lease = v.lease \
             ORDER BY o.tenant, o.notification FOR UPDATE OF o) d \
             WHERE o.tenant = d.tenant AND o.notification = d.notification",
        )
        .bind(column!(leases, lease => lease.tenant.as_str()))
        .bind(column!(leases, lease => lease.notification.to_string()))
        .bind(column!(leases, lease => lease.token))
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}

/// Writes how far broadcasts are, and makes the next page of those that go on due, behind what waits.
pub(super) async fn write_broadcasts(
    connection: &mut PgConnection,
    now: Timestamp,
    writes: &[BroadcastWrite],
) -> Result<(), StoreError> {
    for row in writes {
        sqlx::query(
            "INSERT INTO broadcasts AS b (tenant, notification, state, started_at, cursor, planned, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, notification) DO UPDATE SET \
             state = excluded.state, cursor = COALESCE(excluded.cursor, b.cursor), \
             planned = b.planned + excluded.planned, updated_at = excluded.updated_at",
        )
        .bind(row.tenant.as_str())
        .bind(row.notification.to_string())
        .bind(row.state.as_str())
        .bind(row.started_at.as_micros())
        .bind(row.cursor.map(|user| user.to_string()))
        .bind(stored(row.planned))
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await?;
        if row.goes_on() {
            sqlx::query(
                "UPDATE outbox SET due_at = $3, lease = lease + 1 WHERE tenant = $1 AND notification = $2",
            )
            .bind(row.tenant.as_str())
            .bind(row.notification.to_string())
            .bind(row.held.unwrap_or(now).as_micros())
            .execute(&mut *connection)
            .await?;
        }
    }
    Ok(())
}
