use async_trait::async_trait;
use carillon_domain::{TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};

use super::{SqliteStore, json};
use crate::{
    activity::Beat,
    store::{
        PURGE_BATCH,
        activity::{Active, ActiveRow, ActivityStore, MAX_ACTIVE, active, to_json},
    },
};

#[async_trait]
impl ActivityStore for SqliteStore {
    async fn keep_beats(&self, beats: &[Beat]) -> Result<(), StoreError> {
        let beats = to_json(beats)?;
        let mut tx = self
            .0
            .begin_system("heartbeats of all tenants are written together")
            .await?;
        // In one order everywhere: two batches would otherwise wait for each other.
        sqlx::query(
            "INSERT INTO activity (tenant, user_id, device, at, active_until) \
             SELECT beat.tenant, beat.user_id, beat.device, beat.at, beat.active_until FROM \
             (SELECT value ->> 'tenant' AS tenant, value ->> 'user_id' AS user_id, value ->> 'device' AS device, \
              value ->> 'at' AS at, value ->> 'active_until' AS active_until FROM json_each($1)) AS beat \
             WHERE EXISTS (SELECT 1 FROM users u WHERE u.tenant = beat.tenant AND u.id = beat.user_id) \
              AND (SELECT COUNT(*) FROM activity other WHERE other.tenant = beat.tenant \
               AND other.user_id = beat.user_id AND other.device <> beat.device) < $2 \
             ORDER BY beat.tenant, beat.user_id, beat.device \
             ON CONFLICT (tenant, user_id, device) DO UPDATE \
             SET at = excluded.at, active_until = excluded.active_until WHERE excluded.at >= activity.at",
        )
        .bind(beats)
        .bind(MAX_ACTIVE)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn active(
        &self,
        tenant: &TenantId,
        users: &[UserId],
        now: Timestamp,
    ) -> Result<Vec<Active>, StoreError> {
        let users = json(&users)?;
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let rows: Vec<ActiveRow> = sqlx::query_as(
            "SELECT a.user_id, d.id, a.active_until FROM activity a \
             LEFT JOIN devices d ON d.tenant = a.tenant AND d.user_id = a.user_id \
              AND (d.id = a.device OR d.name = a.device) \
             WHERE a.tenant = $1 AND a.user_id IN (SELECT value FROM json_each($2)) AND a.active_until > $3",
        )
        .bind(tenant.as_str())
        .bind(users)
        .bind(now.as_micros())
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(active).collect()
    }

    async fn purge_activity(&self, now: Timestamp) -> Result<i64, StoreError> {
        const WHY: &str = "what is over goes, whoever's it is";
        // Asked first: mostly there is nothing, and a write would cost a sync.
        let mut read = self.0.read_system(WHY).await?;
        let over: Option<(i64,)> =
            sqlx::query_as("SELECT active_until FROM activity WHERE active_until <= $1 LIMIT 1")
                .bind(now.as_micros())
                .fetch_optional(&mut *read)
                .await?;
        drop(read);
        if over.is_none() {
            return Ok(0);
        }
        let mut tx = self.0.begin_system(WHY).await?;
        let gone = sqlx::query(
            "DELETE FROM activity WHERE (tenant, user_id, device) IN \
             (SELECT tenant, user_id, device FROM activity WHERE active_until <= $1 LIMIT $2) AND active_until <= $1",
        )
        .bind(now.as_micros())
        .bind(PURGE_BATCH)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(i64::try_from(gone).unwrap_or(i64::MAX))
    }
}
