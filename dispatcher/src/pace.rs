//! How far the relay may be ahead of the planner. What it hands out is leased, and a lease ends: more than is planned
//! within one would come to its turn stale, and be handed out again behind as much as before, so that nothing came to its
//! end. What is above waits in the outbox, where whoever has room takes it.
//!
//! How much that is follows from how long the last ones took: less when they took a quarter of their lease, more when
//! there was no room and they were quick.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_domain::{
    Clock, Timestamp,
    ports::{JobHandle, Unavailable},
};
use parking_lot::Mutex;

use crate::{config::PlannerConfig, wake::Wake};

/// As little as is handed out at the least.
const FEWEST: usize = 16;
/// As much as is handed out at the most.
const MOST: usize = 16_384;

/// Between one relay and its planner.
pub(crate) struct Pace {
    lease: Duration,
    batch: usize,
    state: Mutex<State>,
    /// Wakes the relay when there is room again.
    relay: Arc<Wake>,
}

struct State {
    /// How many are handed out and not answered, by the end of their lease: what a queue lost is not waited for.
    out: BTreeMap<Timestamp, usize>,
    /// Their sum.
    count: usize,
    most: usize,
    /// What was leased up to then says nothing about `most` any more: it was handed out under another one.
    since: Option<Timestamp>,
    /// Whether somebody found no room since `most` was changed.
    full: bool,
    /// Whether the relay waits for room.
    waits: bool,
}

impl State {
    fn left(&self) -> usize {
        self.most.saturating_sub(self.count)
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(entry) = self.out.first_entry().filter(|entry| *entry.key() <= now) {
            self.count = self.count.saturating_sub(entry.remove());
        }
    }

    /// A job took so much of its lease. `until`: the end of it.
    fn measure(&mut self, lease: Duration, until: Timestamp, now: Timestamp) {
        if self.since.is_some_and(|since| until <= since) {
            return;
        }
        let left = until.since(now);
        let most = if left < lease * 3 / 4 {
            (self.most / 2).max(FEWEST)
        } else if self.full && left >= lease * 7 / 8 {
            self.most.saturating_mul(2).min(MOST)
        } else {
            return;
        };
        self.most = most;
        self.full = false;
        self.since = Some(now.after(lease));
    }
}

impl Pace {
    pub(crate) fn new(config: &PlannerConfig, relay: Arc<Wake>) -> Self {
        Self {
            lease: config.lease.duration(),
            batch: config.batch,
            state: Mutex::new(State {
                out: BTreeMap::new(),
                count: 0,
                most: config.batch.saturating_mul(4).clamp(FEWEST, MOST),
                since: None,
                full: false,
                waits: false,
            }),
            relay,
        }
    }

    /// How many the relay may lease now. None: it is woken when it is worth a look.
    pub(crate) fn room(&self, now: Timestamp) -> usize {
        let mut state = self.state.lock();
        state.forget(now);
        let left = state.left();
        if left < self.step(&state) {
            state.waits = true;
            state.full = true;
            return 0;
        }
        left.min(self.batch)
    }

    /// Whether there is room for so many.
    pub(crate) fn takes(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        let takes = count <= state.left();
        state.full |= !takes;
        takes
    }

    /// How many are handed out and not answered.
    pub(crate) fn handed_out(&self) -> usize {
        self.state.lock().count
    }

    /// A job is handed out.
    pub(crate) fn give(&self, until: Timestamp) {
        let mut state = self.state.lock();
        *state.out.entry(until).or_default() += 1;
        state.count += 1;
    }

    /// A job is answered; `first`: it was handed out once.
    fn answered(&self, until: Timestamp, now: Timestamp, first: bool) {
        let mut state = self.state.lock();
        if let Some(count) = state.out.get_mut(&until) {
            *count -= 1;
            if *count == 0 {
                state.out.remove(&until);
            }
            state.count = state.count.saturating_sub(1);
        }
        if first {
            state.measure(self.lease, until, now);
        }
        if state.waits && state.left() >= self.step(&state) {
            state.waits = false;
            drop(state);
            self.relay.wake();
        }
    }

