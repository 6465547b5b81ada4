use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use carillon_domain::{
    Capabilities, ChannelKind, Invalid, Outcome,
    ports::{Channel, CheckedAddress, Lane, Report, Work},
};
use tokio::sync::Notify;

/// A channel that ends in memory: it keeps what it was given and answers what it was told to, else `Delivered`. An
/// address is anything with an `@`, in small letters; what stands behind it is the lane.
#[derive(Debug)]
pub struct RecordingChannel {
    kind: ChannelKind,
    capabilities: Capabilities,
    works: Mutex<Vec<Work>>,
    outcomes: Mutex<VecDeque<Outcome>>,
    came: Notify,
}

impl RecordingChannel {
    /// A channel of this kind.
    ///
    /// # Panics
    /// When the kind is none.
    pub fn new(kind: &str, capabilities: Capabilities) -> Self {
        Self {
            kind: kind.parse().expect("a channel"),
            capabilities,
            works: Mutex::default(),
            outcomes: Mutex::default(),
            came: Notify::new(),
        }
    }

    /// What the next attempts say, in this order.
    pub fn answer(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        lock(&self.outcomes).extend(outcomes);
    }

    /// Everything that it was given.
    pub fn works(&self) -> Vec<Work> {
        lock(&self.works).clone()
    }

    /// Waits until it was given so many, and answers them.
    ///
    /// # Panics
    /// When they do not come within a time that only a fault needs.
    pub async fn until(&self, count: usize) -> Vec<Work> {
        loop {
            let came = self.came.notified();
            let works = self.works();
            if works.len() >= count {
                return works;
            }
            tokio::time::timeout(Duration::from_secs(20), came)
                .await
                .expect("more attempts come");
        }
    }
}

#[async_trait]
impl Channel for RecordingChannel {
    fn kind(&self) -> ChannelKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        let address = address.to_lowercase();
        let (_, host) = address
            .split_once('@')
            .filter(|(name, host)| !name.is_empty() && !host.is_empty())
            .ok_or(Invalid("an address has a name, an @ and a host"))?;
        Ok(CheckedAddress {
            lane: Lane::from(host),
            address: address.parse()?,
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        lock(&self.works).push(work.clone());
        self.came.notify_waiters();
        let outcome = lock(&self.outcomes).pop_front();
        Report::new(outcome.unwrap_or(Outcome::Delivered { provider_id: None }))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
