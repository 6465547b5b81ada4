//! Our own issuer's keys: Ed25519, per tenant, wrapped at rest, rotated with overlap.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_domain::{TenantId, Timestamp, ports::Unavailable};
use jsonwebtoken::{Algorithm, DecodingKey};
use moka::future::Cache;

use crate::{
    config::{AuthConfig, MAX_TOKEN_TTL},
    digest::sha256,
    master_key::{MasterKey, MasterKeyError},
    store::{SigningKeyRecord, Store},
};

/// Tenants whose keys are kept in memory.
const TENANTS: u64 = 10_000;

/// How long a tenant's keys are used before they are read again.
const LIFE: Duration = Duration::from_secs(30);

/// A token by an unknown key makes us read the tenant's keys again, but not more often than this.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How many keys a tenant can have at once at the most; the rotation keeps it at about three.
const BATCH: i64 = 500;

/// One Ed25519 key.
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    public: [u8; 32],
    pair: Ed25519KeyPair,
    verifying: DecodingKey,
    active_from: Timestamp,
}

impl SigningKey {
    /// The signature of `message`, in base64.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(message))
    }

    /// Whether `signature`, in base64, is this key's of `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.verifying, Algorithm::EdDSA).unwrap_or(false)
    }

    /// The private half, to look for where it must not be.
    #[cfg(test)]
    pub(crate) fn seed(&self) -> Vec<u8> {
        use aws_lc_rs::encoding::AsBigEndian as _;
        let seed = self.pair.seed().expect("a seed");
        seed.as_be_bytes().expect("bytes").as_ref().to_vec()
    }

    /// As a JSON Web Key (RFC 8037).
    pub(crate) fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP",
            crv: "Ed25519",
            r#use: "sig",
            alg: "EdDSA",
            kid: self.kid.clone(),
            x: URL_SAFE_NO_PAD.encode(self.public),
        }
    }
}

/// The public half of a signing key (RFC 7517, RFC 8037).
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct Jwk {
    /// `OKP`.
    kty: &'static str,
    /// `Ed25519`.
    crv: &'static str,
    /// `sig`.
    r#use: &'static str,
    /// `EdDSA`.
    alg: &'static str,
    /// The key's thumbprint (RFC 7638).
    kid: String,
    /// The public key, in URL-safe base64.
    x: String,
}

/// A tenant's keys, oldest first.
pub(crate) struct TenantKeys {
    pub(crate) keys: Vec<Arc<SigningKey>>,
    read_at: Timestamp,
}

impl TenantKeys {
    fn find(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.keys.iter().find(|key| key.kid == kid).cloned()
    }

    /// The key that signs now: the newest whose time has come.
    fn current(&self, now: Timestamp) -> Option<Arc<SigningKey>> {
        self.keys.iter().rev().find(|key| key.active_from <= now).cloned()
    }
}

/// When keys come and go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    period: Duration,
    lead: Duration,
    leeway: Duration,
}

impl Rotation {
    pub(crate) fn new(config: &AuthConfig) -> Self {
        Self {
            period: config.key_rotation.duration(),
            lead: config.key_lead.duration(),
            leeway: config.leeway.duration(),
        }
    }

    /// A tenant whose newest key took over at this time or earlier needs the next one.
    fn due_before(self, now: Timestamp) -> Timestamp {
        now.before(self.period.saturating_sub(self.lead))
    }

    /// When the key after one that took over at `previous` does: never before verifiers could see it.
    fn next_after(self, previous: Timestamp, now: Timestamp) -> Timestamp {
        previous.after(self.period).max(now.after(self.lead))
    }

    /// A key whose successor took over at this time or earlier signed no token that is still valid.
    pub(crate) fn retired_before(self, now: Timestamp) -> Timestamp {
        now.before(MAX_TOKEN_TTL + self.leeway * 2)
    }
}

/// The signing keys of all tenants.
pub(crate) struct SigningKeys {
    store: Arc<dyn Store>,
    master: Arc<MasterKey>,
    rotation: Rotation,
    cache: Cache<TenantId, Arc<TenantKeys>>,
}

impl SigningKeys {
    pub(crate) fn new(store: Arc<dyn Store>, master: Arc<MasterKey>, rotation: Rotation) -> Self {
        let cache = Cache::builder().max_capacity(TENANTS).time_to_live(LIFE).build();
        Self {
            store,
            master,
            rotation,
            cache,
        }
    }

