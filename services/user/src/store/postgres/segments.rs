use async_trait::async_trait;
use carillon_domain::{SegmentName, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};

use super::PostgresStore;
use crate::store::{
    behind, rows,
    segments::{Person, PersonRecord, Put, Row, SegmentRow, SegmentStore, SegmentWrite, person, segment},
};

#[async_trait]
impl SegmentStore for PostgresStore {
    async fn put_segment(
        &self,
        tenant: &TenantId,
        segment: &SegmentWrite,
        most: i64,
        now: Timestamp,
    ) -> Result<Put, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        // Two that make one at once are counted one after the other.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("segments {tenant}"))
            .execute(&mut *tx)
            .await?;
        let replaced = sqlx::query(
            "UPDATE segments SET title = $3, filter = $4, updated_at = $5 WHERE tenant = $1 AND name = $2",
        )
        .bind(tenant.as_str())
        .bind(segment.name.as_str())
        .bind(&segment.title)
        .bind(segment.filter.to_string())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if replaced == 1 {
            tx.commit().await?;
            return Ok(Put::Replaced);
        }
        let (others,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM segments WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if others >= most {
            return Ok(Put::Full);
        }
        sqlx::query(
            "INSERT INTO segments (tenant, name, title, filter, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $5)",
        )
        .bind(tenant.as_str())
        .bind(segment.name.as_str())
        .bind(&segment.title)
        .bind(segment.filter.to_string())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Put::Made)
    }

    async fn segment(&self, tenant: &TenantId, name: &SegmentName) -> Result<Option<SegmentRow>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let row: Option<Row> = sqlx::query_as(
            "SELECT name, title, filter, created_at, updated_at FROM segments WHERE tenant = $1 AND name = $2",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(&mut *read)
        .await?;
        row.map(segment).transpose()
    }

    async fn segments(
        &self,
        tenant: &TenantId,
        after: Option<&SegmentName>,
        limit: usize,
    ) -> Result<Vec<SegmentRow>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let found: Vec<Row> = sqlx::query_as(
            "SELECT name, title, filter, created_at, updated_at FROM segments \
             WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after.map_or("", SegmentName::as_str))
        .bind(rows(limit))
        .fetch_all(&mut *read)
        .await?;
        found.into_iter().map(segment).collect()
    }

    async fn remove_segment(&self, tenant: &TenantId, name: &SegmentName) -> Result<bool, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let gone = sqlx::query("DELETE FROM segments WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        Ok(gone == 1)
    }

    async fn people(
        &self,
        tenant: &TenantId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<PersonRecord>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let found: Vec<Person> = sqlx::query_as(
            "SELECT id, external, created_at, locale, timezone, attributes FROM users \
             WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(behind(after))
        .bind(rows(limit))
        .fetch_all(&mut *read)
        .await?;
        found.into_iter().map(person).collect()
    }
}
