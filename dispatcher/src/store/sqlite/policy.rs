use async_trait::async_trait;
use carillon_domain::{Category, ChannelKind, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope, together};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    SqliteStore,
    keys::{USERS, json_list, users as user_list},
};
use crate::store::{
    policy::{self, AlertRow, ChoicesOf, PolicyStore, PreferenceChanges, PreferenceRow, PreferencesWritten},
    records::UserKey,
    rows::stored,
};

#[async_trait]
impl PolicyStore for SqliteStore {
    async fn preferences(&self, tenant: &TenantId, user: UserId) -> Result<Vec<PreferenceRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let rows: Vec<policy::PreferenceColumns> = sqlx::query_as(
            "SELECT category, channel, enabled, digest, at FROM preferences \
             WHERE tenant = $1 AND user_id = $2 ORDER BY category, channel",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(policy::preference).collect()
    }

    async fn change_preferences(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        user: UserId,
        changes: &PreferenceChanges,
        most: u64,
    ) -> Result<PreferencesWritten, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        if !turn(&mut tx, tenant, user).await? {
            return Ok(PreferencesWritten::Erased);
        }
        let user = user.to_string();
        if changes.whole {
            sqlx::query("DELETE FROM preferences WHERE tenant = $1 AND user_id = $2")
                .bind(tenant.as_str())
                .bind(&user)
                .execute(&mut *tx)
                .await?;
        }
        for change in &changes.changes {
            let category = change.category.as_ref().map_or("", Category::as_str);
            let channel = change.channel.as_ref().map_or("", ChannelKind::as_str);
            let query = match &change.to {
                Some(chosen) => sqlx::query(
                    "INSERT INTO preferences (tenant, user_id, category, channel, enabled, digest, at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, user_id, category, channel) \
                     DO UPDATE SET enabled = excluded.enabled, digest = excluded.digest, at = excluded.at",
                )
                .bind(tenant.as_str())
                .bind(&user)
                .bind(category)
                .bind(channel)
                .bind(chosen.enabled.map(i64::from))
                .bind(chosen.digest.as_deref())
                .bind(now.as_micros()),
                None => sqlx::query(
                    "DELETE FROM preferences WHERE tenant = $1 AND user_id = $2 AND category = $3 AND channel = $4",
                )
                .bind(tenant.as_str())
                .bind(&user)
                .bind(category)
                .bind(channel),
            };
            query.execute(&mut *tx).await?;
        }
        let (count,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM preferences WHERE tenant = $1 AND user_id = $2")
                .bind(tenant.as_str())
                .bind(&user)
                .fetch_one(&mut *tx)
                .await?;
        if count > stored(most) {
            return Ok(PreferencesWritten::TooMany);
        }
        wake_held(&mut tx, now, tenant.as_str(), &user).await?;
        tx.commit().await?;
        Ok(PreferencesWritten::Done)
    }

    async fn user_policy(&self, tenant: &TenantId, user: UserId) -> Result<Option<String>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let row: Option<(String,)> =
            sqlx::query_as("SELECT body FROM user_policies WHERE tenant = $1 AND user_id = $2")
                .bind(tenant.as_str())
                .bind(user.to_string())
                .fetch_optional(&mut *read)
                .await?;
        Ok(row.map(|(body,)| body))
    }

    async fn has_user_policies(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let any: Option<(String,)> =
            sqlx::query_as("SELECT user_id FROM user_policies WHERE tenant = $1 LIMIT 1")
                .bind(tenant.as_str())
                .fetch_optional(&mut *read)
                .await?;
        Ok(any.is_some())
    }

    async fn put_user_policy(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        user: UserId,
        body: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        if !turn(&mut tx, tenant, user).await? {
            return Ok(false);
        }
        let query = match body {
            Some(body) => sqlx::query(
                "INSERT INTO user_policies (tenant, user_id, body, updated_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (tenant, user_id) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
            )
            .bind(tenant.as_str())
            .bind(user.to_string())
            .bind(body)
            .bind(now.as_micros()),
            None => sqlx::query("DELETE FROM user_policies WHERE tenant = $1 AND user_id = $2")
                .bind(tenant.as_str())
                .bind(user.to_string()),
        };
        query.execute(&mut *tx).await?;
        wake_held(&mut tx, now, tenant.as_str(), &user.to_string()).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn tenant_policy(&self, tenant: &TenantId) -> Result<Option<String>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let row: Option<(String,)> = sqlx::query_as("SELECT body FROM tenant_policies WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_optional(&mut *read)
            .await?;
        Ok(row.map(|(body,)| body))
    }

    async fn put_tenant_policy(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        body: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "INSERT INTO tenant_policies (tenant, body, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
        )
        .bind(tenant.as_str())
        .bind(body)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    #[cfg(test)]
    async fn choices(
        &self,
        tenant: &TenantId,
        users: &[UserId],
        since: Timestamp,
    ) -> Result<Vec<policy::Choices>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let keys: Vec<UserKey> = users.iter().map(|user| (tenant.clone(), *user)).collect();
        let mut found = choices(&mut read, &keys, Some(since)).await?;
        Ok(keys
            .iter()
            .map(|key| found.remove(key).unwrap_or_default())
            .collect())
    }

    #[cfg(test)]
    async fn count_alert(
        &self,
        alert: &AlertRow,
        caps: &[carillon_policy::Cap],
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&alert.tenant)).await?;
        let key = (alert.tenant.clone(), alert.user);
        let mut found = choices(&mut tx, std::slice::from_ref(&key), Some(since)).await?;
        let taken = found.remove(&key).unwrap_or_default().alerts;
        let room = carillon_policy::full(caps, &taken, alert.at).is_none();
        if room {
            write_alerts(&mut tx, std::slice::from_ref(alert)).await?;
        }
        tx.commit().await?;
        Ok(room)
    }
}

