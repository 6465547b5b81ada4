//! Which channels there are: the mailbox, those of this process, and those that workers announced.

use std::{collections::HashMap, sync::Arc, time::Duration};

use carillon_domain::{
    Address, Capabilities, ChannelKind, Invalid, TenantId,
    ports::{Channel, CheckedAddress, Lane, Unavailable},
};
use carillon_sql::StoreError;
use moka::future::Cache;

use crate::store::{MailboxCommand, Store, withdrawals::Recallable};

/// How long an announcement on another node may go unnoticed.
const LIFE: Duration = Duration::from_secs(5);
/// Tenants whose announced channels are kept in memory.
const TENANTS: u64 = 10_000;

/// A channel as metrics call it: those that are built in by their names, and all that workers bring alike, since tenants
/// choose their names.
pub(crate) fn label(kind: &str) -> &'static str {
    match kind {
        ChannelKind::IN_APP => "in_app",
        ChannelKind::EMAIL => "email",
        ChannelKind::WEBHOOK => "webhook",
        _ => "remote",
    }
}

/// Every channel, by tenant.
pub(crate) struct Channels {
    local: Arc<HashMap<ChannelKind, Arc<dyn Channel>>>,
    announced: Cache<TenantId, Arc<Announced>>,
    store: Arc<dyn Store>,
}

type Announced = HashMap<ChannelKind, Capabilities>;

/// The channels that one tenant has.
#[derive(Clone)]
pub(crate) struct KnownChannels {
    local: Arc<HashMap<ChannelKind, Arc<dyn Channel>>>,
    announced: Arc<Announced>,
}

impl Channels {
    pub(crate) fn new(channels: &[Arc<dyn Channel>], store: Arc<dyn Store>) -> Self {
        Self {
            local: Arc::new(
                channels
                    .iter()
                    .map(|channel| (channel.kind(), Arc::clone(channel)))
                    .collect(),
            ),
            announced: Cache::builder().max_capacity(TENANTS).time_to_live(LIFE).build(),
            store,
        }
    }

    /// What was announced or taken back here counts here at once: for this tenant, or for all of them.
    pub(crate) async fn changed(&self, tenant: Option<&TenantId>) {
        match tenant {
            Some(tenant) => self.announced.invalidate(tenant).await,
            None => self.announced.invalidate_all(),
        }
    }

    /// Those that can take back what they delivered, of everybody whom the commands are about.
    pub(crate) async fn recallable(&self, commands: &[MailboxCommand]) -> Result<Recallable, StoreError> {
        let mut recallable = Recallable::default();
        for command in commands {
            if recallable.channels(&command.tenant).is_none() {
                let channels = self.known(&command.tenant).await?;
                recallable.insert(command.tenant.clone(), channels.that_recall());
            }
        }
        Ok(recallable)
    }

    /// Those of a tenant.
    pub(crate) async fn of(&self, tenant: &TenantId) -> Result<KnownChannels, Unavailable> {
        Ok(self.known(tenant).await?)
    }

    async fn known(&self, tenant: &TenantId) -> Result<KnownChannels, StoreError> {
        let announced = match self.announced.get(tenant).await {
            Some(announced) => announced,
            None => {
                // A tenant's own announcement comes after the one for all, and stays.
                let rows = self.store.remote_channels(Some(tenant)).await?;
                let announced: Arc<Announced> =
                    Arc::new(rows.into_iter().map(|row| (row.kind, row.capabilities)).collect());
                self.announced
                    .insert(tenant.clone(), Arc::clone(&announced))
                    .await;
                announced
            }
        };
        Ok(KnownChannels {
            local: Arc::clone(&self.local),
            announced,
        })
    }
}

impl KnownChannels {
    /// Whether there is such a channel.
    pub(crate) fn has(&self, kind: &ChannelKind) -> bool {
        kind.is_in_app() || self.local.contains_key(kind) || self.announced.contains_key(kind)
    }

    /// All of them, by name.
    pub(crate) fn kinds(&self) -> Vec<ChannelKind> {
        let mut kinds: Vec<_> = self.local.keys().chain(self.announced.keys()).cloned().collect();
        kinds.push(ChannelKind::in_app());
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// What a channel can do; the mailbox needs to be asked nothing, and an unknown one can do nothing.
    pub(crate) fn capabilities(&self, kind: &ChannelKind) -> Capabilities {
        self.local
            .get(kind)
            .map(|channel| channel.capabilities())
            .or_else(|| self.announced.get(kind).copied())
            .unwrap_or_default()
    }

    /// Channels that can take back what they delivered.
    pub(crate) fn that_recall(&self) -> Vec<ChannelKind> {
        self.local
            .keys()
            .chain(self.announced.keys())
            .filter(|kind| self.capabilities(kind).recall)
            .cloned()
            .collect()
    }

    /// The canonical spelling of an address and its lane. Of a worker's channel nobody here knows the spelling: any
    /// address is as it came, and all of them share the worker's lane.
    pub(crate) fn check(&self, kind: &ChannelKind, address: &str) -> Result<CheckedAddress, Invalid> {
        if let Some(channel) = self.local.get(kind) {
            return channel.check(address);
        }
        Ok(CheckedAddress {
            address: address.parse::<Address>()?,
            lane: Lane::from(kind.as_str()),
        })
    }
}
