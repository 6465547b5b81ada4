//! One timer for all connections: a ring of buckets, one turned at a time. A connection stands in it at its next
//! deadline (and maybe at later ones that no longer count), and holds no timer and no memory of its own for it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::connection::ConnectionId;

const BUCKETS: usize = 128;

pub(crate) struct Wheel {
    buckets: [Mutex<Vec<ConnectionId>>; BUCKETS],
    now: AtomicUsize,
}

impl Wheel {
    /// How much time one bucket is.
    pub(crate) const STEP: Duration = Duration::from_millis(250);
    /// How far ahead the ring reaches.
    pub(crate) const REACH: Duration = Duration::from_millis(250 * (BUCKETS as u64 - 1));

    pub(crate) fn new() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Mutex::default()),
            now: AtomicUsize::new(0),
        }
    }

    /// Wakes `id` after `delay`, rounded up to a step; at most [`Self::REACH`].
    pub(crate) fn after(&self, delay: Duration, id: ConnectionId) {
        let steps = delay
            .as_millis()
            .div_ceil(Self::STEP.as_millis())
            .clamp(1, BUCKETS as u128 - 1) as usize;
        let bucket = (self.now.load(Ordering::Relaxed) + steps) % BUCKETS;
        self.buckets[bucket].lock().push(id);
    }

    /// Turns by one step; answers who is due.
    pub(crate) fn turn(&self) -> Vec<ConnectionId> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        std::mem::take(&mut *self.buckets[now % BUCKETS].lock())
    }
}
