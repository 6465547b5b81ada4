//! Properties and devices: written at once, read in batches from memory.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use carillon_domain::{
    Address, ChannelKind, ExternalUserId, TenantId, UserId,
    ports::{Profile, Unavailable},
};
use carillon_sql::StoreError;
use moka::future::Cache;

use crate::{
    UserConfig, Users,
    device::{Device, DeviceChange, DeviceError, Retired, Wanted},
    store::{DevicePut, PURGE_BATCH, UserRecord},
};

/// The longest reason that is kept of a retired address, in bytes.
const MAX_REASON: usize = 500;

/// Above so many at once nobody is remembered: a page of a broadcast, whose users are not asked for again soon, would take
/// memory and the place of those who are.
pub(crate) const MANY: usize = 256;

/// At most this many batches per cleaning up, so that it ends.
const MAX_BATCHES: usize = 100;

/// What a caller wants of a user. `None` leaves a member as it is; `Some(None)` removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// BCP 47.
    pub(crate) locale: Option<Option<String>>,
    /// An IANA time zone.
    pub(crate) timezone: Option<Option<String>>,
    /// A JSON object, as text.
    pub(crate) attributes: Option<Option<String>>,
    /// The whole set of addresses.
    pub(crate) devices: Option<Vec<Wanted>>,
}

/// Why a device was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutDeviceError {
    #[error(transparent)]
    Refused(#[from] DeviceError),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Profiles in memory. Another process's change is seen when the time of an entry is over; one of this process at once.
pub(crate) struct ProfileCache {
    known: Cache<(TenantId, UserId), Profile>,
    /// How many changes this process made: what was read before one is not remembered after it.
    changes: AtomicU64,
}

impl ProfileCache {
    pub(crate) fn new(config: &UserConfig) -> Self {
        Self {
            known: Cache::builder()
                .max_capacity(config.cached)
                // Attributes are what can be large.
                .weigher(|_, profile| weight(profile))
                .time_to_live(config.cache_ttl.duration())
                .build(),
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) async fn forget_stale(&self) {
        self.known.run_pending_tasks().await;
    }
}

#[cfg(test)]
impl ProfileCache {
    /// How many are remembered.
    pub(crate) async fn remembered(&self) -> u64 {
        self.known.run_pending_tasks().await;
        self.known.entry_count()
    }
}

impl Users {
    /// Changes a user, who exists by this at the latest.
    pub(crate) async fn put_profile(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        change: &Change,
    ) -> Result<Result<(UserRecord, Vec<Device>), DeviceError>, StoreError> {
        let now = self.clock.now();
        let put = self
            .store
            .put_profile(tenant, user, UserId::at(now), change, now)
            .await;
        if let Ok(Ok((known, _))) = &put {
            self.forget_profiles(tenant, &[known.id]).await;
        }
        put
    }

    /// Registers or changes a device; a registration makes the user.
    pub(crate) async fn put_device(
        &self,
        tenant: &TenantId,
        user: &ExternalUserId,
        change: &DeviceChange,
    ) -> Result<DevicePut, PutDeviceError> {
        let now = self.clock.now();
        let put = self
            .store
            .put_device(tenant, user, UserId::at(now), change, now)
            .await;
        let put = put.map_err(Unavailable::from)??;
        let mut changed = put.moved_from.clone();
        changed.push(put.user);
        self.forget_profiles(tenant, &changed).await;
        Ok(put)
    }

    pub(crate) async fn read_profiles(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Profile>, Unavailable> {
        if users.len() > MANY {
            let read = self.store.profiles(tenant, users).await?;
            let profiles = users
                .iter()
                .map(|user| read.get(user).cloned().unwrap_or_default());
            return Ok(profiles.collect());
        }
        let mut known = HashMap::with_capacity(users.len());
        let mut absent = Vec::new();
        for user in users {
            match self.profiles.known.get(&(tenant.clone(), *user)).await {
                Some(profile) => {
                    known.insert(*user, profile);
                }
                None => absent.push(*user),
            }
        }
        if !absent.is_empty() {
            absent.sort_unstable();
            absent.dedup();
            let before = self.profiles.changes.load(Ordering::SeqCst);
            let mut read = self.store.profiles(tenant, &absent).await?;
            for user in absent {
                let profile = read.remove(&user).unwrap_or_default();
                let key = (tenant.clone(), user);
                self.profiles.known.insert(key.clone(), profile.clone()).await;
                // A change may have passed between the reading and the keeping.
                if self.profiles.changes.load(Ordering::SeqCst) != before {
                    self.profiles.known.invalidate(&key).await;
                }
                known.insert(user, profile);
            }
        }
        Ok(users
            .iter()
            .map(|user| known.get(user).cloned().unwrap_or_default())
            .collect())
    }

    pub(crate) async fn retire_address(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        address: &Address,
        reason: &str,
    ) -> Result<(), Unavailable> {
        let retired = Retired {
            reason: kept(reason),
            at: self.clock.now(),
        };
        let users = self.store.retire(tenant, channel, address, &retired).await?;
        self.forget_profiles(tenant, &users).await;
        Ok(())
    }

    /// What was committed just now is read anew from here on.
    pub(crate) async fn forget_profiles(&self, tenant: &TenantId, users: &[UserId]) {
        self.profiles.changes.fetch_add(1, Ordering::SeqCst);
        for user in users {
            self.profiles.known.invalidate(&(tenant.clone(), *user)).await;
        }
    }

    /// Removes devices that were retired long ago, codes and heartbeats that are over.
    pub(crate) async fn tidy(&self) -> Result<(), Unavailable> {
        let now = self.clock.now();
        let retired_before = now.before(self.config.retired_retention.duration());
        for _ in 0..MAX_BATCHES {
            if self.store.purge_devices(now, retired_before).await? < PURGE_BATCH {
                break;
            }
        }
        for _ in 0..MAX_BATCHES {
            if self.store.purge_activity(now).await? < PURGE_BATCH {
                break;
            }
        }
        Ok(())
    }
}

/// How much of the cache a profile takes: one, and one more for each KiB of attributes.
fn weight(profile: &Profile) -> u32 {
    if profile.attributes.is_empty() {
        return 1;
    }
    let bytes = serde_json::to_vec(&*profile.attributes).map_or(0, |text| text.len());
    u32::try_from(bytes / 1_024).unwrap_or(u32::MAX - 1) + 1
}

/// A reason as it is stored: bounded, and without control characters.
fn kept(reason: &str) -> String {
    let mut kept: String = reason
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    kept.truncate(kept.floor_char_boundary(MAX_REASON));
    kept
}
