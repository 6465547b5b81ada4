//! How many connections are open, in all and of each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Counts an edge's open connections, those included that a hub has taken over. Cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    open: AtomicUsize,
    limit: usize,
    per_address: usize,
    /// Only of addresses that are counted, so loopback is not in it.
    addresses: Mutex<HashMap<IpAddr, usize>>,
    changed: Notify,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The process holds as many as it may.
    Full,
    /// The address holds as many as it may.
    Address,
}

impl Refusal {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "connections",
            Self::Address => "connections_per_address",
        }
    }
}

/// One open connection; dropping it uncounts it.
pub(super) struct Slot {
    connections: Arc<Inner>,
    address: Option<IpAddr>,
}

impl Connections {
    /// With limits, of which zero is none.
    pub(super) fn new(limit: u32, per_address: u32) -> Self {
        let or_none = |limit: u32| if limit == 0 { usize::MAX } else { limit as usize };
        Self(Arc::new(Inner {
            open: AtomicUsize::new(0),
            limit: or_none(limit),
            per_address: or_none(per_address),
            addresses: Mutex::new(HashMap::new()),
            changed: Notify::new(),
        }))
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Waits until none is open.
    pub async fn none_open(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.open() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Counts one more; `address` is `None` on a Unix socket.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Result<Slot, Refusal> {
        let inner = &self.0;
        let counted = address
            .map(|ip| ip.to_canonical())
            .filter(|ip| !ip.is_loopback() && inner.per_address != usize::MAX);
        if inner.open.fetch_add(1, Ordering::Relaxed) >= inner.limit {
            inner.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
        if let Some(ip) = counted {
            let mut addresses = inner.addresses.lock();
            let count = addresses.entry(ip).or_default();
            if *count >= inner.per_address {
                drop(addresses);
                inner.open.fetch_sub(1, Ordering::Relaxed);
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        Ok(Slot {
            connections: Arc::clone(inner),
            address: counted,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.connections;
        if let Some(ip) = self.address {
            let mut addresses = inner.addresses.lock();
            if let Some(count) = addresses.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&ip);
                }
            }
        }
        if inner.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            inner.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_limit_and_loopback_has_none() {
        let connections = Connections::new(0, 2);
        let address = Some("192.0.2.1".parse().expect("an address"));
        let mapped = Some("::ffff:192.0.2.1".parse().expect("an address"));
        let first = connections.enter(address).expect("first");
        let _second = connections.enter(mapped).expect("second");
        assert_eq!(connections.enter(address).err(), Some(Refusal::Address));
        drop(first);
        let _third = connections.enter(address).expect("a place is free again");
        let loopback: Vec<_> = (0..5)
            .map(|_| connections.enter(Some("127.0.0.1".parse().expect("an address"))))
            .collect();
        assert!(loopback.iter().all(Result::is_ok));
        assert_eq!(connections.open(), 7);
    }

    #[test]
    fn all_together_have_a_limit() {
        let connections = Connections::new(1, 0);
        let only = connections.enter(None).ok();
        assert_eq!(connections.enter(None).err(), Some(Refusal::Full));
        drop(only);
        assert!(connections.enter(None).is_ok());
        assert_eq!(connections.open(), 0);
    }
}
