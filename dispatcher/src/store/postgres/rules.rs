use async_trait::async_trait;
use carillon_domain::{RuleName, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};

use super::PostgresStore;
use crate::store::{
    rows::{number, stored},
    rules::{
        PutRule, Revision, RevisionColumns, RuleColumns, RuleErrorColumns, RuleErrorRow, RuleRow, RuleStore,
        RuleWrite, revision, rule, rule_error,
    },
};

#[async_trait]
impl RuleStore for PostgresStore {
    async fn put_rule(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        rule: &RuleWrite,
        most: u64,
        keep: u64,
    ) -> Result<PutRule, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        // Two that come at once must not both be the last one that there is room for.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("rules/{tenant}"))
            .execute(&mut *tx)
            .await?;
        let known: Option<(i64, String)> = sqlx::query_as(
            "SELECT v.version, v.body FROM rules r JOIN rule_versions v ON v.tenant = r.tenant \
             AND v.name = r.name AND v.version = r.version WHERE r.tenant = $1 AND r.name = $2",
        )
        .bind(tenant.as_str())
        .bind(rule.name.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if let Some((version, body)) = &known
            && *body == rule.body
        {
            return Ok(PutRule::Same(number(*version)?));
        }
        let (others,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM rules WHERE tenant = $1 AND name <> $2")
            .bind(tenant.as_str())
            .bind(rule.name.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if known.is_none() && others >= stored(most) {
            return Ok(PutRule::Full);
        }
        let (version,): (i64,) = sqlx::query_as(
            "INSERT INTO rules (tenant, name, version, last_version, created_at, updated_at) \
             VALUES ($1, $2, 1, 1, $3, $3) ON CONFLICT (tenant, name) DO UPDATE SET \
             created_at = CASE WHEN rules.version IS NULL THEN excluded.created_at ELSE rules.created_at END, \
             version = rules.last_version + 1, last_version = rules.last_version + 1, \
             updated_at = excluded.updated_at RETURNING last_version",
        )
        .bind(tenant.as_str())
        .bind(rule.name.as_str())
        .bind(now.as_micros())
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO rule_versions (tenant, name, version, body, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tenant.as_str())
        .bind(rule.name.as_str())
        .bind(version)
        .bind(rule.body.as_str())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM rule_versions WHERE tenant = $1 AND name = $2 AND version <= $3")
            .bind(tenant.as_str())
            .bind(rule.name.as_str())
            .bind(version - stored(keep))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        let version = number(version)?;
        Ok(if known.is_some() {
            PutRule::Changed(version)
        } else {
            PutRule::Made(version)
        })
    }

    async fn rules(
        &self,
        tenant: &TenantId,
        after: Option<&RuleName>,
        limit: u32,
    ) -> Result<Vec<RuleRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<RuleColumns> = sqlx::query_as(
            "SELECT r.name, v.version, v.body, r.created_at, v.created_at FROM rules r JOIN rule_versions v \
             ON v.tenant = r.tenant AND v.name = r.name AND v.version = r.version \
             WHERE r.tenant = $1 AND r.name > $2 ORDER BY r.name LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after.map_or("", RuleName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(rule).collect()
    }

    async fn rule(
        &self,
        tenant: &TenantId,
        name: &RuleName,
        version: Option<u64>,
    ) -> Result<Option<RuleRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let row: Option<RuleColumns> = sqlx::query_as(
            "SELECT r.name, v.version, v.body, r.created_at, v.created_at FROM rules r JOIN rule_versions v \
             ON v.tenant = r.tenant AND v.name = r.name AND v.version = COALESCE($3, r.version) \
             WHERE r.tenant = $1 AND r.name = $2 AND r.version IS NOT NULL",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(version.map(stored))
        .fetch_optional(&mut *read)
        .await?;
        row.map(rule).transpose()
    }

    async fn rule_versions(
        &self,
        tenant: &TenantId,
        name: &RuleName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RuleRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<RuleColumns> = sqlx::query_as(
            "SELECT r.name, v.version, v.body, r.created_at, v.created_at FROM rules r JOIN rule_versions v \
             ON v.tenant = r.tenant AND v.name = r.name AND v.version < $3 \
             WHERE r.tenant = $1 AND r.name = $2 AND r.version IS NOT NULL ORDER BY v.version DESC LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(before.map_or(i64::MAX, stored))
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(rule).collect()
    }

    async fn delete_rule(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        name: &RuleName,
    ) -> Result<bool, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let deleted = sqlx::query(
            "UPDATE rules SET version = NULL, updated_at = $3 \
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

    async fn rules_revision(&self, tenant: &TenantId) -> Result<Revision, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let row: RevisionColumns = sqlx::query_as(
            "SELECT COALESCE(SUM(last_version), 0)::bigint, COUNT(version), COALESCE(MAX(updated_at), 0) \
             FROM rules WHERE tenant = $1",
        )
        .bind(tenant.as_str())
        .fetch_one(&mut *read)
        .await?;
        revision(row)
    }

    async fn rule_errors(
        &self,
        tenant: &TenantId,
        name: &RuleName,
        limit: u32,
    ) -> Result<Vec<RuleErrorRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<RuleErrorColumns> = sqlx::query_as(
            "SELECT event, version, reason, at FROM rule_errors WHERE tenant = $1 AND rule = $2 \
             ORDER BY event DESC LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(rule_error).collect()
    }
}
