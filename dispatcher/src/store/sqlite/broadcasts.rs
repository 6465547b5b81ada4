use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use super::{
    SqliteStore,
    keys::{json_list, pairs},
};
use crate::store::{
    Lease,
    broadcasts::{self, BroadcastRow, BroadcastStore, BroadcastWrite},
    rows::stored,
};

#[async_trait]
impl BroadcastStore for SqliteStore {
    async fn broadcasts(&self, ids: &[(TenantId, NotificationId)]) -> Result<Vec<BroadcastRow>, StoreError> {
        let mut read = self.sqlite.read_system("the planner serves all tenants").await?;
        let rows: Vec<broadcasts::BroadcastColumns> = sqlx::query_as(
            "SELECT b.tenant, b.notification, b.state, b.started_at, b.cursor, b.planned, b.updated_at \
             FROM json_each($1) j CROSS JOIN broadcasts b \
             ON b.tenant = j.value ->> 0 AND b.notification = j.value ->> 1",
        )
        .bind(pairs(ids.iter().map(|(tenant, id)| (tenant, id)))?)
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(broadcasts::broadcast).collect()
    }

    async fn extend_outbox(&self, leases: &[Lease], until: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin_system("the planner serves all tenants").await?;
        let held = json_list(
            leases
                .iter()
                .map(|lease| (lease.tenant.as_str(), lease.notification, lease.token)),
        )?;
        sqlx::query(
            "UPDATE outbox SET due_at = $2 WHERE (tenant, notification, lease) IN \
             (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))",
        )
        .bind(held)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}

/// Writes how far broadcasts are, and makes the next page of those that go on due, behind what waits.
pub(super) async fn write_broadcasts(
    connection: &mut SqliteConnection,
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
