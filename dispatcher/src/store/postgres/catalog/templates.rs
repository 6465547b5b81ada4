use carillon_domain::{TemplateName, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};

use super::super::PostgresStore;
use crate::store::{
    catalog::{self, TemplateRow, TemplateVersionRow, TemplateWrite},
    rows::{number, stored},
};

impl PostgresStore {
    pub(super) async fn put_template(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        template: &TemplateWrite,
        most: u64,
        keep: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let (others,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM templates WHERE tenant = $1 AND name <> $2")
                .bind(tenant.as_str())
                .bind(template.name.as_str())
                .fetch_one(&mut *tx)
                .await?;
        if others >= stored(most) {
            return Ok(None);
        }
        let (version,): (i64,) = sqlx::query_as(
            "INSERT INTO templates (tenant, name, version, last_version, created_at, updated_at) \
             VALUES ($1, $2, 1, 1, $3, $3) ON CONFLICT (tenant, name) DO UPDATE SET \
             version = templates.last_version + 1, last_version = templates.last_version + 1, \
             updated_at = excluded.updated_at RETURNING last_version",
        )
        .bind(tenant.as_str())
        .bind(template.name.as_str())
        .bind(now.as_micros())
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO template_versions (tenant, name, version, default_locale, locales, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.as_str())
        .bind(template.name.as_str())
        .bind(version)
        .bind(template.default_locale.as_str())
        .bind(template.locales.as_str())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM template_versions WHERE tenant = $1 AND name = $2 AND version <= $3 \
             AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.tenant = template_versions.tenant \
             AND n.template = template_versions.name AND n.template_version = template_versions.version)",
        )
        .bind(tenant.as_str())
        .bind(template.name.as_str())
        .bind(version - stored(keep))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        number(version).map(Some)
    }

    pub(super) async fn templates(
        &self,
        tenant: &TenantId,
        after: Option<&TemplateName>,
        limit: u32,
    ) -> Result<Vec<TemplateRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<catalog::TemplateColumns> = sqlx::query_as(
            "SELECT name, version, created_at, updated_at FROM templates \
             WHERE tenant = $1 AND name > $2 AND version IS NOT NULL ORDER BY name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after.map_or("", TemplateName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(catalog::template).collect()
    }

    pub(super) async fn template(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        version: Option<u64>,
    ) -> Result<Option<TemplateVersionRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let row: Option<catalog::VersionColumns> = sqlx::query_as(
            "SELECT v.version, v.default_locale, v.locales, v.created_at FROM templates t \
             JOIN template_versions v ON v.tenant = t.tenant AND v.name = t.name \
             WHERE t.tenant = $1 AND t.name = $2 AND v.version = COALESCE($3::bigint, t.version)",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(version.map(stored))
        .fetch_optional(&mut *read)
        .await?;
        row.map(catalog::version).transpose()
    }

    pub(super) async fn template_versions(
        &self,
        tenant: &TenantId,
        name: &TemplateName,
        limit: u32,
    ) -> Result<Vec<u64>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<(i64,)> = sqlx::query_as(
            "SELECT version FROM template_versions WHERE tenant = $1 AND name = $2 \
             ORDER BY version DESC LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(|(version,)| number(version)).collect()
    }

    pub(super) async fn delete_template(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        name: &TemplateName,
    ) -> Result<bool, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let deleted = sqlx::query(
            "UPDATE templates SET version = NULL, updated_at = $3 \
             WHERE tenant = $1 AND name = $2 AND version IS NOT NULL",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(deleted > 0)
    }
}
