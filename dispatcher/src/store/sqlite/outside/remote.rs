use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{ChannelKind, DeliveryId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    super::{SqliteStore, keys::json_list},
    apply::apply,
    lanes::refresh,
    listeners::listeners,
};
use crate::store::{
    ledger::encode,
    outside::{
        self, About, CANDIDATE_JOINS, CandidateColumns, DueLane, Effects, LaneKey, LeaseKey, LeasedDelivery,
        NO_STRAGGLER, News, NewsNoted, RemoteChannelRow, RemoteStore, candidate_columns,
    },
    rows::word,
};

/// Why the tenant is not the only one that is looked at.
const WORKERS: &str = "a worker may serve all tenants";

#[async_trait]
impl RemoteStore for SqliteStore {
    async fn announce_channel(&self, row: &RemoteChannelRow) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin_system(WORKERS).await?;
        sqlx::query(
            "INSERT INTO remote_channels (tenant, kind, capabilities, forms, announced_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, kind) DO UPDATE SET \
             capabilities = excluded.capabilities, forms = excluded.forms, announced_at = excluded.announced_at",
        )
        .bind(row.tenant.as_ref().map_or("", TenantId::as_str))
        .bind(row.kind.as_str())
        .bind(encode(&row.capabilities)?)
        .bind(row.forms.as_ref().map(encode).transpose()?)
        .bind(row.announced_at.as_micros())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn withdraw_channel(
        &self,
        tenant: Option<&TenantId>,
        kind: &ChannelKind,
    ) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin_system(WORKERS).await?;
        let withdrawn = sqlx::query("DELETE FROM remote_channels WHERE tenant = $1 AND kind = $2")
            .bind(tenant.map_or("", TenantId::as_str))
            .bind(kind.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(withdrawn.rows_affected() > 0)
    }

    async fn remote_channels(&self, tenant: Option<&TenantId>) -> Result<Vec<RemoteChannelRow>, StoreError> {
        let mut read = self.sqlite.read_system(WORKERS).await?;
        let rows: Vec<outside::RemoteChannelColumns> = sqlx::query_as(
            "SELECT tenant, kind, capabilities, forms, seen_at, announced_at FROM remote_channels \
             WHERE tenant IN ('', $1) ORDER BY kind, tenant LIMIT 1000",
        )
        .bind(tenant.map_or("", TenantId::as_str))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(outside::remote_channel).collect()
    }

    async fn announcers(&self, kind: &ChannelKind) -> Result<Vec<TenantId>, StoreError> {
        let mut read = self.sqlite.read_system(WORKERS).await?;
        let tenants: Vec<String> =
            sqlx::query_scalar("SELECT tenant FROM remote_channels WHERE kind = $1 AND tenant <> ''")
                .bind(kind.as_str())
                .fetch_all(&mut *read)
                .await?;
        tenants.iter().map(|tenant| word(tenant)).collect()
    }

