use std::collections::HashSet;

use async_trait::async_trait;
use carillon_domain::{Category, ChannelKind, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::PgConnection;

use super::{PostgresStore, column::column, plan::mailboxes};
use crate::store::{
    policy::{self, AlertRow, ChoicesOf, PolicyStore, PreferenceChanges, PreferenceRow, PreferencesWritten},
    records::UserKey,
    rows::stored,
};

#[async_trait]
impl PolicyStore for PostgresStore {
    async fn preferences(&self, tenant: &TenantId, user: UserId) -> Result<Vec<PreferenceRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
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
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        if !turn(&mut tx, &self.epoch, tenant, user).await? {
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
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let row: Option<(String,)> =
            sqlx::query_as("SELECT body FROM user_policies WHERE tenant = $1 AND user_id = $2")
                .bind(tenant.as_str())
                .bind(user.to_string())
                .fetch_optional(&mut *read)
                .await?;
        Ok(row.map(|(body,)| body))
    }

    async fn has_user_policies(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
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
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        if !turn(&mut tx, &self.epoch, tenant, user).await? {
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
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
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
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
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
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
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
        let mut tx = self.postgres.begin(TenantScope::new(&alert.tenant)).await?;
        let key = (alert.tenant.clone(), alert.user);
        mailboxes(&mut tx, &self.epoch, &HashSet::from([key.clone()])).await?;
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

/// Takes the user's turn; answers whether the user was not erased.
async fn turn(
    tx: &mut PgConnection,
    epoch: &str,
    tenant: &TenantId,
    user: UserId,
) -> Result<bool, StoreError> {
    mailboxes(tx, epoch, &HashSet::from([(tenant.clone(), user)])).await?;
    let erased: Option<(i64,)> = sqlx::query_as("SELECT at FROM erased WHERE tenant = $1 AND user_id = $2")
        .bind(tenant.as_str())
        .bind(user.to_string())
        .fetch_optional(tx)
        .await?;
    Ok(erased.is_none())
}

/// What the user is held from is decided anew, by what he wants now. A look that is under way changes nothing then.
pub(super) async fn wake_held(
    tx: &mut PgConnection,
    now: Timestamp,
    tenant: &str,
    user: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE climbs c SET due_at = LEAST(c.due_at, $3), lease = c.lease + 1 FROM (SELECT c.tenant, c.notification, \
         c.user_id FROM climbs c JOIN recipients r ON r.tenant = c.tenant AND r.notification = c.notification \
         AND r.user_id = c.user_id AND r.phase = 'held' WHERE c.tenant = $1 AND c.user_id = $2 \
         ORDER BY c.notification FOR UPDATE OF c) h WHERE c.tenant = h.tenant AND c.notification = h.notification \
         AND c.user_id = h.user_id",
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
    tx: &mut PgConnection,
    users: &[UserKey],
    since: Option<Timestamp>,
) -> Result<ChoicesOf, StoreError> {
    if users.is_empty() {
        return Ok(ChoicesOf::new());
    }
    let tenants = column!(users, (tenant, _) => tenant.as_str());
    let ids = column!(users, (_, user) => user.to_string());
    let preferences: Vec<policy::PreferenceOfColumns> = sqlx::query_as(
        "SELECT p.tenant, p.user_id, p.category, p.channel, p.enabled, p.digest, p.at \
         FROM UNNEST($1::text[], $2::text[]) AS j(tenant, user_id) JOIN preferences p \
         ON p.tenant = j.tenant AND p.user_id = j.user_id",
    )
    .bind(&tenants)
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    let policies: Vec<policy::PolicyOfColumns> = sqlx::query_as(
        "SELECT p.tenant, p.user_id, p.body FROM UNNEST($1::text[], $2::text[]) AS j(tenant, user_id) \
         JOIN user_policies p ON p.tenant = j.tenant AND p.user_id = j.user_id",
    )
    .bind(&tenants)
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    let mut alerts: Vec<policy::AlertOfColumns> = Vec::new();
    if let Some(since) = since {
        alerts = sqlx::query_as(
            "SELECT a.tenant, a.user_id, a.at FROM UNNEST($1::text[], $2::text[]) AS j(tenant, user_id) \
             JOIN alerts a ON a.tenant = j.tenant AND a.user_id = j.user_id AND a.at > $3",
        )
        .bind(&tenants)
        .bind(&ids)
        .bind(since.as_micros())
        .fetch_all(&mut *tx)
        .await?;
    }
    policy::choices(preferences, policies, alerts)
}

/// Notes alerts that count against the caps.
pub(super) async fn write_alerts(tx: &mut PgConnection, alerts: &[AlertRow]) -> Result<(), StoreError> {
    if alerts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO alerts (tenant, user_id, at, notification, category) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(column!(alerts, row => row.tenant.as_str()))
    .bind(column!(alerts, row => row.user.to_string()))
    .bind(column!(alerts, row => row.at.as_micros()))
    .bind(column!(alerts, row => row.notification.to_string()))
    .bind(column!(alerts, row => row.category.as_str()))
    .execute(tx)
    .await?;
    Ok(())
}
