use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use carillon_domain::{Caller, KeyCaller, KeyId, Principal, TenantId, Timestamp};
use moka::future::Cache;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

use crate::{
    api_key,
    digest::{Digest, sha256},
    refusal::Refusal,
    store::Store,
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
    used: Mutex<HashMap<KeyId, (TenantId, Timestamp)>>,
}

struct Cached {
    digest: Digest,
    principal: Principal,
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

    /// Who the key `text` belongs to, if it is one of `tenant`'s.
    pub(crate) async fn verify(
        &self,
        store: &dyn Store,
        tenant: &TenantId,
        text: &str,
        now: Timestamp,
    ) -> Result<Principal, Refusal> {
        let id = api_key::parse(text).ok_or(Refusal::Invalid("it is no API key"))?;
        let cached = match self.keys.get(&id).await {
            Some(cached) => cached,
            None => self.load(store, tenant, id).await?,
        };
        if cached.principal.tenant != *tenant {
            return Err(Refusal::Invalid("the API key is another tenant's"));
        }
        if !bool::from(sha256(&[text.as_bytes()]).ct_eq(&cached.digest)) {
            return Err(Refusal::Invalid("the API key's secret is wrong"));
        }
        let minute = now.as_micros().div_euclid(USE_STEP);
        if cached.noted.swap(minute, Ordering::Relaxed) != minute {
            self.used.lock().insert(id, (tenant.clone(), now));
        }
        Ok(cached.principal.clone())
    }

    async fn load(&self, store: &dyn Store, tenant: &TenantId, id: KeyId) -> Result<Arc<Cached>, Refusal> {
        let record = store
            .key(tenant, id)
            .await?
            .ok_or(Refusal::Invalid("the tenant has no such API key"))?;
        if record.revoked_at.is_some() {
            return Err(Refusal::Revoked);
        }
        let caller = Caller::Key(Arc::new(KeyCaller {
            id,
            scopes: record.scopes,
        }));
        let cached = Arc::new(Cached {
            digest: record.digest,
            principal: Principal {
                tenant: tenant.clone(),
                caller,
            },
            noted: AtomicI64::new(i64::MIN),
        });
        self.keys.insert(id, Arc::clone(&cached)).await;
        // A revocation may have passed between the reading and the keeping; whoever comes later must not find it kept.
        if store
            .key(tenant, id)
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
            .map(|(id, (tenant, at))| (tenant, id, at))
            .collect();
        store.touch_keys(&used).await
    }
}
