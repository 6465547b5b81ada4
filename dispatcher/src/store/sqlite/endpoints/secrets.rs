use carillon_domain::{EndpointId, SecretId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::SqliteStore;
use crate::store::{
    endpoints::{self, EndpointSecretColumns, SECRET, SecretAdded, SecretRemoved, SecretRow},
    rows::stored,
};

impl SqliteStore {
    pub(super) async fn add_secret(
        &self,
        now: Timestamp,
        secret: &SecretRow,
        until: Timestamp,
        most: u64,
    ) -> Result<SecretAdded, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&secret.tenant)).await?;
        let endpoint = secret.endpoint_text();
        if !is_there(&mut tx, &secret.tenant, &endpoint).await? {
            return Ok(SecretAdded::NotFound);
        }
        // What signs no longer goes.
        sqlx::query("DELETE FROM endpoint_secrets WHERE tenant = $1 AND endpoint = $2 AND expires_at <= $3")
            .bind(secret.tenant.as_str())
            .bind(endpoint.as_str())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
        let (known,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM endpoint_secrets WHERE tenant = $1 AND endpoint = $2")
                .bind(secret.tenant.as_str())
                .bind(endpoint.as_str())
                .fetch_one(&mut *tx)
                .await?;
        if known >= stored(most) {
            return Ok(SecretAdded::Full);
        }
        sqlx::query(
            "UPDATE endpoint_secrets SET expires_at = $3 WHERE tenant = $1 AND endpoint = $2 \
             AND (expires_at IS NULL OR expires_at > $3)",
        )
        .bind(secret.tenant.as_str())
        .bind(endpoint)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        insert(&mut tx, secret).await?;
        tx.commit().await?;
        Ok(SecretAdded::Done)
    }

    pub(super) async fn remove_secret(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        id: SecretId,
    ) -> Result<SecretRemoved, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let endpoint = endpoint.to_string();
        if !is_there(&mut tx, tenant, &endpoint).await? {
            return Ok(SecretRemoved::NotFound);
        }
        let (others,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM endpoint_secrets \
             WHERE tenant = $1 AND endpoint = $2 AND id <> $3 AND expires_at IS NULL",
        )
        .bind(tenant.as_str())
        .bind(endpoint.as_str())
        .bind(id.to_string())
        .fetch_one(&mut *tx)
        .await?;
        let removed =
            sqlx::query("DELETE FROM endpoint_secrets WHERE tenant = $1 AND endpoint = $2 AND id = $3")
                .bind(tenant.as_str())
                .bind(endpoint)
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?
                .rows_affected();
        if removed == 0 {
            return Ok(SecretRemoved::NotFound);
        }
        if others == 0 {
            return Ok(SecretRemoved::Last);
        }
        tx.commit().await?;
        Ok(SecretRemoved::Done)
    }

    pub(super) async fn tenant_secret(&self, new: &SecretRow) -> Result<SecretRow, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&new.tenant)).await?;
        let stands = match tenant_secret(&mut tx, &new.tenant).await? {
            Some(stands) => stands,
            None => {
                insert(&mut tx, new).await?;
                new.clone()
            }
        };
        tx.commit().await?;
        Ok(stands)
    }

    pub(super) async fn known_tenant_secret(
        &self,
        tenant: &TenantId,
    ) -> Result<Option<SecretRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        tenant_secret(&mut read, tenant).await
    }
}

/// Whether an endpoint is there.
async fn is_there(tx: &mut SqliteConnection, tenant: &TenantId, endpoint: &str) -> Result<bool, StoreError> {
    let found: Option<(String,)> =
        sqlx::query_as("SELECT id FROM endpoints WHERE tenant = $1 AND id = $2 AND state <> 'deleted'")
            .bind(tenant.as_str())
            .bind(endpoint)
            .fetch_optional(tx)
            .await?;
    Ok(found.is_some())
}

async fn tenant_secret(
    tx: &mut SqliteConnection,
    tenant: &TenantId,
) -> Result<Option<SecretRow>, StoreError> {
    let statement = format!(
        "SELECT {SECRET} FROM endpoint_secrets WHERE tenant = $1 AND endpoint = '' AND expires_at IS NULL \
         ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    let row: Option<EndpointSecretColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .fetch_optional(tx)
        .await?;
    row.map(endpoints::secret).transpose()
}

/// Those that still sign, newest first.
pub(super) async fn signing(
    tx: &mut SqliteConnection,
    now: Timestamp,
    tenant: &TenantId,
    endpoint: &str,
) -> Result<Vec<SecretRow>, StoreError> {
    let statement = format!(
        "SELECT {SECRET} FROM endpoint_secrets WHERE tenant = $1 AND endpoint = $2 \
         AND (expires_at IS NULL OR expires_at > $3) ORDER BY created_at DESC, id DESC"
    );
    let rows: Vec<EndpointSecretColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(endpoint)
        .bind(now.as_micros())
        .fetch_all(tx)
        .await?;
    rows.into_iter().map(endpoints::secret).collect()
}

pub(super) async fn insert(tx: &mut SqliteConnection, secret: &SecretRow) -> Result<(), StoreError> {
    let statement =
        format!("INSERT INTO endpoint_secrets ({SECRET}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
    sqlx::query(AssertSqlSafe(statement))
        .bind(secret.tenant.as_str())
        .bind(secret.endpoint_text())
        .bind(secret.id.to_string())
        .bind(secret.kind.as_str())
        .bind(secret.public.as_deref())
        .bind(secret.sealed.as_str())
        .bind(secret.created_at.as_micros())
        .bind(secret.expires_at.map(Timestamp::as_micros))
        .execute(tx)
        .await?;
    Ok(())
}
