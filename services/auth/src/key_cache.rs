use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use carillon_domain::{
    Caller, KeyCaller, KeyId, Principal, Scope, TenantId, Timestamp, WorkerCaller, ports::Unavailable,
};
use moka::future::Cache;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

use crate::{
    api_key::{self, KeyText},
    digest::{Digest, sha256},
    refusal::Refusal,
    store::{KeyOwner, Store},
};

/// After this time a key is read again even if nobody said that it was revoked: so long can a process go on that lost
/// its database.
const LIFE: Duration = Duration::from_secs(60);

/// Last uses are kept to the minute.
const USE_STEP: i64 = 60 * 1_000_000;

/// API keys in memory: a request costs one look-up and one SHA-256.
pub(crate) struct KeyCache {
    keys: Cache<KeyId, Arc<Cached>>,
    /// Keys that were used since they were last written down.
    used: Mutex<HashMap<KeyId, (KeyOwner, Timestamp)>>,
}

struct Cached {
    digest: Digest,
    owner: KeyOwner,
    caller: Caller,
    /// The minute of the last use that was noted.
    noted: AtomicI64,
}

impl KeyCache {
    pub(crate) fn new(capacity: u64) -> Self {
        let keys = Cache::builder().max_capacity(capacity).time_to_live(LIFE).build();
        Self {
            keys,
            used: Mutex::default(),
        }
    }

    /// Who the key `text` belongs to, if it is one of `tenant`'s or one for all tenants.
    pub(crate) async fn verify(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        text: &str,
        now: Timestamp,
    ) -> Result<Principal, Refusal> {
        let (owner, id) = match api_key::parse(text) {
            Some(KeyText::Tenant(id)) => (KeyOwner::Tenant(tenant.clone()), id),
            Some(KeyText::Worker(id)) => (KeyOwner::AllTenants, id),
            None => return Err(Refusal::Invalid("it is no API key")),
        };
        let cached = match self.keys.get(&id).await {
            Some(cached) => cached,
            None => self.load(store, &owner, id).await?,
        };
        if cached.owner != owner {
            return Err(Refusal::Invalid("the API key is another tenant's"));
        }
        if !bool::from(sha256(&[text.as_bytes()]).ct_eq(&cached.digest)) {
            return Err(Refusal::Invalid("the API key's secret is wrong"));
        }
        let minute = now.as_micros().div_euclid(USE_STEP);
        if cached.noted.swap(minute, Ordering::Relaxed) != minute {
            self.used.lock().insert(id, (owner, now));
        }
        Ok(Principal {
            tenant: tenant.clone(),
            caller: cached.caller.clone(),
        })
    }

    /// Whether the owner's key still opens anything.
    pub(crate) async fn stands(
        &self,
        store: &dyn Store,
        owner: &KeyOwner,
        id: KeyId,
    ) -> Result<bool, Unavailable> {
        if let Some(cached) = self.keys.get(&id).await {
            return Ok(cached.owner == *owner);
        }
        match self.load(store, owner, id).await {
            Ok(_) => Ok(true),
            Err(Refusal::Unavailable(error)) => Err(error),
            Err(Refusal::Invalid(_) | Refusal::Expired | Refusal::Revoked) => Ok(false),
        }
    }

    async fn load(&self, store: &dyn Store, owner: &KeyOwner, id: KeyId) -> Result<Arc<Cached>, Refusal> {
        let record = store
            .key(owner, id)
            .await?
            .ok_or(Refusal::Invalid("there is no such API key"))?;
        if record.revoked_at.is_some() {
            return Err(Refusal::Revoked);
        }
        let caller = match owner {
            KeyOwner::Tenant(_) => Caller::Key(Arc::new(KeyCaller {
                id,
                scopes: record.scopes,
            })),
            KeyOwner::AllTenants => Caller::Worker(Arc::new(WorkerCaller {
                id,
                channels: record.scopes.into_iter().filter_map(channel).collect(),
            })),
        };
        let cached = Arc::new(Cached {
            digest: record.digest,
            owner: owner.clone(),
            caller,
            noted: AtomicI64::new(i64::MIN),
        });
        self.keys.insert(id, Arc::clone(&cached)).await;
        // A revocation may have passed between the reading and the keeping; whoever comes later must not find it kept.
        if store
            .key(owner, id)
            .await?
            .is_none_or(|record| record.revoked_at.is_some())
        {
            self.forget(id).await;
            return Err(Refusal::Revoked);
        }
        Ok(cached)
    }

    pub(crate) async fn forget(&self, id: KeyId) {
        self.keys.invalidate(&id).await;
    }

    /// Writes down which keys were used since the last time.
    pub(crate) async fn write_uses(&self, store: &dyn Store) -> Result<(), carillon_sql::StoreError> {
        let used = std::mem::take(&mut *self.used.lock());
        if used.is_empty() {
            return Ok(());
        }
        let used: Vec<_> = used
            .into_iter()
            .map(|(id, (owner, at))| (owner, id, at))
            .collect();
        store.touch_keys(&used).await
    }
}

fn channel(scope: Scope) -> Option<carillon_domain::ChannelKind> {
    match scope {
        Scope::Channel(kind) => Some(kind),
        _ => None,
    }
}
