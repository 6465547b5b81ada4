use carillon_domain::{Category, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};

use super::super::SqliteStore;
use crate::store::{
    catalog::{self, CategoryRow, CategoryWrite, Put},
    ledger::encode,
    rows::stored,
};

impl SqliteStore {
    pub(super) async fn put_category(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        category: &CategoryWrite,
        most: u64,
    ) -> Result<Put, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let (known, others): (i64, i64) = sqlx::query_as(
            "SELECT COUNT(CASE WHEN name = $2 THEN 1 END), COUNT(CASE WHEN name <> $2 THEN 1 END) \
             FROM categories WHERE tenant = $1",
        )
        .bind(tenant.as_str())
        .bind(category.name.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if others >= stored(most) {
            return Ok(Put::Full);
        }
        sqlx::query(
            "INSERT INTO categories (tenant, name, title, channels, created_at, updated_at, mandatory, policy) \
             VALUES ($1, $2, $3, $4, $5, $5, $6, $7) ON CONFLICT (tenant, name) DO UPDATE SET \
             title = excluded.title, channels = excluded.channels, updated_at = excluded.updated_at, \
             mandatory = excluded.mandatory, policy = excluded.policy",
        )
        .bind(tenant.as_str())
        .bind(category.name.as_str())
        .bind(category.title.as_deref())
        .bind(encode(&category.channels)?)
        .bind(now.as_micros())
        .bind(i64::from(category.mandatory))
        .bind(category.policy.as_deref())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(if known > 0 { Put::Replaced } else { Put::Made })
    }

    pub(super) async fn categories(
        &self,
        tenant: &TenantId,
        after: Option<&Category>,
        limit: u32,
    ) -> Result<Vec<CategoryRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let rows: Vec<catalog::CategoryColumns> = sqlx::query_as(
            "SELECT name, title, channels, policy, created_at, updated_at FROM categories \
             WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after.map_or("", Category::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(catalog::category).collect()
    }

    pub(super) async fn category(
        &self,
        tenant: &TenantId,
        name: &Category,
    ) -> Result<Option<CategoryRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let row: Option<catalog::CategoryColumns> = sqlx::query_as(
            "SELECT name, title, channels, policy, created_at, updated_at FROM categories \
             WHERE tenant = $1 AND name = $2",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(&mut *read)
        .await?;
        row.map(catalog::category).transpose()
    }

    pub(super) async fn delete_category(
        &self,
        tenant: &TenantId,
        name: &Category,
    ) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let removed = sqlx::query("DELETE FROM categories WHERE tenant = $1 AND name = $2")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        Ok(removed > 0)
    }
}