    /// A tenant's keys; none for a tenant that never minted.
    pub(crate) async fn of(&self, tenant: &TenantId, now: Timestamp) -> Result<Arc<TenantKeys>, Unavailable> {
        // Many requests at once read once.
        self.cache
            .try_get_with_by_ref(tenant, self.read(tenant, now))
            .await
            .map_err(|error| Unavailable::new("reading signing keys", error))
    }

    /// One of the tenant's keys, by its id. `look_again` when an unknown id may be that of a key made elsewhere just now.
    pub(crate) async fn find(
        &self,
        tenant: &TenantId,
        kid: &str,
        look_again: bool,
        now: Timestamp,
    ) -> Result<Option<Arc<SigningKey>>, Unavailable> {
        let keys = self.of(tenant, now).await?;
        let found = keys.find(kid);
        if found.is_some() || !look_again || now.since(keys.read_at) < LOOK_AGAIN {
            return Ok(found);
        }
        Ok(self.read_again(tenant, now).await?.find(kid))
    }

    /// The key that signs now; the tenant's first one is made here.
    pub(crate) async fn signer(
        &self,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<Arc<SigningKey>, Unavailable> {
        if let Some(key) = self.of(tenant, now).await?.current(now) {
            return Ok(key);
        }
        self.make(tenant, 1, now, now).await?;
        // Another process may have made it instead: its clock may be a little ahead of ours.
        let keys = self.read_again(tenant, now).await?;
        keys.current(now)
            .or_else(|| keys.keys.first().cloned())
            .ok_or_else(|| Unavailable::new("making a signing key", "the store does not give it back"))
    }

    /// Makes the next key of every tenant whose newest one is to be followed soon.
    pub(crate) async fn rotate(&self, now: Timestamp) -> Result<(), Unavailable> {
        for tenant in self
            .store
            .signing_keys_older_than(self.rotation.due_before(now))
            .await?
        {
            let Some(newest) = self.store.signing_keys(&tenant).await?.pop() else {
                continue;
            };
            let active_from = self.rotation.next_after(newest.active_from, now);
            self.make(&tenant, newest.generation + 1, active_from, now)
                .await?;
            self.read_again(&tenant, now).await?;
            tracing::info!(%tenant, generation = newest.generation + 1, %active_from, "made the next signing key");
        }
        Ok(())
    }

    /// Wraps anew what an older master key wrapped; without the key that wraps it, a secret is lost, so that it is
    /// better not to start.
    pub(crate) async fn rewrap(&self) -> Result<(), RewrapError> {
        loop {
            let others = self
                .store
                .wrapped_by_others(self.master.current_id(), BATCH)
                .await?;
            if others.is_empty() {
                return Ok(());
            }
            for mut key in others {
                let secret =
                    self.master
                        .unwrap(&key.master_key, &place(&key.tenant, &key.kid), &key.wrapped)?;
                key.wrapped = self.master.wrap(&place(&key.tenant, &key.kid), &secret)?;
                let previous = std::mem::replace(&mut key.master_key, self.master.current_id().to_owned());
                self.store.rewrap(&key, &previous).await?;
            }
        }
    }

    /// Reads past the cache, in which a reading that began earlier may end up, and keeps the answer there.
    async fn read_again(&self, tenant: &TenantId, now: Timestamp) -> Result<Arc<TenantKeys>, Unavailable> {
        let keys = self.read(tenant, now).await?;
        self.cache.insert(tenant.clone(), Arc::clone(&keys)).await;
        Ok(keys)
    }

    /// Forgets what was read, as time does.
    #[cfg(test)]
    pub(crate) async fn forget(&self) {
        self.cache.invalidate_all();
        self.cache.run_pending_tasks().await;
    }

    async fn read(&self, tenant: &TenantId, now: Timestamp) -> Result<Arc<TenantKeys>, Unavailable> {
        let records = self.store.signing_keys(tenant).await?;
        let keys: Result<Vec<_>, _> = records
            .iter()
            .map(|record| self.open(record).map(Arc::new))
            .collect();
        let keys = keys.map_err(|error| Unavailable::new("opening a signing key", error))?;
        Ok(Arc::new(TenantKeys { keys, read_at: now }))
    }

    fn open(&self, record: &SigningKeyRecord) -> Result<SigningKey, MasterKeyError> {
        let secret = self.master.unwrap(
            &record.master_key,
            &place(&record.tenant, &record.kid),
            &record.wrapped,
        )?;
        let pair = Ed25519KeyPair::from_pkcs8(&secret).map_err(|_| MasterKeyError::Tampered)?;
        let public: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| MasterKeyError::Tampered)?;
        // The public half is stored in the clear, for reading; what counts is inside the wrapping.
        if record.public != public {
            return Err(MasterKeyError::Tampered);
        }
        Ok(SigningKey {
            kid: record.kid.clone(),
            public,
            pair,
            // jsonwebtoken takes the 32 raw bytes of the key here.
            verifying: DecodingKey::from_ed_der(&public),
            active_from: record.active_from,
        })
    }

