use carillon_domain::Timestamp;
use carillon_sql::{StoreError, TenantScope};

use super::super::{PostgresStore, policy::wake_held};
use crate::store::catalog::OptOut;

impl PostgresStore {
    pub(super) async fn opt_out(
        &self,
        now: Timestamp,
        opt_out: &OptOut,
        off: bool,
    ) -> Result<(), StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(&opt_out.tenant)).await?;
        let statement = if off {
            "INSERT INTO preferences (tenant, user_id, category, channel, enabled, at) VALUES ($1, $2, $3, $4, 0, $5) \
             ON CONFLICT (tenant, user_id, category, channel) DO UPDATE SET enabled = 0, at = excluded.at"
        } else {
            "UPDATE preferences SET enabled = 1, at = $5 WHERE tenant = $1 AND user_id = $2 AND category = $3 \
             AND channel = $4 AND at <= $5"
        };
        sqlx::query(statement)
            .bind(opt_out.tenant.as_str())
            .bind(opt_out.user.to_string())
            .bind(opt_out.category.as_str())
            .bind(opt_out.channel.as_str())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
        let (tenant, user) = (opt_out.tenant.as_str(), opt_out.user.to_string());
        wake_held(&mut tx, now, tenant, &user).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn opted_out(&self, opt_out: &OptOut) -> Result<bool, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(&opt_out.tenant)).await?;
        let row: Option<(i64,)> = sqlx::query_as(
            "SELECT at FROM preferences WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4 \
             AND enabled = 0",
        )
        .bind(opt_out.tenant.as_str())
        .bind(opt_out.user.to_string())
        .bind(opt_out.category.as_str())
        .bind(opt_out.channel.as_str())
        .fetch_optional(&mut *read)
        .await?;
        Ok(row.is_some())
    }
}
