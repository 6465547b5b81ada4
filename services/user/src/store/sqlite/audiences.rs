use async_trait::async_trait;
use carillon_domain::{TenantId, Timestamp, TopicName, UserId};
use carillon_sql::{StoreError, TenantScope};

use super::{SqliteStore, json};
use crate::store::audiences::{
    Active, ActiveRow, AudienceStore, SubscriberRow, active, behind, limit as rows, subscriber,
};

#[async_trait]
impl AudienceStore for SqliteStore {
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

    async fn subscribers(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let rows: Vec<SubscriberRow> = sqlx::query_as(
            "SELECT user_id, created_at FROM topic_subscriptions \
             WHERE tenant = $1 AND topic = $2 AND user_id > $3 ORDER BY user_id LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .bind(behind(after))
        .bind(rows(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(subscriber).collect()
    }
}