/// Whether the user was not erased. Nobody else writes meanwhile.
async fn turn(tx: &mut SqliteConnection, tenant: &TenantId, user: UserId) -> Result<bool, StoreError> {
    let erased: Option<(i64,)> = sqlx::query_as("SELECT at FROM erased WHERE tenant = $1 AND user_id = $2")
        .bind(tenant.as_str())
        .bind(user.to_string())
        .fetch_optional(tx)
        .await?;
    Ok(erased.is_none())
}

/// What the user is held from is decided anew, by what he wants now. A look that is under way changes nothing then.
pub(super) async fn wake_held(
    tx: &mut SqliteConnection,
    now: Timestamp,
    tenant: &str,
    user: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE climbs SET due_at = MIN(due_at, $3), lease = lease + 1 WHERE tenant = $1 AND user_id = $2 \
         AND EXISTS (SELECT 1 FROM recipients r WHERE r.tenant = climbs.tenant \
         AND r.notification = climbs.notification AND r.user_id = climbs.user_id AND r.phase = 'held')",
    )
    .bind(tenant)
    .bind(user)
    .bind(now.as_micros())
    .execute(tx)
    .await?;
    Ok(())
}

/// What users chose, with their alerts since then, if those are asked for, as this transaction finds it.
pub(super) async fn choices(
    tx: &mut SqliteConnection,
    users: &[UserKey],
    since: Option<Timestamp>,
) -> Result<ChoicesOf, StoreError> {
    if users.is_empty() {
        return Ok(ChoicesOf::new());
    }
    let keys = user_list(users.iter())?;
    let preferences = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT json_group_array(json_array(p.tenant, p.user_id, p.category, p.channel, p.enabled, p.digest, p.at)) FROM {USERS} \
         CROSS JOIN preferences p ON p.tenant = t.key AND p.user_id = u.value",
    )))
    .bind(&keys)
    .fetch_one(&mut *tx)
    .await?;
    let policies = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT json_group_array(json_array(p.tenant, p.user_id, p.body)) FROM {USERS} \
         CROSS JOIN user_policies p ON p.tenant = t.key AND p.user_id = u.value",
    )))
    .bind(&keys)
    .fetch_one(&mut *tx)
    .await?;
    let mut alerts: Vec<policy::AlertOfColumns> = Vec::new();
    if let Some(since) = since {
        alerts = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT a.tenant, a.user_id, a.at FROM {USERS} \
             CROSS JOIN alerts a ON a.tenant = t.key AND a.user_id = u.value AND a.at > $2",
        )))
        .bind(&keys)
        .bind(since.as_micros())
        .fetch_all(&mut *tx)
        .await?;
    }
    policy::choices(together(preferences)?, together(policies)?, alerts)
}

/// Notes alerts that count against the caps.
pub(super) async fn write_alerts(tx: &mut SqliteConnection, alerts: &[AlertRow]) -> Result<(), StoreError> {
    if alerts.is_empty() {
        return Ok(());
    }
    let rows = json_list(alerts.iter().map(|row| {
        (
            row.tenant.as_str(),
            row.user,
            row.at.as_micros(),
            row.notification,
            row.category.as_str(),
        )
    }))?;
    sqlx::query(
        "INSERT INTO alerts (tenant, user_id, at, notification, category) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1) \
         WHERE true ON CONFLICT DO NOTHING",
    )
    .bind(rows)
    .execute(tx)
    .await?;
    Ok(())
}
