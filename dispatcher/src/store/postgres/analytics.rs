use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder};

use super::{PostgresStore, column::column};
use crate::store::analytics::{self, AnalyticsStore, Counted, CountedNotification, CountedQuery};

#[async_trait]
impl AnalyticsStore for PostgresStore {
    async fn to_count(
        &self,
        tenant: &TenantId,
        query: &CountedQuery,
    ) -> Result<Vec<CountedNotification>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Postgres>::new(
            "SELECT n.id, n.category, COALESCE(b.planned, json_array_length(n.targets::json)) FROM notifications n LEFT JOIN broadcasts b \
             ON b.tenant = n.tenant AND b.notification = n.id WHERE n.tenant = ",
        );
        statement.push_bind(tenant.as_str());
        match query.only {
            Some(only) => {
                statement.push(" AND n.id = ").push_bind(only.to_string());
            }
            None => {
                let (from, to) = (analytics::from_then(query.from), analytics::from_then(query.to));
                statement.push(" AND n.id >= ").push_bind(from);
                statement.push(" AND n.id < ").push_bind(to);
            }
        }
        if let Some(after) = query.after {
            statement.push(" AND n.id > ").push_bind(after.to_string());
        }
        statement
            .push(" ORDER BY n.id LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows: Vec<analytics::ToCountColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(analytics::to_count).collect()
    }

    async fn count(&self, tenant: &TenantId, ids: &[NotificationId]) -> Result<Counted, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let ids = column!(ids, id => id.to_string());
        let statement = format!(
            "SELECT {} FROM deliveries d WHERE d.tenant = $1 AND d.notification = ANY($2) \
             GROUP BY d.notification, d.channel, d.state",
            analytics::DELIVERIES
        );
        let deliveries: Vec<analytics::DeliveryCounts> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(&ids)
            .fetch_all(&mut *read)
            .await?;
        // How far a device confirmed says what arrived in an inbox; everything else has a row.
        let receipts: Vec<analytics::ReceiptCounts> = sqlx::query_as(
            "SELECT r.notification, 'in_app', 'delivered', COUNT(*) FROM recipients r WHERE r.tenant = $1 \
             AND r.notification = ANY($2) AND r.seq IS NOT NULL AND EXISTS (SELECT 1 FROM confirmations c \
             WHERE c.tenant = r.tenant AND c.user_id = r.user_id AND c.seq >= r.seq) GROUP BY r.notification \
             UNION ALL SELECT r.notification, r.channel, r.kind, COUNT(DISTINCT r.user_id) FROM receipts r WHERE r.tenant = $1 \
             AND r.notification = ANY($2) GROUP BY r.notification, r.channel, r.kind",
        )
        .bind(tenant.as_str())
        .bind(&ids)
        .fetch_all(&mut *read)
        .await?;
        Ok(Counted {
            deliveries: deliveries
                .into_iter()
                .map(analytics::deliveries)
                .collect::<Result<_, _>>()?,
            receipts: receipts
                .into_iter()
                .map(analytics::receipts)
                .collect::<Result<_, _>>()?,
        })
    }
}