    async fn channel_seen(
        &self,
        tenant: Option<&TenantId>,
        kind: &ChannelKind,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin_system(WORKERS).await?;
        sqlx::query("UPDATE remote_channels SET seen_at = $3 WHERE tenant = $1 AND kind = $2")
            .bind(tenant.map_or("", TenantId::as_str))
            .bind(kind.as_str())
            .bind(at.as_micros())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn lanes_of(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let rows: Vec<outside::LaneColumns> = sqlx::query_as(
            "SELECT tenant, channel, lane, strand, due_at FROM lanes \
             WHERE tenant = $1 AND channel = $2 ORDER BY due_at LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .bind(limit as i64)
        .fetch_all(&mut *read)
        .await?;
        Ok(outside::due_lanes(rows))
    }

    async fn held(
        &self,
        channel: &ChannelKind,
        leases: &[LeaseKey],
    ) -> Result<Vec<LeasedDelivery>, StoreError> {
        let mut read = self.sqlite.read_system(WORKERS).await?;
        let statement = format!(
            "SELECT {candidate} FROM (SELECT q.* FROM json_each($1) j CROSS JOIN delivery_queue q \
             ON q.tenant = j.value ->> 0 AND q.delivery = j.value ->> 1 AND q.earlier + q.lease = j.value ->> 2 \
             WHERE q.channel = $2 AND EXISTS (SELECT 1 FROM attempts a WHERE a.tenant = q.tenant \
             AND a.delivery = q.delivery AND a.number = q.earlier + q.lease AND a.outcome IS NULL)) c \
             {CANDIDATE_JOINS}",
            candidate = candidate_columns(NO_STRAGGLER)
        );
        let rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(json_list(
                leases
                    .iter()
                    .map(|(tenant, id, number)| (tenant.as_str(), id, number)),
            )?)
            .bind(channel.as_str())
            .fetch_all(&mut *read)
            .await?;
        let (found, _) = outside::candidates(rows);
        let held = found.into_iter().filter_map(|found| found.delivery?.leased);
        Ok(held.collect())
    }

    async fn extend_leases(
        &self,
        held: &[Arc<LeasedDelivery>],
        oldest: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(TenantId, DeliveryId)>, StoreError> {
        let mut tx = self.sqlite.begin_system(WORKERS).await?;
        let mut extended = Vec::new();
        let mut lanes = std::collections::BTreeSet::new();
        for lease in held {
            let updated = sqlx::query(
                "UPDATE delivery_queue SET due_at = $4 WHERE tenant = $1 AND delivery = $2 AND earlier + lease = $3 \
                 AND EXISTS (SELECT 1 FROM attempts a WHERE a.tenant = delivery_queue.tenant \
                 AND a.delivery = delivery_queue.delivery \
                 AND a.number = delivery_queue.earlier + delivery_queue.lease \
                 AND a.outcome IS NULL AND a.started_at >= $5) \
                 AND EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = delivery_queue.tenant \
                 AND d.id = delivery_queue.delivery AND d.channel <> 'in_app' \
                 AND CASE WHEN delivery_queue.operation = 'recall' THEN d.state IN ('accepted', 'delivered') \
                 ELSE d.state = 'pending' END)",
            )
            .bind(lease.key.tenant.as_str())
            .bind(lease.id.to_string())
            .bind(i64::from(lease.number()))
            .bind(until.as_micros())
            .bind(oldest.as_micros())
            .execute(&mut *tx)
            .await?;
            if updated.rows_affected() > 0 {
                extended.push((lease.key.tenant.clone(), lease.id));
                lanes.insert(lease.key.clone());
            }
        }
        refresh(&mut tx, oldest, &lanes, None).await?;
        tx.commit().await?;
        Ok(extended)
    }

    async fn email_tenant(&self, id: DeliveryId) -> Result<Option<TenantId>, StoreError> {
        let mut read = self.sqlite.read_system("a bounce names no tenant").await?;
        let tenant: Option<String> =
            sqlx::query_scalar("SELECT tenant FROM deliveries WHERE id = $1 AND channel = 'email'")
                .bind(id.to_string())
                .fetch_optional(&mut *read)
                .await?;
        tenant.as_deref().map(word).transpose()
    }

    async fn receive_news(
        &self,
        now: Timestamp,
        channel: &ChannelKind,
        news: &[News],
    ) -> Result<NewsNoted, StoreError> {
        let mut tx = self.sqlite.begin_system(WORKERS).await?;
        let mut noted = NewsNoted::default();
        let mut lanes = std::collections::BTreeSet::new();
        for item in news {
            let Some(row) = about(&mut tx, channel, item).await? else {
                noted.noted.push(None);
                continue;
            };
            let mut effects = Effects::default();
            let delivery =
                outside::receive(&mut effects, now, channel, &item.says, &outside::received(row)?)?;
            let tenants = effects.ended.iter().map(|end| &end.tenant);
            let told = listeners(&mut tx, tenants, self.limits.event_ttl).await?;
            outside::follow(&mut effects, now, &told);
            // One by one: the next item may be about the same delivery.
            apply(&mut tx, now, now, &effects).await?;
            let lane: Option<(String, String)> =
                sqlx::query_as("SELECT lane, strand FROM delivery_queue WHERE tenant = $1 AND delivery = $2")
                    .bind(item.tenant.as_str())
                    .bind(delivery.id.to_string())
                    .fetch_optional(&mut *tx)
                    .await?;
            if let Some((lane, strand)) = lane {
                sqlx::query(outside::SOONER)
                    .bind(item.tenant.as_str())
                    .bind(delivery.id.to_string())
                    .bind(now.as_micros())
                    .execute(&mut *tx)
                    .await?;
                lanes.insert(LaneKey {
                    tenant: item.tenant.clone(),
                    channel: channel.clone(),
                    lane: Arc::from(lane),
                    strand: Arc::from(strand),
                });
            }
            noted.noted.push(Some(delivery));
            noted.ended.append(&mut effects.ended);
        }
        refresh(&mut tx, now, &lanes, None).await?;
        tx.commit().await?;
        Ok(noted)
    }
}

/// The delivery that news is about.
async fn about(
    tx: &mut SqliteConnection,
    channel: &ChannelKind,
    news: &News,
) -> Result<Option<outside::ReceiptColumns>, StoreError> {
    let (which, key) = match &news.about {
        About::Delivery(id) => ("id = $3", id.to_string()),
        About::Provider(id) => (outside::BY_PROVIDER, id.clone()),
    };
    let statement = format!(
        "SELECT {} FROM deliveries WHERE tenant = $1 AND channel = $2 AND channel <> 'in_app' AND {which}",
        outside::RECEIPT
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(news.tenant.as_str())
        .bind(channel.as_str())
        .bind(key)
        .fetch_optional(tx)
        .await?)
}
