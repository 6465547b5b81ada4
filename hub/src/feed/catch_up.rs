//! Reading from the store what the bus did not bring: for a feed with a hole, and for a subscriber that is behind.

use std::{sync::Arc, time::Duration};

use carillon_domain::{Position, ports::Gap};

use super::{Base, Feed, Message, Released, Subscription, Todo, portions};
use crate::{connection::Connection, hub::Hub, protocol::Encoding, session::Input, sse};

/// Neighbours that were only published in the wrong order arrive within this time.
const REORDERING: Duration = Duration::from_millis(2);
/// How long the store may not have what the bus has shown already (a lagging replica).
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// How often a subscriber may fall behind again before it is cut off.
const ROUNDS: u32 = 10_000;

impl Hub {
    /// Does what a feed asked for.
    pub(crate) fn act(self: &Arc<Self>, feed: &Arc<Feed>, todo: Todo) {
        if todo.fan_out {
            if todo.many {
                let (hub, feed) = (Arc::clone(self), Arc::clone(feed));
                self.shared.runtime.spawn(async move {
                    let sent = feed.fan_out_in_turns().await;
                    hub.shared.metrics.frames.increment(sent);
                });
            } else {
                self.shared.metrics.frames.increment(feed.fan_out());
            }
        }
        if todo.catch_up {
            self.shared.runtime.spawn(Arc::clone(self).fill(Arc::clone(feed)));
        }
    }

    /// Compares a feed with the store.
    pub(crate) async fn check(self: &Arc<Self>, feed: &Arc<Feed>) {
        if feed.doubts() {
            Arc::clone(self).read_on(Arc::clone(feed)).await;
        }
    }

    /// Fills a feed's hole. Exactly one runs per feed, by [`Todo::catch_up`].
    async fn fill(self: Arc<Self>, feed: Arc<Feed>) {
        tokio::time::sleep(REORDERING).await;
        self.read_on(feed).await;
    }

    async fn read_on(self: Arc<Self>, feed: Arc<Feed>) {
        let mut empty_handed = 0;
        while let Some(from) = feed.hole_from() {
            self.shared.metrics.catch_ups.increment(1);
            match self.since(&feed.key, &from).await {
                Ok(Some(page)) if page.gap.is_some() => {
                    self.jump(&feed, page.gap.unwrap_or(Gap::Unknown), page.position);
                }
                Ok(Some(page)) => {
                    let nothing = page.items.is_empty();
                    if page.more {
                        feed.doubts();
                    }
                    self.act(&feed, feed.accept(page.items));
                    if nothing && let Some(newest) = feed.waits_for_more() {
                        empty_handed += 1;
                        if empty_handed > PATIENCE {
                            tracing::warn!(?feed.key, %newest, "the store does not have what the bus has shown");
                            self.jump(&feed, Gap::Unknown, newest);
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                Ok(None) => feed.lost_history(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a hole is not filled yet"
                    );
                    feed.doubts();
                    tokio::time::sleep(PAUSE * 5).await;
                }
            }
        }
    }

    fn jump(self: &Arc<Self>, feed: &Arc<Feed>, gap: Gap, position: Position) {
        self.shared.metrics.gaps.increment(1);
        let (lost, todo) = feed.jump(gap, position);
        self.act(feed, todo);
        for (connection, token) in lost {
            let hub = Arc::clone(self);
            // A session's lock comes before a feed's, and the caller may be anywhere.
            self.shared
                .runtime
                .spawn(async move { hub.input(&connection, Input::Lost(token)) });
        }
    }

    /// Brings one held subscriber up to date, page by page and no faster than it reads, then lets it go live.
    pub(crate) async fn catch_up(
        self: Arc<Self>,
        connection: Arc<Connection>,
        token: u32,
        subscription: Subscription,
        mut messages: Vec<Arc<Message>>,
        mut at: Option<Position>,
        mut more: bool,
    ) {
        for _ in 0..ROUNDS {
            // Half of what may wait: the other half is for what is live on this connection meanwhile.
            for some in portions(&messages, connection.encoding, connection.bound() / 2) {
                if !connection.send_paced(&some).await {
                    return;
                }
            }
            self.shared.metrics.frames.increment(messages.len() as u64);
            if let Some(last) = messages.last() {
                at = last.position.clone();
            }
            // What is held comes at once: it counts against the peer only if nothing is left of what was said here.
            if (at.is_none() || !more) && !connection.drained().await {
                return;
            }
            let Some(from) = &at else {
                return self.go_live_without_history(&connection, &subscription);
            };
            if !more {
                match subscription.release(from.seq) {
                    Released::Live | Released::Gone => return,
                    Released::Behind => {}
                }
            }
            match self.since(&subscription.feed().key, from).await {
                Ok(Some(page)) => match page.gap {
                    None => {
                        if page.items.is_empty() {
                            tokio::time::sleep(PAUSE).await;
                        }
                        messages = page.items;
                        more = page.more;
                    }
                    Some(gap) => {
                        if connection.encoding == Encoding::WebSocketJson {
                            self.input(&connection, Input::Lost(token));
                            return;
                        }
                        self.shared.metrics.gaps.increment(1);
                        let event = sse::event::gap(subscription.feed().topic(), gap, Some(&page.position));
                        if !connection.send_paced(&event).await {
                            return;
                        }
                        messages = Vec::new();
                        at = Some(page.position);
                        more = false;
                    }
                },
                Ok(None) => at = None,
                Err(error) => {
                    // The client comes back with its position.
                    tracing::warn!(error = &error as &dyn std::error::Error, "a catch-up broke off");
                    return self.interrupt(&connection);
                }
            }
        }
        connection.cut_off();
    }

    /// A live-only topic has nothing to read again: what was too much to be held is lost, and a stream is told so.
    fn go_live_without_history(&self, connection: &Arc<Connection>, subscription: &Subscription) {
        subscription.feed().lost_history();
        while subscription.release(0) == Released::Behind {
            if connection.encoding == Encoding::EventStream {
                self.shared.metrics.gaps.increment(1);
                let topic = subscription.feed().topic();
                connection.send(&sse::event::gap(topic, Gap::Unknown, None));
            }
        }
    }
}

impl Feed {
    pub(crate) fn topic(&self) -> Option<&carillon_domain::TopicName> {
        match &self.key.subject {
            carillon_domain::Subject::Topic(topic) => Some(topic),
            _ => None,
        }
    }

    /// Asks for a comparison with the store; true when the caller has to make it.
    fn doubts(&self) -> bool {
        let mut state = self.state.lock();
        state.doubt = true;
        state.hole() && !std::mem::replace(&mut state.catching_up, true)
    }

    /// Where to read from, if something is missing; `None` ends the catch-up.
    fn hole_from(&self) -> Option<Position> {
        let mut state = self.state.lock();
        if !state.hole() || state.closed {
            state.catching_up = false;
            return None;
        }
        state.doubt = false;
        match &state.base {
            Base::At(position) => Some(position.clone()),
            Base::Unknown | Base::LiveOnly => None,
        }
    }

    /// The newest position that waits behind a hole.
    fn waits_for_more(&self) -> Option<Position> {
        self.state
            .lock()
            .waiting
            .last()
            .and_then(|message| message.position.clone())
    }

    /// The topic has become live-only.
    fn lost_history(&self) {
        let mut state = self.state.lock();
        state.base = Base::LiveOnly;
        state.waiting = Vec::new();
        state.waiting_bytes = 0;
        state.doubt = false;
    }
}
