//! Remote channels: media that workers bring. A worker announces a channel, pulls leased work, and says what its attempts
//! came to; leases, retries, breakers, times to live and dead letters are those of every channel.
//!
//! What workers have under way is this node's own memory, for widths and breakers alone: the lease and its token are
//! rows, so that an outcome may come to another node, and a worker that dies loses nothing but time.

mod config;
mod holdings;
mod news;
mod outcomes;
mod pull;

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    ChannelKind, Clock, KeyId, TenantId,
    ports::{ApiKeys, Directory, Unavailable},
};
use carillon_runtime::http::Served;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use config::RemoteConfig;
pub(crate) use holdings::Holder;
pub(crate) use news::{InboundEvent, NewsError, Receipt, ReceiptKind};
pub(crate) use outcomes::{Answer, Refusal};
pub(crate) use pull::Handing;

use crate::{
    deliverer::{compose::Composer, config::DeliveryConfig, schedule::LaneStanding},
    mailboxes::Mailboxes,
    remote::holdings::Holdings,
    store::{Store, outside::RemoteChannelRow},
    wake::Wake,
};

/// The most channels that the workers of one tenant, or those for all tenants, announce.
pub(crate) const MAX_CHANNELS: usize = 32;
/// How often it is asked whether the key of a worker that waits still stands.
const KEY_CHECKED: Duration = Duration::from_secs(1);

/// Hands work to workers and hears what became of it.
pub(crate) struct Remote {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) composer: Composer,
    pub(crate) clock: Arc<dyn Clock>,
    /// Woken where there may be new work.
    pub(crate) wake: Arc<Wake>,
    api_keys: Arc<dyn ApiKeys>,
    /// Channels whose receipts say how well a device is reached.
    probed: Vec<ChannelKind>,
    pub(crate) config: RemoteConfig,
    pub(crate) delivery: DeliveryConfig,
    holdings: Mutex<Holdings>,
    waiting: Arc<Semaphore>,
    /// How often somebody who waits looked.
    #[cfg(test)]
    pub(crate) looks: std::sync::atomic::AtomicUsize,
    /// Set while the process drains: who waits is answered.
    closing: Mutex<CancellationToken>,
}

/// What the other rooms give to it.
pub(crate) struct RemoteParts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) composer: Composer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake: Arc<Wake>,
    pub(crate) api_keys: Arc<dyn ApiKeys>,
    pub(crate) probed: Vec<ChannelKind>,
}

/// Why a worker got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("the channel was not announced")]
    NotAnnounced,
    #[error("too many workers wait")]
    Overloaded,
    #[error("the key was revoked")]
    Revoked,
    #[error("the store or the directory is away")]
    Away(#[from] Unavailable),
}

impl From<carillon_sql::StoreError> for RemoteError {
    fn from(error: carillon_sql::StoreError) -> Self {
        Self::Away(error.into())
    }
}

/// Whose deliveries: none for all tenants'.
pub(crate) fn tenant_of(served: &Served) -> Option<&TenantId> {
    match served {
        Served::All => None,
        Served::Tenant(tenant) => Some(tenant),
    }
}

impl Remote {
    pub(crate) fn new(parts: RemoteParts, config: RemoteConfig, delivery: &DeliveryConfig) -> Self {
        let delivery = DeliveryConfig {
            width: config.width,
            ..delivery.clone()
        };
        Self {
            store: parts.store,
            directory: parts.directory,
            mailboxes: parts.mailboxes,
            composer: parts.composer,
            clock: parts.clock,
            wake: parts.wake,
            api_keys: parts.api_keys,
            probed: parts.probed,
            holdings: Mutex::new(Holdings::new(delivery.clone())),
            waiting: Arc::new(Semaphore::new(config.waiting)),
            #[cfg(test)]
            looks: std::sync::atomic::AtomicUsize::default(),
            closing: Mutex::default(),
            config,
            delivery,
        }
    }

    /// Slots that are taken.
    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.holdings.lock().under_way()
    }

    /// Answers who waits once `stop` comes.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        *self.closing.lock() = stop.clone();
        stop.cancelled().await;
    }

    /// Ends when the process drains.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.lock().clone()
    }

    /// A place among those who wait.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, RemoteError> {
        Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| RemoteError::Overloaded)
    }

    /// Whether the key still opens anything by which a worker came. Where nobody can tell, it does not.
    async fn stands(&self, served: &Served, key: WorkerKey) -> bool {
        let Some(key) = key else { return true };
        match self.api_keys.stands(tenant_of(served), key).await {
            Ok(stands) => stands,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a worker's key could not be checked"
                );
                false
            }
        }
    }

    /// Ends when the worker's key does, within seconds.
    pub(crate) async fn revoked(&self, served: &Served, key: WorkerKey) {
        while self.stands(served, key).await {
            tokio::time::sleep(KEY_CHECKED).await;
        }
    }

    /// The channel as the worker's own tenant, or everybody's worker, announced it.
    pub(crate) async fn announced(
        &self,
        served: &Served,
        kind: &ChannelKind,
    ) -> Result<RemoteChannelRow, RemoteError> {
        let tenant = tenant_of(served);
        let rows = self.store.remote_channels(tenant).await?;
        rows.into_iter()
            .find(|row| row.kind == *kind && row.tenant.as_ref() == tenant)
            .ok_or(RemoteError::NotAnnounced)
    }

    /// How lanes stand that workers of this tenant, or of all tenants, serve on this node; without a tenant every one.
    pub(crate) fn standings(&self, tenant: Option<&TenantId>) -> Vec<LaneStanding> {
        self.holdings.lock().standings(tenant, self.clock.now())
    }
}

/// A worker's key; none for the operator.
pub(crate) type WorkerKey = Option<KeyId>;
