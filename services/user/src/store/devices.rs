use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use carillon_domain::{
    Address, ChannelKind, DeviceId, DeviceKind, DeviceName, ExternalUserId, PlainAddress, TenantId,
    Timestamp, UserId,
    ports::{Profile, ProfileDevice},
};
use carillon_sql::StoreError;
use serde_json::{Map, Value};

use super::{UserRecord, corrupt, user_id};
use crate::{
    device::{Device, DeviceChange, DeviceError, Retired},
    profiles::Change,
    verification::{NewCode, SendCodeError, Sent},
};

/// How many rows one step of cleaning up removes: it holds the writer only briefly.
pub(crate) const PURGE_BATCH: i64 = 1_000;

/// What is kept of users' properties and devices. Each method is one transaction.
#[async_trait]
pub(crate) trait DeviceStore: Send + Sync + 'static {
    /// Changes a user, who is made under the id `new` on first mention; answers the user as he is then.
    async fn put_profile(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        new: UserId,
        change: &Change,
        now: Timestamp,
    ) -> Result<Result<(UserRecord, Vec<Device>), DeviceError>, StoreError>;

    /// Registers or changes a device of a user, who is made under the id `new` on first mention. Others' devices with the
    /// same address are retired where an address has one owner.
    async fn put_device(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        new: UserId,
        change: &DeviceChange,
        now: Timestamp,
    ) -> Result<Result<DevicePut, DeviceError>, StoreError>;

    /// Retires a device, if it is in use; `false` when there is no such device.
    async fn retire_device(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        retired: &Retired,
    ) -> Result<bool, StoreError>;

    /// A user's devices, retired ones as well, by id.
    async fn devices(&self, tenant: &TenantId, user: UserId) -> Result<Vec<Device>, StoreError>;

    /// What planning needs of those of `users` that exist; activity apart.
    async fn profiles(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<HashMap<UserId, Profile>, StoreError>;

    /// Retires an address wherever it is in use; answers whose it was.
    async fn retire(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        retired: &Retired,
    ) -> Result<Vec<UserId>, StoreError>;

    /// Keeps a code in the place of an earlier one, if the device may have it; answers the user's language and the device.
    async fn begin_code(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        code: &NewCode,
    ) -> Result<Result<(Option<String>, Device), SendCodeError>, StoreError>;

    /// Forgets a code that was never sent, and that it was begun.
    async fn drop_code(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        tag: &[u8; 32],
    ) -> Result<(), StoreError>;

    /// Counts an answer and gives the tag to compare it with; `Some(None)` when no code is waiting, `None` when there is no
    /// such device.
    async fn take_try(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Option<Option<Vec<u8>>>, StoreError>;

    /// Marks a device verified and uses up its code; `false` when the code is another one by now.
    async fn verify(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: DeviceId,
        tag: &[u8],
    ) -> Result<bool, StoreError>;

    /// Removes at most [`PURGE_BATCH`] devices that were retired before `retired_before`, and as many codes that are over
    /// at `now`. Answers the larger number.
    async fn purge_devices(&self, now: Timestamp, retired_before: Timestamp) -> Result<i64, StoreError>;
}

/// A device that was registered or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicePut {
    pub(crate) user: UserId,
    pub(crate) device: Device,
    /// Whether it is new.
    pub(crate) made: bool,
    /// Whose it was before.
    pub(crate) moved_from: Vec<UserId>,
}

/// Why somebody's device was retired whose address another user registered.
pub(super) const MOVED: &str = "registered for another user";

/// A device to be written, as JSON that both databases take apart.
#[derive(serde::Serialize)]
struct DeviceJson<'a> {
    id: DeviceId,
    channel: Option<&'a ChannelKind>,
    address: Option<&'a Address>,
    label: Option<&'a str>,
    verified: i64,
    reason: Option<&'a str>,
    retired_at: Option<i64>,
    created_at: i64,
    name: Option<&'a DeviceName>,
    kind: &'static str,
    platform: Option<&'a str>,
    locale: Option<&'a str>,
    app_version: Option<&'a str>,
    updated_at: i64,
}

