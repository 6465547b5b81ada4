mod activity;
mod devices;
mod segments;
mod subscriptions;

use std::time::Duration;

use async_trait::async_trait;
use carillon_domain::{ExternalUserId, TenantId, Timestamp, UserId};
use carillon_sql::{Postgres, StoreError, TenantScope};

use super::{
    ERASURE_BATCH, Erasure, ErasureRow, Store, THEIRS, UserRecord, UserRow, erasure, named, pairs,
    user_record,
};

pub(super) struct PostgresStore(pub(super) Postgres);

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let mut tx = self.0.begin_system("a health check reads no rows").await?;
        sqlx::query("SELECT 1").execute(&mut *tx).await?;
        Ok(())
    }

    async fn find(
        &self,
        tenant: &TenantId,
        users: &[ExternalUserId],
    ) -> Result<Vec<(ExternalUserId, UserId)>, StoreError> {
        let users: Vec<&str> = users.iter().map(ExternalUserId::as_str).collect();
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT external, id FROM users WHERE tenant = $1 AND external = ANY($2::text[])")
                .bind(tenant.as_str())
                .bind(users)
                .fetch_all(&mut *tx)
                .await?;
        pairs(rows)
    }

    async fn make(
        &self,
        tenant: &TenantId,
        users: &[(ExternalUserId, UserId)],
        now: Timestamp,
    ) -> Result<Vec<(ExternalUserId, UserId)>, StoreError> {
        // In one order everywhere: two batches with the same new users would otherwise wait for each other.
        let mut users: Vec<(&str, String)> = users
            .iter()
            .map(|(external, id)| (external.as_str(), id.to_string()))
            .collect();
        users.sort_unstable();
        let (externals, ids): (Vec<&str>, Vec<String>) = users.into_iter().unzip();
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "INSERT INTO users (tenant, external, id, created_at) \
             SELECT $1, made.external, made.id, $4 FROM UNNEST($2::text[], $3::text[]) AS made (external, id) \
             ON CONFLICT (tenant, external) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(&externals)
        .bind(ids)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        // A statement of its own: its snapshot holds what another process committed while the first one waited.
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT external, id FROM users WHERE tenant = $1 AND external = ANY($2::text[])")
                .bind(tenant.as_str())
                .bind(externals)
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
        let users: Vec<String> = users.iter().map(UserId::to_string).collect();
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT id, external FROM users \
             WHERE tenant = $1 AND id = ANY($2::text[]) \
             UNION ALL SELECT user_id, external FROM erasures \
             WHERE tenant = $1 AND user_id = ANY($2::text[])",
        )
        .bind(tenant.as_str())
        .bind(users)
        .fetch_all(&mut *tx)
        .await?;
        named(rows)
    }

    async fn user(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserRecord>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let row: Option<UserRow> = sqlx::query_as(
            "SELECT id, created_at, locale, timezone, attributes, 0::bigint AS erasing FROM users WHERE tenant = $1 AND external = $2 \
             UNION ALL SELECT user_id, created_at, NULL, NULL, NULL, 1::bigint FROM erasures WHERE tenant = $1 AND external = $2 \
             ORDER BY erasing LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(user.as_str())
        .fetch_optional(&mut *tx)
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
        let mut tx = self
            .0
            .begin_system("erasures of all tenants are carried out")
            .await?;
        let rows: Vec<ErasureRow> = sqlx::query_as(
            "UPDATE erasures SET attempts = attempts + 1, due_at = $2 \
             WHERE (tenant, user_id) IN \
              (SELECT tenant, user_id FROM erasures WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
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
        let mut tx = self
            .0
            .begin_system("a number over all tenants, for metrics")
            .await?;
        let (open,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM erasures")
            .fetch_one(&mut *tx)
            .await?;
        Ok(open)
    }
}
