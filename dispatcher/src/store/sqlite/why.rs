use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::AssertSqlSafe;

use super::{SqliteStore, notifications::details};
use crate::store::{records::RecipientDetail, rows, why::WhyStore};

#[async_trait]
impl WhyStore for SqliteStore {
    async fn recipient(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        user: UserId,
    ) -> Result<Option<RecipientDetail>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM recipients r LEFT JOIN mailboxes m ON m.tenant = r.tenant AND m.user_id = r.user_id \
             LEFT JOIN climbs c ON c.tenant = r.tenant AND c.notification = r.notification AND c.user_id = r.user_id \
             WHERE r.tenant = $1 AND r.notification = $2 AND r.user_id = $3",
            rows::RECIPIENT
        );
        let row: Vec<rows::RecipientColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .bind(user.to_string())
            .fetch_all(&mut *read)
            .await?;
        Ok(details(&mut read, tenant, id, row).await?.pop())
    }

    async fn ended_at(&self, tenant: &TenantId, id: NotificationId) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let at: Option<Option<i64>> =
            sqlx::query_scalar("SELECT ended_at FROM notifications WHERE tenant = $1 AND id = $2")
                .bind(tenant.as_str())
                .bind(id.to_string())
                .fetch_optional(&mut *read)
                .await?;
        Ok(at.flatten().map(Timestamp::from_micros))
    }
}
