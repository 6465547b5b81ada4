use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use carillon_domain::{
    Clock, TenantId,
    ports::{Bus, Directory, Seal, Unavailable},
};
use carillon_sql::{Database, StoreError};
use dashmap::DashSet;
use moka::future::Cache;

use crate::{
    AuthConfig, MasterKey, MasterKeyError,
    digest::Digest,
    key_cache::KeyCache,
    revocation::RevocationIndex,
    session::Verified,
    signing::{self, RewrapError, Rotation, SigningKeys},
    store::{self, Store},
    token::SharedSecrets,
};

/// How long a verified token is remembered at the most; its own end and revocations count at every use.
const VERIFIED_LIFE: Duration = Duration::from_secs(3_600);

/// What identity needs of the other rooms.
#[derive(Clone)]
pub struct AuthPorts {
    /// Who is who.
    pub directory: Arc<dyn Directory>,
    /// Tells every node what was revoked.
    pub bus: Arc<dyn Bus>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Identity: see the crate's page.
pub struct Auth {
    pub(crate) config: AuthConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: KeyCache,
    master: Arc<MasterKey>,
    pub(crate) signing: SigningKeys,
    pub(crate) shared: HashMap<TenantId, SharedSecrets>,
    pub(crate) verified: Cache<Digest, Arc<Verified>>,
    pub(crate) revocations: RevocationIndex,
    /// Tenants that are known to exist; they never cease to.
    tenants: DashSet<TenantId>,
    /// Whether other processes may work on the same store.
    pub(crate) shared_store: bool,
}

/// Why identity cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting does not fit.
    #[error("auth.{key}: {reason}")]
    Config {
        /// The key, below `auth`.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptography does not work.
    #[error("the self-test of signatures failed: {0}")]
    SelfTest(&'static str),
    /// The master key does not open what is stored.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Revocations could not be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<RewrapError> for OpenError {
    fn from(error: RewrapError) -> Self {
        match error {
            RewrapError::Master(error) => Self::MasterKey(error),
            RewrapError::Store(error) => Self::Store(error),
        }
    }
}

impl Auth {
    /// Checks the settings and the cryptography, brings the schema up to date, makes the tenants `default` and those with
    /// a shared secret, and learns what is revoked.
    ///
    /// # Errors
    /// When a setting does not fit (weak secrets among them), the master key is not the one that wrapped what is stored,
    /// or the store does not work.
    pub async fn open(
        config: AuthConfig,
        database: Database,
        ports: AuthPorts,
        master: impl Into<Arc<MasterKey>>,
    ) -> Result<Arc<Self>, OpenError> {
        config
            .validate()
            .map_err(|(key, reason)| OpenError::Config { key, reason })?;
        signing::self_test().map_err(OpenError::SelfTest)?;
        crate::migrate(&database).await?;
        let shared_store = matches!(database, Database::Postgres(_));
        let store = store::on(database);
        let secrets = config.with_secrets();
        let master = master.into();
        let auth = Arc::new(Self {
            keys: KeyCache::new(config.cached_keys),
            signing: SigningKeys::new(Arc::clone(&store), Arc::clone(&master), Rotation::new(&config)),
            master,
            shared: secrets
                .iter()
                .map(|(name, tenant)| (name.clone(), SharedSecrets::new(tenant)))
                .collect(),
            verified: Cache::builder()
                .max_capacity(config.verified_tokens)
                .time_to_live(VERIFIED_LIFE)
                .build(),
            revocations: RevocationIndex::default(),
            tenants: DashSet::new(),
            store,
            directory: ports.directory,
            bus: ports.bus,
            clock: ports.clock,
            shared_store,
            config,
        });
        let now = auth.clock.now();
        auth.store.ensure_tenant(&TenantId::default(), now).await?;
        for (tenant, _) in &secrets {
            auth.store.ensure_tenant(tenant, now).await?;
        }
        auth.signing.rewrap().await?;
        auth.refresh_revocations(true).await?;
        Ok(auth)
    }

    /// Secrets sealed by the master key, and tags under it, for the other rooms.
    pub fn seal(&self) -> Arc<dyn Seal> {
        self.master.clone()
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        self.store.tenant_exists(&TenantId::default()).await?;
        Ok(())
    }

    /// Whether the tenant exists: `default`, those with a shared secret, and those that a key was made for.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn knows_tenant(&self, tenant: &TenantId) -> Result<bool, Unavailable> {
        if self.tenants.contains(tenant) {
            return Ok(true);
        }
        let exists = self.store.tenant_exists(tenant).await?;
        if exists {
            self.tenants.insert(tenant.clone());
        }
        Ok(exists)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("issuer", &self.config.issuer)
            .finish_non_exhaustive()
    }
}
