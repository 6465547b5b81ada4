//! All feeds of one node, and their agreement with the bus.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use carillon_domain::ports::Unavailable;
use dashmap::DashMap;
use parking_lot::Mutex;

use super::{Feed, FeedKey, Subscription};
use crate::{connection::Connection, hub::Hub};

/// Enough that feeds of different subjects rarely wait for each other's `listen`.
const TURNS: usize = 64;

pub(crate) struct Registry {
    feeds: DashMap<FeedKey, Arc<Feed>>,
    /// `listen` and `unlisten` of one subject never overtake each other.
    turns: [tokio::sync::Mutex<()>; TURNS],
    /// Feeds whose last subscriber left, and when (in the hub's milliseconds).
    empty: Mutex<VecDeque<(u64, Arc<Feed>)>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            feeds: DashMap::new(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            empty: Mutex::default(),
        }
    }

    /// The feed, if anybody here listens to it or lately did.
    pub(crate) fn get(&self, key: &FeedKey) -> Option<Arc<Feed>> {
        self.feeds.get(key).map(|feed| Arc::clone(&feed))
    }

    pub(crate) fn len(&self) -> usize {
        self.feeds.len()
    }

    /// Adds a held subscriber; what the bus brings from now on is held for it.
    pub(crate) async fn hold(
        &self,
        hub: &Hub,
        key: FeedKey,
        connection: &Arc<Connection>,
        token: u32,
    ) -> Result<Subscription, Unavailable> {
        loop {
            let feed = self.feed(&key);
            if let Some(subscription) = feed.hold(connection, token) {
                return Ok(subscription);
            }
            let _turn = self.turn(&key).lock().await;
            if !feed.starts_listening() {
                // Another one was faster, or the feed has been closed: look again.
                continue;
            }
            // Whoever waits here may be given up: then the feed is swept like one that was left.
            self.emptied(&feed, hub.shared.millis());
            let listened = hub.ports.bus.listen(&key.tenant, &key.subject).await;
            feed.listens(listened.is_ok(), hub.shared.millis());
            listened?;
        }
    }

    fn feed(&self, key: &FeedKey) -> Arc<Feed> {
        if let Some(feed) = self.feeds.get(key) {
            return Arc::clone(&feed);
        }
        Arc::clone(
            &self
                .feeds
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Feed::new(key.clone()))),
        )
    }

    fn turn(&self, key: &FeedKey) -> &tokio::sync::Mutex<()> {
        &self.turns[self.feeds.hash_usize(key) % TURNS]
    }

    /// Notes that a feed has no subscribers; it is kept a while, so that a reconnect finds it.
    pub(crate) fn emptied(&self, feed: &Arc<Feed>, now: u64) {
        self.empty.lock().push_back((now, Arc::clone(feed)));
    }

    /// Closes the feeds that have been empty for `linger`.
    pub(crate) async fn sweep(&self, hub: &Hub, linger: Duration) {
        let now = hub.shared.millis();
        let linger = linger.as_millis() as u64;
        loop {
            let feed = {
                let mut empty = self.empty.lock();
                match empty.front() {
                    Some((since, _)) if now.saturating_sub(*since) >= linger => empty.pop_front(),
                    _ => {
                        if empty.capacity() > 64 && empty.len() < empty.capacity() / 4 {
                            empty.shrink_to_fit();
                        }
                        break;
                    }
                }
            };
            let Some((_, feed)) = feed else { break };
            let _turn = self.turn(&feed.key).lock().await;
            let listened = match feed.close_if_empty(now, linger) {
                Close::Taken => continue,
                Close::Later(since) => {
                    self.empty.lock().push_back((since, Arc::clone(&feed)));
                    continue;
                }
                Close::Closed { listened } => listened,
            };
            self.feeds
                .remove_if(&feed.key, |_, present| Arc::ptr_eq(present, &feed));
            if listened && let Err(error) = hub.ports.bus.unlisten(&feed.key.tenant, &feed.key.subject).await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the bus did not let go of a subject"
                );
            }
        }
        if self.feeds.capacity() > 1_024 && self.feeds.len() < self.feeds.capacity() / 4 {
            self.feeds.shrink_to_fit();
        }
    }

    /// The feeds that have not been compared with the store for `interval`.
    pub(crate) fn unchecked(&self, now: u64, interval: Duration) -> Vec<Arc<Feed>> {
        let interval = interval.as_millis() as u64;
        self.feeds
            .iter()
            .filter(|feed| feed.is_unchecked(now, interval))
            .map(|feed| Arc::clone(&feed))
            .collect()
    }
}

/// What became of a feed that was found empty.
enum Close {
    /// It has subscribers again, and comes back when they leave; or it is closed already.
    Taken,
    /// Not yet; look again when it has been empty since then for long enough.
    Later(u64),
    /// Closed; the bus may have to be told.
    Closed {
        /// Whether it was.
        listened: bool,
    },
}

impl Feed {
    /// Whether it is for the caller, who has the turn, to ask the bus.
    fn starts_listening(&self) -> bool {
        let state = self.state.lock();
        !state.listening && !state.closed
    }

    fn listens(&self, listening: bool, now: u64) {
        let mut state = self.state.lock();
        state.listening = listening;
        state.touched_at = now;
    }

    /// Closes a feed that has had no subscribers for `linger`.
    fn close_if_empty(&self, now: u64, linger: u64) -> Close {
        let mut state = self.state.lock();
        if !state.subscribers.is_empty() || state.closed {
            return Close::Taken;
        }
        if state.catching_up || now.saturating_sub(state.touched_at) < linger {
            // Somebody came and went meanwhile.
            return Close::Later(state.touched_at.max(now.saturating_sub(linger) + 1));
        }
        state.closed = true;
        Close::Closed {
            listened: state.listening,
        }
    }

    fn is_unchecked(&self, now: u64, interval: u64) -> bool {
        let mut state = self.state.lock();
        let due = matches!(state.base, super::Base::At(_))
            && !state.catching_up
            && !state.subscribers.is_empty()
            && now.saturating_sub(state.touched_at) >= interval;
        if due {
            state.touched_at = now;
        }
        due
    }
}
