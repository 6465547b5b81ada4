use std::collections::HashMap;

use async_trait::async_trait;
use carillon_domain::{
    Address, ChannelKind, DeviceId, ExternalUserId, TenantId, Timestamp, UserId, ports::Profile,
};
use carillon_sql::{StoreError, TenantScope, together};

use super::{SqliteStore, json};
use crate::{
    device::{self, Device, DeviceChange, DeviceError, Retired, Written, replace},
    profiles::Change,
    store::{
        UserRecord, UserRow,
        devices::{
            DevicePut, DeviceRow, DeviceStore, MOVED, PURGE_BATCH, SentRow, device as stored, join, sent,
            to_json,
        },
        user_record,
    },
    verification::{MAX_TRIES, NewCode, SendCodeError, another},
};

#[async_trait]
impl DeviceStore for SqliteStore {
    async fn put_profile(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        new: UserId,
        change: &Change,
        now: Timestamp,
    ) -> Result<Result<(UserRecord, Vec<Device>), DeviceError>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        // Locks the user's row, against an erasure and another change.
        let row: UserRow = sqlx::query_as(
            "INSERT INTO users (tenant, external, id, created_at, locale, timezone, attributes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, external) DO UPDATE \
             SET locale = CASE WHEN $8 THEN excluded.locale ELSE users.locale END, \
              timezone = CASE WHEN $9 THEN excluded.timezone ELSE users.timezone END, \
              attributes = CASE WHEN $10 THEN excluded.attributes ELSE users.attributes END \
             RETURNING id, created_at, locale, timezone, attributes, 0",
        )
        .bind(tenant.as_str())
        .bind(user.as_str())
        .bind(new.to_string())
        .bind(now.as_micros())
        .bind(change.locale.as_ref().and_then(Option::as_deref))
        .bind(change.timezone.as_ref().and_then(Option::as_deref))
        .bind(change.attributes.as_ref().and_then(Option::as_deref))
        .bind(change.locale.is_some())
        .bind(change.timezone.is_some())
        .bind(change.attributes.is_some())
        .fetch_one(&mut *tx)
        .await?;
        let user = user_record(row)?;
        let mut devices = read_devices(&mut tx, tenant, user.id).await?;
        if let Some(wanted) = &change.devices {
            let written = match replace(&devices, wanted, now) {
                Ok(written) => written,
                Err(refusal) => return Ok(Err(refusal)),
            };
            write_devices(&mut tx, tenant, user.id, &written).await?;
            devices.retain(|device| {
                !written.gone.contains(&device.id) && written.devices.iter().all(|new| new.id != device.id)
            });
            devices.splice(..0, written.devices);
        }
        tx.commit().await?;
        Ok(Ok((user, devices)))
    }

    async fn put_device(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        new: UserId,
        change: &DeviceChange,
        now: Timestamp,
    ) -> Result<Result<DevicePut, DeviceError>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        // Locks the user's row, against an erasure and another change.
        let (id,): (String,) = sqlx::query_as(
            "INSERT INTO users (tenant, external, id, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant, external) DO UPDATE SET external = excluded.external RETURNING id",
        )
        .bind(tenant.as_str())
        .bind(user.as_str())
        .bind(new.to_string())
        .bind(now.as_micros())
        .fetch_one(&mut *tx)
        .await?;
        let user = crate::store::user_id(&id)?;
        let known = read_devices(&mut tx, tenant, user).await?;
        let mut written = match device::change(&known, change, now) {
            Ok(written) => written,
            Err(refusal) => return Ok(Err(refusal)),
        };
        write_devices(&mut tx, tenant, user, &written).await?;
        let device = written.devices.remove(0);
        let mut moved: Vec<(String,)> = Vec::new();
        if let Some(to) = device.to.as_ref().filter(|_| device.kind.has_one_owner()) {
            // What somebody confirmed is taken from him only when the tenant says so.
            moved = sqlx::query_as(
                "UPDATE devices SET reason = $5, retired_at = $6, updated_at = $6, code = NULL, code_expires_at = NULL \
                 WHERE tenant = $1 AND channel = $2 AND address = $3 AND user_id <> $4 AND retired_at IS NULL \
                  AND kind IN ('browser', 'app', 'phone') AND (verified = 0 OR $7) RETURNING user_id",
            )
            .bind(tenant.as_str())
            .bind(to.channel.as_str())
            .bind(to.to.as_str())
            .bind(&id)
            .bind(MOVED)
            .bind(now.as_micros())
            .bind(change.vouched)
            .fetch_all(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        let moved_from = moved.iter().map(|(user,)| crate::store::user_id(user));
        Ok(Ok(DevicePut {
            user,
            device,
            made: written.made,
            moved_from: moved_from.collect::<Result<_, _>>()?,
        }))
    }

    async fn retire_device(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        retired: &Retired,
    ) -> Result<bool, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        // One that is retired keeps its reason and its time.
        let known = sqlx::query(
            "UPDATE devices SET reason = COALESCE(reason, $4), updated_at = COALESCE(retired_at, $5), \
              retired_at = COALESCE(retired_at, $5), code = NULL, code_expires_at = NULL \
             WHERE tenant = $1 AND user_id = $2 AND id = $3",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.to_string())
        .bind(&retired.reason)
        .bind(retired.at.as_micros())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(known == 1)
    }

    async fn devices(&self, tenant: &TenantId, user: UserId) -> Result<Vec<Device>, StoreError> {
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        read_devices(&mut read, tenant, user).await
    }

    async fn profiles(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<HashMap<UserId, Profile>, StoreError> {
        let users = json(&users)?;
        let mut read = self.0.read(TenantScope::new(tenant)).await?;
        let people = sqlx::query_as(
            "SELECT json_group_array(json_array(u.id, u.locale, u.timezone, u.attributes)) FROM json_each($2) j \
             CROSS JOIN users u ON u.tenant = $1 AND u.id = j.value",
        )
        .bind(tenant.as_str())
        .bind(&users)
        .fetch_one(&mut *read)
        .await?;
        let devices = sqlx::query_as(
            "SELECT json_group_array(json_array(user_id, id, channel, address, verified, kind, platform, locale) \
             ORDER BY id) FROM devices \
             WHERE tenant = $1 AND user_id IN (SELECT value FROM json_each($2)) AND retired_at IS NULL \
             AND address IS NOT NULL",
        )
        .bind(tenant.as_str())
        .bind(users)
        .fetch_one(&mut *read)
        .await?;
        join(together(people)?, together(devices)?)
    }

    async fn retire(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        retired: &Retired,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let rows: Vec<(String,)> = sqlx::query_as(
            "UPDATE devices SET reason = $4, retired_at = $5, updated_at = $5, code = NULL, code_expires_at = NULL \
             WHERE tenant = $1 AND channel = $2 AND address = $3 AND retired_at IS NULL RETURNING user_id",
        )
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .bind(address.as_str())
        .bind(&retired.reason)
        .bind(retired.at.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        rows.iter().map(|(user,)| crate::store::user_id(user)).collect()
    }

    async fn begin_code(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        code: &NewCode,
    ) -> Result<Result<(Option<String>, Device), SendCodeError>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let sent_before: Option<SentRow> = sqlx::query_as(
            "SELECT code_sent_at, codes, codes_since FROM devices \
             WHERE tenant = $1 AND user_id = $2 AND id = $3",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let known = read_devices(&mut tx, tenant, user).await?;
        let known = known.into_iter().find(|known| known.id == device);
        let (Some(sent_before), Some(known)) = (sent_before, known) else {
            return Ok(Err(SendCodeError::NotFound));
        };
        let sent = match another(&known, sent(sent_before), code.now) {
            Ok(sent) => sent,
            Err(refusal) => return Ok(Err(refusal)),
        };
        sqlx::query(
            "UPDATE devices SET code = $4, code_expires_at = $5, tries = 0, code_sent_at = $6, codes = $7, \
             codes_since = $8 WHERE tenant = $1 AND user_id = $2 AND id = $3",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.to_string())
        .bind(&code.tag[..])
        .bind(code.expires_at.as_micros())
        .bind(sent.last.map(Timestamp::as_micros))
        .bind(sent.codes)
        .bind(sent.since.map(Timestamp::as_micros))
        .execute(&mut *tx)
        .await?;
        let locale: Option<(Option<String>,)> =
            sqlx::query_as("SELECT locale FROM users WHERE tenant = $1 AND id = $2")
                .bind(tenant.as_str())
                .bind(user.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        tx.commit().await?;
        Ok(Ok((locale.and_then(|(locale,)| locale), known)))
    }

    async fn drop_code(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        tag: &[u8; 32],
    ) -> Result<(), StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        sqlx::query(
            "UPDATE devices SET code = NULL, code_expires_at = NULL, code_sent_at = NULL, codes = codes - 1 \
             WHERE tenant = $1 AND user_id = $2 AND id = $3 AND code = $4",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.to_string())
        .bind(&tag[..])
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn take_try(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let waiting: Option<(Vec<u8>,)> = sqlx::query_as(
            "UPDATE devices SET tries = tries + 1 WHERE tenant = $1 AND user_id = $2 AND id = $3 \
             AND code IS NOT NULL AND code_expires_at > $4 AND tries < $5 RETURNING code",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.to_string())
        .bind(now.as_micros())
        .bind(MAX_TRIES)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some((tag,)) = waiting {
            tx.commit().await?;
            return Ok(Some(Some(tag)));
        }
        let known: Option<(String,)> =
            sqlx::query_as("SELECT id FROM devices WHERE tenant = $1 AND user_id = $2 AND id = $3")
                .bind(tenant.as_str())
                .bind(user.to_string())
                .bind(device.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        Ok(known.map(|_| None))
    }

    async fn verify(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        tag: &[u8],
    ) -> Result<bool, StoreError> {
        let mut tx = self.0.begin(TenantScope::new(tenant)).await?;
        let verified = sqlx::query(
            "UPDATE devices SET verified = 1, code = NULL, code_expires_at = NULL \
             WHERE tenant = $1 AND user_id = $2 AND id = $3 AND code = $4",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.to_string())
        .bind(tag)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(verified == 1)
    }

    async fn purge_devices(&self, now: Timestamp, retired_before: Timestamp) -> Result<i64, StoreError> {
        const WHY: &str = "what is over goes, whoever's it is";
        // Asked first: mostly there is nothing, and a write would cost a sync.
        let mut read = self.0.read_system(WHY).await?;
        let over: Option<(String,)> = sqlx::query_as(
            "SELECT id FROM devices WHERE retired_at < $1 \
             UNION ALL SELECT id FROM devices WHERE code IS NOT NULL AND code_expires_at <= $2 LIMIT 1",
        )
        .bind(retired_before.as_micros())
        .bind(now.as_micros())
        .fetch_optional(&mut *read)
        .await?;
        drop(read);
        if over.is_none() {
            return Ok(0);
        }
        let mut tx = self.0.begin_system(WHY).await?;
        let mut most = 0;
        for (statement, before) in [
            (
                "DELETE FROM devices WHERE (tenant, user_id, id) IN \
                 (SELECT tenant, user_id, id FROM devices WHERE retired_at < $1 LIMIT $2) AND retired_at < $1",
                retired_before,
            ),
            (
                "UPDATE devices SET code = NULL, code_expires_at = NULL WHERE (tenant, user_id, id) IN \
                 (SELECT tenant, user_id, id FROM devices WHERE code IS NOT NULL AND code_expires_at <= $1 LIMIT $2) \
                 AND code_expires_at <= $1",
                now,
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

async fn read_devices(
    connection: &mut sqlx::SqliteConnection,
    tenant: &TenantId,
    user: UserId,
) -> Result<Vec<Device>, StoreError> {
    let rows: Vec<DeviceRow> = sqlx::query_as(
        "SELECT id, channel, address, label, verified, reason, retired_at, created_at, name, kind, platform, locale, \
          app_version, updated_at \
         FROM devices WHERE tenant = $1 AND user_id = $2 ORDER BY id",
    )
    .bind(tenant.as_str())
    .bind(user.to_string())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(stored).collect()
}

/// Removes what goes, then writes the others; under the lock of the user's row.
async fn write_devices(
    connection: &mut sqlx::SqliteConnection,
    tenant: &TenantId,
    user: UserId,
    written: &Written,
) -> Result<(), StoreError> {
    if !written.gone.is_empty() {
        sqlx::query(
            "DELETE FROM devices WHERE tenant = $1 AND user_id = $2 AND id IN (SELECT value FROM json_each($3))",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(json(&written.gone)?)
        .execute(&mut *connection)
        .await?;
    }
    // A code confirms the address that it was sent to.
    sqlx::query(
        "INSERT INTO devices (tenant, user_id, id, channel, address, label, verified, reason, retired_at, created_at, \
          name, kind, platform, locale, app_version, updated_at) \
         SELECT $1, $2, value ->> 'id', value ->> 'channel', value ->> 'address', value ->> 'label', \
          value ->> 'verified', value ->> 'reason', value ->> 'retired_at', value ->> 'created_at', value ->> 'name', \
          value ->> 'kind', value ->> 'platform', value ->> 'locale', value ->> 'app_version', value ->> 'updated_at' \
         FROM json_each($3) WHERE TRUE \
         ON CONFLICT (tenant, user_id, id) DO UPDATE SET label = excluded.label, verified = excluded.verified, \
          reason = excluded.reason, retired_at = excluded.retired_at, name = excluded.name, kind = excluded.kind, \
          platform = excluded.platform, locale = excluded.locale, app_version = excluded.app_version, \
          updated_at = excluded.updated_at, \
          code = CASE WHEN devices.address = excluded.address AND devices.channel = excluded.channel \
           AND excluded.retired_at IS NULL THEN devices.code END, \
          channel = excluded.channel, address = excluded.address",
    )
    .bind(tenant.as_str())
    .bind(user.to_string())
    .bind(to_json(&written.devices)?)
    .execute(connection)
    .await?;
    Ok(())
}
