use async_trait::async_trait;
use carillon_domain::{TenantId, Timestamp, TopicName, UserId};
use carillon_sql::{StoreError, TenantScope, together};

use super::{SqliteStore, json};
use crate::{
    store::{
        behind, pairs, rows,
        subscriptions::{
            NamedRow, NamedSubscriber, SubscriberRow, SubscriptionStore, TopicRow, counts, named, subscriber,
            subscription,
        },
        user_id,
    },
    subscriptions::{Item, ItemOutcome, Known, apply},
};

#[async_trait]
impl SubscriptionStore for SqliteStore {
    async fn change_subscriptions(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        items: &[Item],
        most: i64,
        now: Timestamp,
    ) -> Result<Vec<ItemOutcome>, StoreError> {
        let new: Vec<(&str, UserId)> = items
            .iter()
            .filter(|item| item.subscribe)
            .map(|item| (item.user.as_str(), UserId::at(now)))
            .collect();
        let names: Vec<&str> = items.iter().map(|item| item.user.as_str()).collect();
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "INSERT INTO users (tenant, external, id, created_at) \
             SELECT $1, value ->> 0, value ->> 1, $3 FROM json_each($2) WHERE TRUE \
             ON CONFLICT (tenant, external) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(json(&new)?)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        let locked: Vec<(String, String)> = sqlx::query_as(
            "SELECT external, id FROM users WHERE tenant = $1 AND external IN (SELECT value FROM json_each($2))",
        )
        .bind(tenant.as_str())
        .bind(json(&names)?)
        .fetch_all(&mut *tx)
        .await?;
        let users: Vec<&str> = locked.iter().map(|(_, id)| id.as_str()).collect();
        let users = json(&users)?;
        let subscribed: Vec<(String,)> = sqlx::query_as(
            "SELECT user_id FROM topic_subscriptions WHERE tenant = $1 AND topic = $2 \
             AND user_id IN (SELECT value FROM json_each($3))",
        )
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .bind(&users)
        .fetch_all(&mut *tx)
        .await?;
        let held: Vec<(String, i64)> = sqlx::query_as(
            "SELECT user_id, COUNT(*) FROM topic_subscriptions WHERE tenant = $1 \
             AND user_id IN (SELECT value FROM json_each($2)) GROUP BY user_id",
        )
        .bind(tenant.as_str())
        .bind(users)
        .fetch_all(&mut *tx)
        .await?;
        let known = Known {
            ids: pairs(locked)?.into_iter().collect(),
            subscribed: subscribed
                .iter()
                .map(|(user,)| user_id(user))
                .collect::<Result<_, _>>()?,
            counts: counts(held)?,
        };
        let applied = apply(items, known, most);
        if !applied.added.is_empty() {
            sqlx::query(
                "INSERT INTO topic_subscriptions (tenant, topic, user_id, created_at) \
                 SELECT $1, $2, value, $4 FROM json_each($3)",
            )
            .bind(tenant.as_str())
            .bind(topic.as_str())
            .bind(json(&applied.added)?)
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
        }
        if !applied.removed.is_empty() {
            sqlx::query(
                "DELETE FROM topic_subscriptions WHERE tenant = $1 AND topic = $2 AND user_id IN (SELECT value FROM json_each($3))",
            )
            .bind(tenant.as_str())
            .bind(topic.as_str())
            .bind(json(&applied.removed)?)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(applied.outcomes)
    }

    async fn subscribers(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let found = sqlx::query_as(
            "SELECT json_group_array(json_array(user_id, created_at) ORDER BY user_id) FROM (\
             SELECT user_id, created_at FROM topic_subscriptions \
             WHERE tenant = $1 AND topic = $2 AND user_id > $3 ORDER BY user_id LIMIT $4)",
        )
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .bind(behind(after))
        .bind(rows(limit))
        .fetch_one(&mut *read)
        .await?;
        together::<SubscriberRow>(found)?
            .into_iter()
            .map(subscriber)
            .collect()
    }

    async fn named_subscribers(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<NamedSubscriber>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let found: Vec<NamedRow> = sqlx::query_as(
            "SELECT s.user_id, u.external, s.created_at FROM topic_subscriptions s \
             JOIN users u ON u.tenant = s.tenant AND u.id = s.user_id \
             WHERE s.tenant = $1 AND s.topic = $2 AND s.user_id > $3 ORDER BY s.user_id LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .bind(behind(after))
        .bind(rows(limit))
        .fetch_all(&mut *read)
        .await?;
        found.into_iter().map(named).collect()
    }

    async fn subscriptions(
        &self,
        tenant: &TenantId,
        user: UserId,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Result<Vec<(TopicName, Timestamp)>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let found: Vec<TopicRow> = sqlx::query_as(
            "SELECT topic, created_at FROM topic_subscriptions \
             WHERE tenant = $1 AND user_id = $2 AND topic > $3 ORDER BY topic LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(after.map_or("", TopicName::as_str))
        .bind(rows(limit))
        .fetch_all(&mut *read)
        .await?;
        found.into_iter().map(subscription).collect()
    }
}
