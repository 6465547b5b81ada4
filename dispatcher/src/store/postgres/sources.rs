use async_trait::async_trait;
use carillon_domain::{SourceName, TenantId};
use carillon_sql::{StoreError, TenantScope};

use super::PostgresStore;
use crate::store::{
    rows::stored,
    sources::{PutSource, SourceColumns, SourceRow, SourceStore, SourceWrite, source},
};

#[async_trait]
impl SourceStore for PostgresStore {
    async fn put_source(&self, row: &SourceWrite, most: u64) -> Result<PutSource, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(&row.tenant)).await?;
        // Two that come at once must not both be the last one that there is room for.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("sources/{}", row.tenant))
            .execute(&mut *tx)
            .await?;
        let (known, others): (i64, i64) = sqlx::query_as(
            "SELECT COUNT(CASE WHEN name = $2 THEN 1 END), COUNT(CASE WHEN name <> $2 THEN 1 END) \
             FROM sources WHERE tenant = $1",
        )
        .bind(row.tenant.as_str())
        .bind(row.name.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if known == 0 && others >= stored(most) {
            return Ok(PutSource::Full);
        }
        sqlx::query(
            "INSERT INTO sources (tenant, name, kind, settings, sealed, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (tenant, name) DO UPDATE SET kind = excluded.kind, \
             settings = excluded.settings, sealed = excluded.sealed, updated_at = excluded.updated_at",
        )
        .bind(row.tenant.as_str())
        .bind(row.name.as_str())
        .bind(row.kind)
        .bind(row.settings.as_str())
        .bind(row.sealed.as_deref())
        .bind(row.at.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(if known > 0 {
            PutSource::Replaced
        } else {
            PutSource::Made
        })
    }

    async fn source(&self, tenant: &TenantId, name: &SourceName) -> Result<Option<SourceRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let row: Option<SourceColumns> = sqlx::query_as(
            "SELECT name, kind, settings, sealed, created_at, updated_at FROM sources \
             WHERE tenant = $1 AND name = $2",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(&mut *read)
        .await?;
        row.map(source).transpose()
    }

    async fn sources(
        &self,
        tenant: &TenantId,
        after: Option<&SourceName>,
        limit: u32,
    ) -> Result<Vec<SourceRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<SourceColumns> = sqlx::query_as(
            "SELECT name, kind, settings, sealed, created_at, updated_at FROM sources \
             WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after.map_or("", SourceName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(source).collect()
    }

    async fn delete_source(&self, tenant: &TenantId, name: &SourceName) -> Result<bool, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let deleted = sqlx::query("DELETE FROM sources WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected() > 0)
    }
}
