//! Every open connection, found by a number or by its user.

use std::{collections::HashMap, sync::Arc};

use carillon_domain::{TenantId, UserId};
use parking_lot::Mutex;
use slab::Slab;

use super::Connection;

const SHARDS: usize = 16;

/// A connection's number: shard, slot and generation, so that a late wake-up never meets a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId {
    shard: u8,
    generation: u32,
    slot: u32,
}

#[derive(Default)]
struct Shard {
    slots: Slab<(u32, Arc<Connection>)>,
    generation: u32,
}

/// Whose connections are which.
type People = HashMap<(TenantId, UserId), Vec<ConnectionId>>;

pub(crate) struct Table {
    shards: [Mutex<Shard>; SHARDS],
    next: std::sync::atomic::AtomicUsize,
    open: std::sync::atomic::AtomicUsize,
    people: [Mutex<People>; SHARDS],
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            next: 0.into(),
            open: 0.into(),
            people: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Adds what `make` builds for its number.
    pub(crate) fn insert(&self, make: impl FnOnce(ConnectionId) -> Connection) -> Arc<Connection> {
        let shard = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % SHARDS;
        let mut locked = self.shards[shard].lock();
        locked.generation = locked.generation.wrapping_add(1);
        let generation = locked.generation;
        let entry = locked.slots.vacant_entry();
        let id = ConnectionId {
            shard: shard as u8,
            generation,
            slot: entry.key() as u32,
        };
        let connection = Arc::new(make(id));
        entry.insert((generation, Arc::clone(&connection)));
        self.open.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        connection
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        let shard = self.shards.get(usize::from(id.shard))?.lock();
        let (generation, connection) = shard.slots.get(id.slot as usize)?;
        (*generation == id.generation).then(|| Arc::clone(connection))
    }

    /// Removes a connection; true for the first to do so.
    pub(crate) fn remove(&self, id: ConnectionId) -> bool {
        let Some(shard) = self.shards.get(usize::from(id.shard)) else {
            return false;
        };
        let mut shard = shard.lock();
        let slot = id.slot as usize;
        if shard
            .slots
            .get(slot)
            .is_none_or(|(generation, _)| *generation != id.generation)
        {
            return false;
        }
        let removed = shard.slots.remove(slot);
        if shard.slots.is_empty() {
            shard.slots = Slab::new();
        }
        drop(shard);
        drop(removed);
        self.open.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.open.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// All that are open now.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(
                shard
                    .lock()
                    .slots
                    .iter()
                    .map(|(_, (_, connection))| Arc::clone(connection)),
            );
        }
        all
    }

    fn person(&self, user: UserId) -> &Mutex<People> {
        // The tail of a UUIDv7 is random.
        &self.people[usize::from(user.as_uuid().as_bytes()[15]) % SHARDS]
    }

    /// Notes that a connection is a user's.
    pub(crate) fn join(&self, tenant: &TenantId, user: UserId, id: ConnectionId) {
        let mut people = self.person(user).lock();
        people
            .entry((tenant.clone(), user))
            .or_insert_with(|| Vec::with_capacity(1))
            .push(id);
    }

    pub(crate) fn leave(&self, tenant: &TenantId, user: UserId, id: ConnectionId) {
        let mut people = self.person(user).lock();
        if let std::collections::hash_map::Entry::Occupied(mut entry) = people.entry((tenant.clone(), user)) {
            entry.get_mut().retain(|other| *other != id);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        // A map keeps its room for ever unless told otherwise; a crowd that left takes its memory along.
        if people.capacity() > 64 && people.len() < people.capacity() / 4 {
            let room = people.len() * 2;
            people.shrink_to(room);
        }
    }

    pub(crate) fn of_user(&self, tenant: &TenantId, user: UserId) -> Vec<ConnectionId> {
        self.person(user)
            .lock()
            .get(&(tenant.clone(), user))
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn count_of_user(&self, tenant: &TenantId, user: UserId) -> usize {
        self.person(user)
            .lock()
            .get(&(tenant.clone(), user))
            .map_or(0, Vec::len)
    }
}