    /// Fewer than these are not worth a transaction while others are planned.
    fn step(&self, state: &State) -> usize {
        (state.most / 2).clamp(1, self.batch.max(1))
    }
}

/// A job that counts as handed out until it is answered.
pub(crate) struct Counted {
    pub(crate) handle: Box<dyn JobHandle>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The end of its lease.
    pub(crate) until: Timestamp,
    /// Whether it was handed out once.
    pub(crate) first: bool,
}

#[async_trait]
impl JobHandle for Counted {
    async fn ack(self: Box<Self>) -> Result<(), Unavailable> {
        self.pace.answered(self.until, self.clock.now(), self.first);
        self.handle.ack().await
    }

    async fn retry_in(self: Box<Self>, delay: Duration) -> Result<(), Unavailable> {
        self.handle.retry_in(delay).await
    }
}

#[cfg(test)]
mod tests {
    use carillon_runtime::config::Span;

    use super::*;

    const LEASE: Duration = Duration::from_secs(40);

    fn pace(batch: usize) -> Pace {
        let config = PlannerConfig {
            batch,
            lease: Span::from_secs(40),
            ..PlannerConfig::default()
        };
        Pace::new(&config, Arc::default())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000 + seconds)
    }

    /// Leases all that there is room for, and answers how many.
    fn fill(pace: &Pace, now: Timestamp) -> usize {
        let mut count = 0;
        loop {
            let room = pace.room(now);
            if room == 0 {
                return count;
            }
            (0..room).for_each(|_| pace.give(now.after(LEASE)));
            count += room;
        }
    }

    fn answer(pace: &Pace, count: usize, leased: Timestamp, now: Timestamp) {
        (0..count).for_each(|_| pace.answered(leased.after(LEASE), now, true));
    }

    #[test]
    fn slow_ones_halve_it_once_for_all_that_were_handed_out_together() {
        let pace = pace(100);
        assert_eq!(fill(&pace, at(0)), 400);
        answer(&pace, 100, at(0), at(1));
        assert_eq!(
            pace.state.lock().most,
            800,
            "they were quick, and there was no room"
        );
        let slow = fill(&pace, at(2));
        answer(&pace, 300, at(0), at(20));
        assert_eq!(pace.state.lock().most, 800, "of another measure");
        answer(&pace, slow, at(2), at(20));
        assert_eq!(pace.state.lock().most, 400);
        let mut now = 20;
        for _ in 0..10 {
            let slow = fill(&pace, at(now));
            answer(&pace, slow, at(now), at(now + 11));
            now += 11;
        }
        assert_eq!(pace.state.lock().most, FEWEST);
    }

    #[test]
    fn it_does_not_grow_where_there_was_room() {
        let pace = pace(100);
        for second in 0..20 {
            pace.give(at(second).after(LEASE));
            answer(&pace, 1, at(second), at(second));
        }
        assert_eq!(pace.state.lock().most, 400);
    }

    #[tokio::test]
    async fn the_relay_is_woken_when_there_is_room_for_as_much_as_is_worth_it() {
        let pace = pace(10);
        let woken = pace.relay.listen();
        assert_eq!(fill(&pace, at(0)), 40);
        answer(&pace, 9, at(0), at(8));
        assert!(!woken.has_changed().expect("listens"));
        answer(&pace, 1, at(0), at(8));
        assert!(woken.has_changed().expect("listens"));
        assert_eq!(pace.room(at(8)), 10);
    }

    #[test]
    fn what_is_lost_counts_until_its_lease_ends() {
        let pace = pace(10);
        assert_eq!(fill(&pace, at(0)), 40);
        assert!(!pace.takes(1));
        assert_eq!(pace.room(at(39)), 0);
        assert_eq!(pace.room(at(40)), 10);
        assert!(pace.takes(40));
    }
}