/// The devices as a JSON list.
pub(super) fn to_json(devices: &[Device]) -> Result<String, StoreError> {
    let rows: Vec<_> = devices
        .iter()
        .map(|device| DeviceJson {
            id: device.id,
            channel: device.to.as_ref().map(|to| &to.channel),
            address: device.to.as_ref().map(|to| &to.to),
            label: device.label.as_deref(),
            verified: i64::from(device.verified),
            reason: device.retired.as_ref().map(|retired| retired.reason.as_str()),
            retired_at: device.retired.as_ref().map(|retired| retired.at.as_micros()),
            created_at: device.created_at.as_micros(),
            name: device.name.as_ref(),
            kind: device.kind.as_str(),
            platform: device.platform.as_deref(),
            locale: device.locale.as_deref(),
            app_version: device.app_version.as_deref(),
            updated_at: device.updated_at.as_micros(),
        })
        .collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// id, channel, address, label, verified, reason, retired_at, created_at, name, kind, platform, locale, app_version,
/// updated_at
pub(super) type DeviceRow = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    Option<String>,
    Option<i64>,
    i64,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
);

pub(super) fn device(row: DeviceRow) -> Result<Device, StoreError> {
    let (
        id,
        channel,
        address,
        label,
        verified,
        reason,
        retired_at,
        created_at,
        name,
        kind,
        platform,
        locale,
        version,
        at,
    ) = row;
    let to = match (channel, address) {
        (Some(channel), Some(address)) => Some(PlainAddress {
            channel: channel.parse().map_err(|_| corrupt("a device's channel"))?,
            to: address.parse().map_err(|_| corrupt("a device's address"))?,
        }),
        _ => None,
    };
    let name = name.map(|name| name.parse()).transpose();
    Ok(Device {
        id: id.parse().map_err(|_| corrupt("a device's id"))?,
        to,
        name: name.map_err(|_| corrupt("a device's name"))?,
        kind: DeviceKind::from_stored(&kind).ok_or_else(|| corrupt("a device's kind"))?,
        platform,
        locale,
        app_version: version,
        label,
        verified: verified != 0,
        retired: retired_at.map(|at| Retired {
            reason: reason.unwrap_or_default(),
            at: Timestamp::from_micros(at),
        }),
        created_at: Timestamp::from_micros(created_at),
        updated_at: Timestamp::from_micros(at),
    })
}

/// code_sent_at, codes, codes_since
pub(super) type SentRow = (Option<i64>, i64, Option<i64>);

pub(super) fn sent((last, codes, since): SentRow) -> Sent {
    Sent {
        last: last.map(Timestamp::from_micros),
        codes,
        since: since.map(Timestamp::from_micros),
    }
}

/// id, locale, timezone, attributes
pub(super) type PersonRow = (String, Option<String>, Option<String>, Option<String>);

/// user_id, id, channel, address, verified, kind, platform, locale
pub(super) type ProfileRow = (
    String,
    String,
    String,
    String,
    i64,
    String,
    Option<String>,
    Option<String>,
);

/// Joins what was read of users and their addresses.
pub(super) fn join(
    people: Vec<PersonRow>,
    devices: Vec<ProfileRow>,
) -> Result<HashMap<UserId, Profile>, StoreError> {
    let mut profiles = HashMap::with_capacity(people.len());
    for (user, locale, zone, attributes) in people {
        let profile = Profile {
            locale: locale.map(Into::into),
            zone: zone.map(Into::into),
            attributes: Arc::new(self::attributes(attributes.as_deref())?),
            ..Profile::default()
        };
        profiles.insert(user_id(&user)?, profile);
    }
    for (user, id, channel, address, verified, kind, platform, locale) in devices {
        // One that was erased between the two statements has none.
        let Some(profile) = profiles.get_mut(&user_id(&user)?) else {
            continue;
        };
        profile.devices.push(ProfileDevice {
            id: id.parse().map_err(|_| corrupt("a device's id"))?,
            channel: channel.parse().map_err(|_| corrupt("a device's channel"))?,
            address: address.parse().map_err(|_| corrupt("a device's address"))?,
            verified: verified != 0,
            kind: DeviceKind::from_stored(&kind).ok_or_else(|| corrupt("a device's kind"))?,
            platform: platform.map(Into::into),
            locale: locale.map(Into::into),
            active_until: None,
        });
    }
    Ok(profiles)
}

/// Attributes as stored; null is an empty object.
pub(super) fn attributes(stored: Option<&str>) -> Result<Map<String, Value>, StoreError> {
    let attributes = stored.map(serde_json::from_str).transpose();
    Ok(attributes
        .map_err(|_| corrupt("a user's attributes"))?
        .unwrap_or_default())
}
