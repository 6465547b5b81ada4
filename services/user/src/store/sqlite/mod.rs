mod activity;
mod devices;
mod segments;
mod subscriptions;

use std::time::Duration;

use async_trait::async_trait;
use carillon_domain::{ExternalUserId, TenantId, Timestamp, UserId};
use carillon_sql::{Remembered, Sqlite, StoreError, TenantScope, together};

use super::{
    ERASURE_BATCH, Erasure, ErasureRow, Store, THEIRS, UserRecord, UserRow, erasure, named, pairs,
    user_record,
};

/// The file, and when the next erasure is due, which is looked at all the time.
pub(super) struct SqliteStore(Sqlite, Remembered<Option<i64>>);

impl SqliteStore {
    pub(super) fn new(sqlite: Sqlite) -> Self {
        Self(sqlite, Remembered::default())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let mut read = self.0.read_system("a health check reads no rows").await?;
        sqlx::query("SELECT 1").execute(&mut *read).await?;
        Ok(())
    }

    async fn find(
        &self,
        tenant: &TenantId,
        users: &[ExternalUserId],
    ) -> Result<Vec<(ExternalUserId, UserId)>, StoreError> {
        let users = json(&users)?;
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT external, id FROM users \
             WHERE tenant = $1 AND external IN (SELECT value FROM json_each($2))",
        )
        .bind(tenant.as_str())
        .bind(users)
        .fetch_all(&mut *read)
        .await?;
        pairs(rows)
    }

    async fn make(
        &self,
        tenant: &TenantId,
        users: &[(ExternalUserId, UserId)],
        now: Timestamp,
    ) -> Result<Vec<(ExternalUserId, UserId)>, StoreError> {
        let users = json(&users)?;
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "INSERT INTO users (tenant, external, id, created_at) \
             SELECT $1, value ->> 0, value ->> 1, $3 FROM json_each($2) WHERE TRUE \
             ON CONFLICT (tenant, external) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(&users)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT external, id FROM users \
             WHERE tenant = $1 AND external IN (SELECT value ->> 0 FROM json_each($2))",
        )
        .bind(tenant.as_str())
        .bind(&users)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        pairs(rows)
    }

    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, ExternalUserId)>, StoreError> {
        let users = json(&users)?;
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let rows = sqlx::query_as(
            "SELECT json_group_array(json_array(id, external)) FROM (SELECT u.id, u.external FROM json_each($2) j \
             CROSS JOIN users u ON u.tenant = $1 AND u.id = j.value \
             UNION ALL SELECT e.user_id, e.external FROM erasures e \
             WHERE e.tenant = $1 AND e.user_id IN (SELECT value FROM json_each($2)))",
        )
        .bind(tenant.as_str())
        .bind(users)
        .fetch_one(&mut *read)
        .await?;
        named(together(rows)?)
    }

    async fn user(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserRecord>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let row: Option<UserRow> = sqlx::query_as(
            "SELECT id, created_at, locale, timezone, attributes, 0 AS erasing FROM users WHERE tenant = $1 AND external = $2 \
             UNION ALL SELECT user_id, created_at, NULL, NULL, NULL, 1 FROM erasures WHERE tenant = $1 AND external = $2 \
             ORDER BY erasing LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(user.as_str())
        .fetch_optional(&mut *read)
        .await?;
        row.map(user_record).transpose()
    }

    async fn begin_erasure(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let gone: Option<(String, i64)> =
            sqlx::query_as("DELETE FROM users WHERE tenant = $1 AND external = $2 RETURNING id, created_at")
                .bind(tenant.as_str())
                .bind(user.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let Some((id, created_at)) = gone else {
            let open: Option<(i64,)> =
                sqlx::query_as("SELECT due_at FROM erasures WHERE tenant = $1 AND external = $2 LIMIT 1")
                    .bind(tenant.as_str())
                    .bind(user.as_str())
                    .fetch_optional(&mut *tx)
                    .await?;
            return Ok(open.is_some());
        };
        for theirs in THEIRS {
            sqlx::query(theirs)
                .bind(tenant.as_str())
                .bind(&id)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(
            "INSERT INTO erasures \
             (tenant, user_id, external, created_at, requested_at, pass, attempts, due_at) \
             VALUES ($1, $2, $3, $4, $5, 1, 0, $5)",
        )
        .bind(tenant.as_str())
        .bind(id)
        .bind(user.as_str())
        .bind(created_at)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn take_erasures(&self, now: Timestamp, lease: Duration) -> Result<Vec<Erasure>, StoreError> {
        // Asked first: mostly there is nothing, and a write would cost a sync.
        let next = async {
            let mut read = self
                .0
                .read_system("erasures of all tenants are carried out")
                .await?;
            let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM erasures")
                .fetch_one(&mut *read)
                .await?;
            Ok(due)
        };
        let due = self.1.read(&self.0, next).await?;
        if due.is_none_or(|due| due > now.as_micros()) {
            return Ok(Vec::new());
        }
        let mut tx = self
            .0
            .begin_system("erasures of all tenants are carried out")
            .await?;
        let rows: Vec<ErasureRow> = sqlx::query_as(
            "UPDATE erasures SET attempts = attempts + 1, due_at = $2 \
             WHERE (tenant, user_id) IN \
              (SELECT tenant, user_id FROM erasures WHERE due_at <= $1 ORDER BY due_at LIMIT $3) \
             RETURNING tenant, user_id, pass, attempts",
        )
        .bind(now.as_micros())
        .bind(now.after(lease).as_micros())
        .bind(ERASURE_BATCH)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.iter().map(erasure).collect()
    }

    async fn put_off_erasure(&self, erasure: &Erasure, due_at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(&erasure.tenant)).await?;
        sqlx::query(
            "UPDATE erasures SET pass = $3, attempts = $4, due_at = $5 WHERE tenant = $1 AND user_id = $2",
        )
        .bind(erasure.tenant.as_str())
        .bind(erasure.user.to_string())
        .bind(erasure.pass)
        .bind(erasure.attempts)
        .bind(due_at.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn end_erasure(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(&erasure.tenant)).await?;
        // A heartbeat that another process took may have come after the first pass.
        for theirs in [
            "DELETE FROM activity WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM erasures WHERE tenant = $1 AND user_id = $2",
        ] {
            sqlx::query(theirs)
                .bind(erasure.tenant.as_str())
                .bind(erasure.user.to_string())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn open_erasures(&self) -> Result<i64, StoreError> {
        let mut read = self
            .0
            .read_system("a number over all tenants, for metrics")
            .await?;
        let (open,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM erasures")
            .fetch_one(&mut *read)
            .await?;
        Ok(open)
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
