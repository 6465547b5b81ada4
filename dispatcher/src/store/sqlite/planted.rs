//! Planted bugs of the outbox; see `crate::planted`.

use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use crate::{
    planted::{CURSOR, NO_REQUEUE, is},
    store::records::Lease,
};

/// What a relay with the chosen bug leases; `None` without one.
pub(super) async fn lease(
    tx: &mut SqliteConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Option<Vec<Lease>>, StoreError> {
    let rows: Vec<(String, String, i64)> = if is(NO_REQUEUE) {
        sqlx::query_as(
            "UPDATE outbox SET lease = lease + 1 WHERE (tenant, notification) IN \
             (SELECT tenant, notification FROM outbox WHERE due_at <= $1 AND lease = 0 ORDER BY due_at LIMIT $2) \
             RETURNING tenant, notification, lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .fetch_all(&mut *tx)
        .await?
    } else if is(CURSOR) {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE outbox SET lease = lease + 1 WHERE (tenant, notification) IN \
             (SELECT tenant, notification FROM outbox WHERE due_at <= $1 AND notification > COALESCE( \
             (SELECT value FROM meta WHERE tenant = '' AND name = 'planted_cursor'), '') \
             ORDER BY notification LIMIT $2) RETURNING tenant, notification, lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .fetch_all(&mut *tx)
        .await?;
        if let Some(last) = rows.iter().map(|(_, notification, _)| notification).max() {
            sqlx::query(
                "INSERT INTO meta (tenant, name, value) VALUES ('', 'planted_cursor', $1) \
                 ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value",
            )
            .bind(last.as_str())
            .execute(&mut *tx)
            .await?;
        }
        rows
    } else {
        return Ok(None);
    };
    crate::store::rows::leases(rows).map(Some)
}
