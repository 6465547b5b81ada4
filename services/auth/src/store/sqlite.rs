use async_trait::async_trait;
use carillon_domain::{KeyId, TenantId, Timestamp, UserId};
use carillon_sql::{Sqlite, SqliteRead, SqliteTransaction, StoreError, TenantScope};

use super::{
    KeyOwner, KeyRecord, KeyRow, PURGE_BATCH, RevocationRecord, RevocationRow, SessionRecord, SessionRow,
    SigningKeyRecord, SigningKeyRow, Store, WORKER_KEYS, key_id, key_record, revocation_record, scopes_text,
    session_record, signing_key_record, tenant_id,
};
use crate::digest::Digest;

pub(super) struct SqliteStore(pub(super) Sqlite);

impl SqliteStore {
    /// A transaction on the keys of one owner.
    async fn begin_keys(&self, owner: &KeyOwner) -> Result<SqliteTransaction, StoreError> {
        match owner {
            KeyOwner::Tenant(tenant) => self.0.begin(TenantScope::new(tenant)).await,
            KeyOwner::AllTenants => self.0.begin_system(WORKER_KEYS).await,
        }
    }

    /// As [`Self::begin_keys`], to read with.
    async fn read_keys(&self, owner: &KeyOwner) -> Result<SqliteRead, StoreError> {
        match owner {
            KeyOwner::Tenant(tenant) => self.0.read(TenantScope::new(tenant)).await,
            KeyOwner::AllTenants => self.0.read_system(WORKER_KEYS).await,
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ensure_tenant(&self, tenant: &TenantId, now: Timestamp) -> Result<(), StoreError> {
        // Asked first: at every start but one there is nothing to write, and a write costs a sync.
        if self.tenant_exists(tenant).await? {
            return Ok(());
        }
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        make_tenant(&mut tx, tenant, now).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn tenant_exists(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let row: Option<(i64,)> = sqlx::query_as("SELECT created_at FROM tenants WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_optional(&mut *read)
            .await?;
        Ok(row.is_some())
    }

    async fn create_key(&self, owner: &KeyOwner, key: &KeyRecord, limit: i64) -> Result<bool, StoreError> {
        let mut tx = self.begin_keys(owner).await?;
        if let KeyOwner::Tenant(tenant) = owner {
            make_tenant(&mut tx, tenant, key.created_at).await?;
        }
        let made = sqlx::query(
            "INSERT INTO api_keys (tenant, id, name, digest, scopes, created_at) \
             SELECT $1, $2, $3, $4, $5, $6 \
             WHERE (SELECT COUNT(*) FROM api_keys WHERE tenant = $1 AND revoked_at IS NULL) < $7",
        )
        .bind(owner.as_str())
        .bind(key.id.to_string())
        .bind(&key.name)
        .bind(&key.digest[..])
        .bind(scopes_text(&key.scopes))
        .bind(key.created_at.as_micros())
        .bind(limit)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(made == 1)
    }

    async fn key(&self, owner: &KeyOwner, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let mut read = self.read_keys(owner).await?;
        let row: Option<KeyRow> = sqlx::query_as(
            "SELECT id, name, digest, scopes, created_at, last_used_at, revoked_at \
             FROM api_keys WHERE tenant = $1 AND id = $2",
        )
        .bind(owner.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *read)
        .await?;
        row.map(key_record).transpose()
    }

    async fn keys(
        &self,
        owner: &KeyOwner,
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<KeyRecord>, StoreError> {
        let mut read = self.read_keys(owner).await?;
        let rows: Vec<KeyRow> = sqlx::query_as(
            "SELECT id, name, digest, scopes, created_at, last_used_at, revoked_at \
             FROM api_keys WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(owner.as_str())
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(key_record).collect()
    }

    async fn revoke_key(&self, owner: &KeyOwner, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.begin_keys(owner).await?;
        let found = sqlx::query(
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE tenant = $1 AND id = $2",
        )
        .bind(owner.as_str())
        .bind(id.to_string())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(found == 1)
    }

    async fn touch_keys(&self, used: &[(KeyOwner, KeyId, Timestamp)]) -> Result<(), StoreError> {
        let used: Vec<_> = used
            .iter()
            .map(|(owner, id, at)| (owner.as_str(), id, at.as_micros()))
            .collect();
        let used = serde_json::to_string(&used).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let mut tx = self
            .0
            .begin_system("keys of many tenants were used since the last time")
            .await?;
        sqlx::query(
            "UPDATE api_keys SET last_used_at = used.value ->> 2 FROM json_each($1) AS used \
             WHERE api_keys.tenant = used.value ->> 0 AND api_keys.id = used.value ->> 1 \
               AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at < used.value ->> 2)",
        )
        .bind(used)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn keys_revoked_since(&self, since: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        let mut read = self
            .0
            .read_system("a cache of all tenants' keys forgets the revoked ones")
            .await?;
        let rows: Vec<(String,)> = sqlx::query_as("SELECT id FROM api_keys WHERE revoked_at >= $1")
            .bind(since.as_micros())
            .fetch_all(&mut *read)
            .await?;
        rows.iter().map(|(id,)| key_id(id)).collect()
    }

    async fn signing_keys(&self, tenant: &TenantId) -> Result<Vec<SigningKeyRecord>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let rows: Vec<SigningKeyRow> = sqlx::query_as(
            "SELECT tenant, generation, kid, public, wrapped, master_key, active_from, created_at \
             FROM signing_keys WHERE tenant = $1 ORDER BY generation",
        )
        .bind(tenant.as_str())
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(signing_key_record).collect()
    }

    async fn add_signing_key(&self, key: &SigningKeyRecord) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(&key.tenant)).await?;
        make_tenant(&mut tx, &key.tenant, key.created_at).await?;
        sqlx::query(
            "INSERT INTO signing_keys \
             (tenant, generation, kid, public, wrapped, master_key, active_from, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant, generation) DO NOTHING",
        )
        .bind(key.tenant.as_str())
        .bind(key.generation)
        .bind(&key.kid)
        .bind(&key.public)
        .bind(&key.wrapped)
        .bind(&key.master_key)
        .bind(key.active_from.as_micros())
        .bind(key.created_at.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn signing_keys_older_than(&self, before: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        let mut read = self.0.read_system("every tenant's keys rotate").await?;
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT tenant FROM signing_keys GROUP BY tenant HAVING MAX(active_from) <= $1 LIMIT $2",
        )
        .bind(before.as_micros())
        .bind(PURGE_BATCH)
        .fetch_all(&mut *read)
        .await?;
        rows.iter().map(|(tenant,)| tenant_id(tenant)).collect()
    }

    async fn wrapped_by_others(
        &self,
        current: &str,
        limit: i64,
    ) -> Result<Vec<SigningKeyRecord>, StoreError> {
        let mut read = self
            .0
            .read_system("the master key wraps every tenant's keys")
            .await?;
        let rows: Vec<SigningKeyRow> = sqlx::query_as(
            "SELECT tenant, generation, kid, public, wrapped, master_key, active_from, created_at \
             FROM signing_keys WHERE master_key <> $1 LIMIT $2",
        )
        .bind(current)
        .bind(limit)
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(signing_key_record).collect()
    }

    async fn rewrap(&self, key: &SigningKeyRecord, previous: &str) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(&key.tenant)).await?;
        sqlx::query(
            "UPDATE signing_keys SET wrapped = $3, master_key = $4 \
             WHERE tenant = $1 AND generation = $2 AND master_key = $5",
        )
        .bind(key.tenant.as_str())
        .bind(key.generation)
        .bind(&key.wrapped)
        .bind(&key.master_key)
        .bind(previous)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn add_ticket(
        &self,
        tenant: &TenantId,
        ticket: &SessionRecord,
        cookie_expires_at: Timestamp,
        limit: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "INSERT INTO tickets (tenant, digest, user_id, session, created_at, expires_at, cookie_expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(tenant.as_str())
        .bind(&ticket.digest[..])
        .bind(ticket.user.to_string())
        .bind(&ticket.session)
        .bind(ticket.created_at.as_micros())
        .bind(ticket.expires_at.as_micros())
        .bind(cookie_expires_at.as_micros())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM tickets WHERE tenant = $1 AND user_id = $2 AND digest NOT IN \
             (SELECT digest FROM tickets WHERE tenant = $1 AND user_id = $2 \
              ORDER BY created_at DESC, digest LIMIT $3)",
        )
        .bind(tenant.as_str())
        .bind(ticket.user.to_string())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn trade_ticket(
        &self,
        tenant: &TenantId,
        ticket: &Digest,
        cookie: &Digest,
        now: Timestamp,
        limit: i64,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let row: Option<(String, String, i64)> = sqlx::query_as(
            "DELETE FROM tickets WHERE tenant = $1 AND digest = $2 AND expires_at > $3 \
             RETURNING user_id, session, cookie_expires_at",
        )
        .bind(tenant.as_str())
        .bind(&ticket[..])
        .bind(now.as_micros())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((user, session, expires_at)) = row else {
            return Ok(None);
        };
        let row = (cookie.to_vec(), user, session, now.as_micros(), expires_at);
        let record = session_record(row)?;
        keep_cookie(&mut tx, tenant, &record, limit).await?;
        tx.commit().await?;
        Ok(Some(record))
    }

    async fn add_cookie(
        &self,
        tenant: &TenantId,
        cookie: &SessionRecord,
        limit: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        keep_cookie(&mut tx, tenant, cookie, limit).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn cookie(&self, tenant: &TenantId, cookie: &Digest) -> Result<Option<SessionRecord>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let row: Option<SessionRow> = sqlx::query_as(
            "SELECT digest, user_id, session, created_at, expires_at \
             FROM stream_cookies WHERE tenant = $1 AND digest = $2",
        )
        .bind(tenant.as_str())
        .bind(&cookie[..])
        .fetch_optional(&mut *read)
        .await?;
        row.map(session_record).transpose()
    }

    async fn revoke(
        &self,
        tenant: &TenantId,
        revocations: &[RevocationRecord],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        for revocation in revocations {
            keep_revocation(&mut tx, tenant, revocation, now).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn revocations_since(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<RevocationRecord>, StoreError> {
        let mut read = self
            .0
            .read_system("the index of revocations covers all tenants")
            .await?;
        let rows: Vec<RevocationRow> = sqlx::query_as(
            "SELECT digest, revoked_at, expires_at FROM revocations \
             WHERE recorded_at >= $1 AND expires_at > $2",
        )
        .bind(since.as_micros())
        .bind(now.as_micros())
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(revocation_record).collect()
    }

    async fn erase(
        &self,
        tenant: &TenantId,
        user: UserId,
        revocation: &RevocationRecord,
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        for statement in [
            "DELETE FROM tickets WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM stream_cookies WHERE tenant = $1 AND user_id = $2",
        ] {
            sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(user.to_string())
                .execute(&mut *tx)
                .await?;
        }
        let first = sqlx::query(
            "INSERT INTO erasures (tenant, user_id, erased_at, expires_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant, user_id) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(revocation.revoked_at.as_micros())
        .bind(revocation.expires_at.as_micros())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if first == 1 {
            keep_revocation(&mut tx, tenant, revocation, revocation.revoked_at).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn purge(
        &self,
        now: Timestamp,
        keys_before: Timestamp,
        retired_before: Timestamp,
    ) -> Result<i64, StoreError> {
        let mut tx = self.0.begin_system("what is over goes, whoever's it is").await?;
        let mut most = 0;
        for (statement, before) in [
            (
                "DELETE FROM tickets WHERE (tenant, digest) IN \
                 (SELECT tenant, digest FROM tickets WHERE expires_at <= $1 LIMIT $2)",
                now,
            ),
            (
                "DELETE FROM stream_cookies WHERE (tenant, digest) IN \
                 (SELECT tenant, digest FROM stream_cookies WHERE expires_at <= $1 LIMIT $2)",
                now,
            ),
            (
                "DELETE FROM revocations WHERE (tenant, digest) IN \
                 (SELECT tenant, digest FROM revocations WHERE expires_at <= $1 LIMIT $2)",
                now,
            ),
            (
                "DELETE FROM erasures WHERE (tenant, user_id) IN \
                 (SELECT tenant, user_id FROM erasures WHERE expires_at <= $1 LIMIT $2)",
                now,
            ),
            (
                "DELETE FROM api_keys WHERE (tenant, id) IN \
                 (SELECT tenant, id FROM api_keys WHERE revoked_at <= $1 LIMIT $2)",
                keys_before,
            ),
            (
                "DELETE FROM signing_keys WHERE (tenant, generation) IN \
                 (SELECT retired.tenant, retired.generation FROM signing_keys AS retired \
                  JOIN signing_keys AS successor ON successor.tenant = retired.tenant \
                   AND successor.generation > retired.generation AND successor.active_from <= $1 LIMIT $2)",
                retired_before,
            ),
        ] {
            let gone = sqlx::query(statement)
                .bind(before.as_micros())
                .bind(PURGE_BATCH)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            most = most.max(i64::try_from(gone).unwrap_or(i64::MAX));
        }
        tx.commit().await?;
        Ok(most)
    }
}

async fn make_tenant(
    tx: &mut SqliteTransaction,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO tenants (tenant, created_at) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING")
        .bind(tenant.as_str())
        .bind(now.as_micros())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn keep_cookie(
    tx: &mut SqliteTransaction,
    tenant: &TenantId,
    cookie: &SessionRecord,
    limit: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO stream_cookies (tenant, digest, user_id, session, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant.as_str())
    .bind(&cookie.digest[..])
    .bind(cookie.user.to_string())
    .bind(&cookie.session)
    .bind(cookie.created_at.as_micros())
    .bind(cookie.expires_at.as_micros())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM stream_cookies WHERE tenant = $1 AND user_id = $2 AND digest NOT IN \
         (SELECT digest FROM stream_cookies WHERE tenant = $1 AND user_id = $2 \
          ORDER BY created_at DESC, digest LIMIT $3)",
    )
    .bind(tenant.as_str())
    .bind(cookie.user.to_string())
    .bind(limit)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn keep_revocation(
    tx: &mut SqliteTransaction,
    tenant: &TenantId,
    revocation: &RevocationRecord,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revocations (tenant, digest, revoked_at, expires_at, recorded_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant, digest) DO UPDATE SET \
         revoked_at = MAX(revocations.revoked_at, excluded.revoked_at), \
         expires_at = MAX(revocations.expires_at, excluded.expires_at), recorded_at = excluded.recorded_at",
    )
    .bind(tenant.as_str())
    .bind(revocation.what.as_bytes())
    .bind(revocation.revoked_at.as_micros())
    .bind(revocation.expires_at.as_micros())
    .bind(now.as_micros())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
