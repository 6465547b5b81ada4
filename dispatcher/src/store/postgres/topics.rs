use std::collections::HashSet;

use carillon_domain::{Position, Publication, TenantId, Timestamp, TopicName, ports::Since};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{PostgresStore, plan::topics, write::write};
use crate::store::{
    ledger::{Ledger, TopicKey},
    records::{Committed, TopicAppend, TopicRow},
    rows::{self, stored},
};

impl PostgresStore {
    pub(super) async fn publish(
        &self,
        now: Timestamp,
        publications: &[TopicAppend],
    ) -> Result<Committed<Vec<Position>>, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("appends what several tenants published in one commit")
            .await?;
        let keys: HashSet<TopicKey> = publications
            .iter()
            .map(|append| (append.tenant.clone(), append.topic.clone()))
            .collect();
        let topics = topics(&mut tx, now, &keys).await?;
        let mut ledger = Ledger::new(now, self.limits, [], topics);
        let mut value = Vec::with_capacity(publications.len());
        for append in publications {
            let key = (append.tenant.clone(), append.topic.clone());
            value.push(ledger.append_publication(&key, append.data.clone(), append.publisher.clone())?);
        }
        let mut writes = ledger.finish();
        write(&mut tx, now, self.limits.devices, &writes).await?;
        tx.commit().await?;
        Ok(Committed {
            value,
            told: !writes.events.is_empty(),
            envelopes: std::mem::take(&mut writes.envelopes),
        })
    }

    pub(super) async fn topic_head(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        topic: &TopicName,
    ) -> Result<Position, StoreError> {
        let scope = TenantScope::new(tenant);
        if let Some(row) = topic_row(&mut *self.postgres.read(scope).await?, tenant, topic).await? {
            return Ok(row.position());
        }
        let mut tx = self.postgres.begin(scope).await?;
        let new = rows::new_topic(now, tenant, topic);
        sqlx::query(
            "INSERT INTO topics (tenant, topic, epoch, last_seq, floor_seq, used_at) \
             VALUES ($1, $2, $3, 0, 0, $4) ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .bind(new.epoch.as_str())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        let row = topic_row(&mut tx, tenant, topic).await?.unwrap_or(new);
        tx.commit().await?;
        Ok(row.position())
    }

    pub(super) async fn topic_since(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        from: &Position,
        limit: usize,
    ) -> Result<Since<Publication>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<rows::TopicLogColumns> = sqlx::query_as(
            "SELECT t.epoch, t.last_seq, t.floor_seq, l.seq, l.data, l.publisher, l.at FROM topics t \
             LEFT JOIN topic_log l ON l.tenant = t.tenant AND l.topic = t.topic AND l.seq > $3 \
             WHERE t.tenant = $1 AND t.topic = $2 ORDER BY l.seq LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .bind(stored(from.seq))
        .bind(limit as i64 + 1)
        .fetch_all(&mut *read)
        .await?;
        // A topic that is not there has an epoch that nobody was told.
        let slice = rows::topic_slice(rows)?
            .unwrap_or_else(|| rows::LogSlice::empty(carillon_domain::Epoch::random()));
        Ok(slice.since(from, limit))
    }
}

async fn topic_row(
    connection: &mut PgConnection,
    tenant: &TenantId,
    topic: &TopicName,
) -> Result<Option<TopicRow>, StoreError> {
    let statement = format!(
        "SELECT {} FROM topics t WHERE t.tenant = $1 AND t.topic = $2",
        rows::TOPIC
    );
    let row: Option<rows::TopicColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(topic.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(rows::topic).transpose()
}