    async fn make(
        &self,
        tenant: &TenantId,
        generation: i64,
        active_from: Timestamp,
        now: Timestamp,
    ) -> Result<(), Unavailable> {
        let failed = || Unavailable::new("making a signing key", MasterKeyError::Crypto);
        let pair = Ed25519KeyPair::generate().map_err(|_| failed())?;
        let secret = pair.to_pkcs8().map_err(|_| failed())?;
        let public = pair.public_key().as_ref().to_vec();
        let kid = thumbprint(&public);
        let wrapped = self
            .master
            .wrap(&place(tenant, &kid), secret.as_ref())
            .map_err(|error| Unavailable::new("wrapping a signing key", error))?;
        let record = SigningKeyRecord {
            tenant: tenant.clone(),
            generation,
            kid,
            public,
            wrapped,
            master_key: self.master.current_id().to_owned(),
            active_from,
            created_at: now,
        };
        Ok(self.store.add_signing_key(&record).await?)
    }
}

/// Why wrapped secrets could not be wrapped anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RewrapError {
    #[error(transparent)]
    Master(#[from] MasterKeyError),
    #[error(transparent)]
    Store(#[from] carillon_sql::StoreError),
}

/// What a wrapped signing key is bound to: copied elsewhere, it does not open.
fn place(tenant: &TenantId, kid: &str) -> String {
    format!("carillon/auth/signing-key/{tenant}/{kid}")
}

/// RFC 7638: SHA-256 of the key's required members in their fixed order.
fn thumbprint(public: &[u8]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(sha256(&[members.as_bytes()]))
}

/// Whether `kid` could be one that [`thumbprint`] made.
pub(crate) fn is_thumbprint(kid: &str) -> bool {
    kid.len() == 43
        && kid
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Signs and verifies once: a library built without its backend fails here and not at the first token.
pub(crate) fn self_test() -> Result<(), &'static str> {
    let failed = "signing and verifying do not fit together";
    let pair = Ed25519KeyPair::generate().map_err(|_| failed)?;
    let public = pair.public_key().as_ref().to_vec();
    let verifying = DecodingKey::from_ed_der(&public);
    let message = b"carillon";
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(message));
    let holds = |message: &[u8], algorithm, key: &DecodingKey, signature: &str| {
        jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false)
    };
    let shared = DecodingKey::from_secret(&public);
    let mac = jsonwebtoken::crypto::sign(
        message,
        &jsonwebtoken::EncodingKey::from_secret(&public),
        Algorithm::HS256,
    )
    .map_err(|_| failed)?;
    let good = holds(message, Algorithm::EdDSA, &verifying, &signature)
        && !holds(b"Carillon", Algorithm::EdDSA, &verifying, &signature)
        && !holds(message, Algorithm::EdDSA, &verifying, &mac)
        && holds(message, Algorithm::HS256, &shared, &mac)
        && !holds(b"Carillon", Algorithm::HS256, &shared, &mac)
        && !holds(message, Algorithm::HS256, &shared, &signature);
    if good { Ok(()) } else { Err(failed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let x = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .expect("base64");
        assert_eq!(thumbprint(&x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(is_thumbprint(&thumbprint(&x)));
    }

    #[test]
    fn the_self_test_passes() {
        self_test().expect("a working backend");
    }

    #[test]
    fn a_next_key_is_always_seen_before_it_signs() {
        let day = Duration::from_secs(86_400);
        let rotation = Rotation {
            period: 30 * day,
            lead: day,
            leeway: Duration::ZERO,
        };
        let start = Timestamp::from_seconds(0);
        assert_eq!(rotation.due_before(start.after(29 * day)), start);
        assert_eq!(
            rotation.next_after(start, start.after(29 * day)),
            start.after(30 * day)
        );
        // After a long stop the next key still waits for its lead.
        assert_eq!(
            rotation.next_after(start, start.after(300 * day)),
            start.after(301 * day)
        );
    }
}
