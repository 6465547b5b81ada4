use std::{fmt, sync::Arc};

use carillon_domain::{
    Clock, ExternalUserId, TenantId,
    ports::{Channel, Erase, Rpc, Seal, Suppressed, Unavailable, Verifier},
};
use carillon_sql::{Database, StoreError};
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::{
    UserConfig,
    activity::Activity,
    ids::Ids,
    profiles::ProfileCache,
    rpc::ActivityRpc,
    store::{self, Store},
};

/// What users need of the other rooms.
#[derive(Clone)]
pub struct UserPorts {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The channels that are known here: each checks the addresses of its own. Another channel's are taken as they are.
    pub channels: Vec<Arc<dyn Channel>>,
    /// Tags verification codes.
    pub seal: Arc<dyn Seal>,
}

/// Users: see the crate's page.
pub struct Users {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: UserConfig,
    pub(crate) ids: Ids,
    pub(crate) profiles: ProfileCache,
    pub(crate) activity: Activity,
    pub(crate) channels: Vec<Arc<dyn Channel>>,
    pub(crate) seal: Arc<dyn Seal>,
    /// Who sends verification codes; it comes last, since it needs users itself.
    pub(crate) verifier: RwLock<Option<Arc<dyn Verifier>>>,
    /// Knows which addresses are not written to.
    pub(crate) suppressed: RwLock<Option<Arc<dyn Suppressed>>>,
    /// The rooms that hold a person's data, by a name for the log.
    pub(crate) rooms: RwLock<Vec<(&'static str, Arc<dyn Erase>)>>,
    /// An erasure began in this process: it need not wait for the next look.
    pub(crate) wake: Notify,
}

/// Why users cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting does not fit.
    #[error("user.{key}: {reason}")]
    Config {
        /// The key, below `user`.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Users {
    /// Checks the settings and brings the schema up to date.
    ///
    /// # Errors
    /// When a setting does not fit or the store does not work.
    pub async fn open(
        config: UserConfig,
        database: Database,
        ports: UserPorts,
    ) -> Result<Arc<Self>, OpenError> {
        config
            .validate()
            .map_err(|(key, reason)| OpenError::Config { key, reason })?;
        crate::migrate(&database).await?;
        let store = store::on(database);
        Ok(Arc::new(Self {
            ids: Ids::new(&config, Arc::clone(&store), Arc::clone(&ports.clock)),
            store,
            clock: ports.clock,
            channels: ports.channels,
            seal: ports.seal,
            verifier: RwLock::default(),
            suppressed: RwLock::default(),
            profiles: ProfileCache::new(&config),
            activity: Activity::new(&config),
            config,
            rooms: RwLock::default(),
            wake: Notify::new(),
        }))
    }

    /// Registers a room that holds a person's data. Register every room before [`Self::run`]: an erasure ends when all
    /// that are registered have forgotten.
    pub fn erases(&self, name: &'static str, room: Arc<dyn Erase>) {
        self.rooms.write().push((name, room));
    }

    /// What connected clients may call: `carillon.activity`.
    pub fn rpc(self: &Arc<Self>) -> Arc<dyn Rpc> {
        Arc::new(ActivityRpc(Arc::clone(self)))
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Unavailable> {
        Ok(self.store.ping().await?)
    }

    /// Begins to erase the person who has the name; `false` when nobody has it. The name is free at once.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn erase(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<bool, Unavailable> {
        let began = self.store.begin_erasure(tenant, user, self.clock.now()).await?;
        if let Some(id) = self.ids.forget(tenant, user) {
            self.forget_profiles(tenant, &[id]).await;
        }
        self.wake.notify_one();
        Ok(began)
    }

    /// Gives back what the caches hold beyond its time. They do so by themselves only while they are asked for something:
    /// a crowd that left would stay in memory.
    pub(crate) async fn forget_stale(&self) {
        self.ids.forget_stale();
        self.profiles.forget_stale().await;
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
