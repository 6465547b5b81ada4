//! A feed: what one node knows of one mailbox or topic, and who listens to it here.
//!
//! **Invariants**: what a live subscriber is sent has no hole and no repeat, and comes in the order of its numbers;
//! a hole that the bus left is read from the store before anything behind it goes out; a subscriber that is still
//! catching up is held, and what comes meanwhile waits with it, within bounds.

mod catch_up;
mod message;
mod open;
mod readings;
mod registry;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_domain::{Position, Subject, TenantId, ports::Gap};
use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

use self::message::concat;
pub(crate) use self::{
    message::{Batch, Message, portions, sent_at},
    open::{Opening, Resume},
    readings::Readings,
    registry::Registry,
};
use crate::{connection::Connection, protocol::Encoding, sse};

/// How many messages are held for one subscriber, or wait behind a hole: more is read from the store again.
const HELD_MESSAGES: usize = 256;
/// How much waits behind a hole.
const WAITING_BYTES: usize = 256 * 1024;
/// What goes out in one write at most.
const BATCH_MESSAGES: usize = 64;
const BATCH_BYTES: usize = 48 * 1024;
/// Subscribers served under one hold of the feed's lock, so that nobody who comes or goes waits long.
const STRIDE: usize = 128;
/// How long a fan-out goes on before others have their turn. By the time and not by subscribers: each turn waits behind
/// everything else that can run, which is a crowd while many connect, so a few hundred are served in one.
const TURN: Duration = Duration::from_millis(2);

/// Which mailbox or topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FeedKey {
    pub(crate) tenant: TenantId,
    pub(crate) subject: Subject,
}

pub(crate) struct Feed {
    pub(crate) key: FeedKey,
    state: Mutex<State>,
}

struct State {
    base: Base,
    /// Whether the bus was asked for this subject.
    listening: bool,
    /// Removed from the registry; whoever still holds it asks the registry again.
    closed: bool,
    subscribers: Slab<Subscriber>,
    /// One above the highest slot in use since the feed was last empty.
    high: usize,
    next_id: u32,
    /// In order, to be sent.
    ready: VecDeque<Arc<Message>>,
    sending: bool,
    /// Behind a hole, sorted by number.
    waiting: Vec<Arc<Message>>,
    waiting_bytes: usize,
    /// Something may be missing that no waiting message shows.
    doubt: bool,
    catching_up: bool,
    /// Counts the jumps: a batch from before one is not sent behind it.
    life: u32,
    /// In the hub's milliseconds: when the last subscriber left, or the last comparison with the store.
    touched_at: u64,
}

/// How far the feed has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    /// Not asked yet.
    Unknown,
    /// A topic without history.
    LiveOnly,
    /// Everything up to here is sent or ready to be.
    At(Position),
}

struct Subscriber {
    id: u32,
    /// The session's number for the subscription.
    token: u32,
    /// Sent up to here, by other ways than the feed.
    after: u64,
    connection: Arc<Connection>,
    /// While it catches up.
    held: Option<Box<Held>>,
}

#[derive(Default)]
struct Held {
    messages: Vec<Arc<Message>>,
    bytes: usize,
    /// Where the feed stood when holding began: what came before is not in `messages`.
    since: u64,
    /// It was too much: start over.
    overflowed: bool,
}

impl Held {
    /// `bound`: what may wait for the connection.
    fn add(&mut self, messages: &[Arc<Message>], bound: usize) {
        for message in messages {
            self.bytes += message.weight();
            if self.overflowed || self.messages.len() >= HELD_MESSAGES || self.bytes > bound {
                self.overflowed = true;
                self.messages = Vec::new();
                return;
            }
            self.messages.push(Arc::clone(message));
        }
    }
}

/// What is to be done after a feed took something.
#[derive(Debug, Default, Clone, Copy)]
#[must_use]
pub(crate) struct Todo {
    /// Call [`Feed::fan_out`]; nobody else does.
    pub(crate) fan_out: bool,
    /// There are so many subscribers that the caller should not send by itself.
    pub(crate) many: bool,
    /// Read the store; nobody else does.
    pub(crate) catch_up: bool,
}

/// Whether a held subscriber is live now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Released {
    Live,
    /// The store must be read again from where the reader stands.
    Behind,
    /// It left.
    Gone,
}

/// One connection's place in a feed.
pub(crate) struct Subscription {
    feed: Arc<Feed>,
    slot: u32,
    id: u32,
}

impl Subscription {
    pub(crate) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    pub(crate) fn handle(&self) -> Self {
        Self {
            feed: Arc::clone(&self.feed),
            slot: self.slot,
            id: self.id,
        }
    }

    /// Sends what was held behind `after` and lets the feed go on by itself.
    pub(crate) fn release(&self, after: u64) -> Released {
        self.feed.release(self.slot as usize, self.id, after)
    }

    /// True when nobody is left.
    pub(crate) fn leave(&self, now: u64) -> bool {
        let mut state = self.feed.state.lock();
        let slot = self.slot as usize;
        if state
            .subscribers
            .get(slot)
            .is_none_or(|subscriber| subscriber.id != self.id)
        {
            return false;
        }
        let left = state.subscribers.remove(slot);
        if state.subscribers.is_empty() {
            state.subscribers = Slab::new();
            state.high = 0;
            state.touched_at = now;
        }
        let empty = state.subscribers.is_empty();
        drop(state);
        drop(left);
        empty
    }
}

impl Feed {
    fn new(key: FeedKey) -> Self {
        let state = State {
            base: Base::Unknown,
            listening: false,
            closed: false,
            subscribers: Slab::new(),
            high: 0,
            next_id: 0,
            ready: VecDeque::new(),
            sending: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            doubt: false,
            catching_up: false,
            life: 0,
            touched_at: 0,
        };
        Self {
            key,
            state: Mutex::new(state),
        }
    }

    /// Adds a held subscriber. `None`: the feed is not listening (yet, or any more).
    fn hold(self: &Arc<Self>, connection: &Arc<Connection>, token: u32) -> Option<Subscription> {
        let mut state = self.state.lock();
        if !state.listening || state.closed {
            return None;
        }
        let since = match &state.base {
            Base::At(base) => base.seq,
            Base::Unknown | Base::LiveOnly => 0,
        };
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        let held = Some(Box::new(Held {
            since,
            ..Held::default()
        }));
        let slot = state.subscribers.insert(Subscriber {
            id,
            token,
            after: 0,
            connection: Arc::clone(connection),
            held,
        });
        state.high = state.high.max(slot + 1);
        drop(state);
        Some(Subscription {
            feed: Arc::clone(self),
            slot: slot as u32,
            id,
        })
    }

    /// Where the feed stands, if it knows: `Some(None)` for a live-only topic.
    fn known(&self) -> Option<Option<Position>> {
        match &self.state.lock().base {
            Base::Unknown => None,
            Base::LiveOnly => Some(None),
            Base::At(position) => Some(Some(position.clone())),
        }
    }

    /// The store said where the log ends (`None`: there is none). Only the first answer counts.
    fn settle(&self, position: Option<Position>) -> Todo {
        let mut state = self.state.lock();
        if state.base == Base::Unknown {
            let since = position.as_ref().map_or(0, |position| position.seq);
            for (_, subscriber) in &mut state.subscribers {
                if let Some(held) = &mut subscriber.held {
                    held.since = since;
                }
            }
            state.base = position.map_or(Base::LiveOnly, Base::At);
            let early = std::mem::take(&mut state.waiting);
            state.waiting_bytes = 0;
            early.into_iter().for_each(|message| state.sort_in(message));
        }
        state.todo()
    }

    /// Takes messages from the bus or the store, in any order.
    pub(crate) fn accept(&self, messages: impl IntoIterator<Item = Arc<Message>>) -> Todo {
        let mut state = self.state.lock();
        messages.into_iter().for_each(|message| state.sort_in(message));
        state.todo()
    }

    /// Sends what is ready, from the calling thread.
    pub(crate) fn fan_out(&self) -> u64 {
        let mut sent = 0;
        while let Some(batch) = self.next_batch() {
            let mut from = Some(0);
            while let Some(slot) = from {
                from = self.send_stride(&batch, slot, &mut sent);
            }
        }
        sent
    }

    /// The same for many subscribers: lets others run in between.
    pub(crate) async fn fan_out_in_turns(self: Arc<Self>) -> u64 {
        let mut sent = 0;
        let mut began = Instant::now();
        while let Some(batch) = self.next_batch() {
            let mut from = Some(0);
            while let Some(slot) = from {
                from = self.send_stride(&batch, slot, &mut sent);
                if began.elapsed() >= TURN {
                    tokio::task::yield_now().await;
                    began = Instant::now();
                }
            }
        }
        sent
    }

    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        let mut messages = Vec::new();
        let mut bytes = 0;
        while let Some(message) = state.ready.front() {
            bytes += message.weight();
            if !messages.is_empty() && (messages.len() >= BATCH_MESSAGES || bytes > BATCH_BYTES) {
                break;
            }
            messages.extend(state.ready.pop_front());
        }
        if messages.is_empty() {
            state.sending = false;
            state.ready = VecDeque::new();
            return None;
        }
        Some(Batch::new(messages, state.life))
    }

    fn send_stride(&self, batch: &Batch, from: usize, sent: &mut u64) -> Option<usize> {
        let mut state = self.state.lock();
        if state.life != batch.life {
            return None;
        }
        let end = state.high.min(from + STRIDE);
        for slot in from..end {
            let Some(subscriber) = state.subscribers.get_mut(slot) else {
                continue;
            };
            match &mut subscriber.held {
                Some(held) => held.add(&batch.messages, subscriber.connection.bound()),
                None => *sent += subscriber.send(batch),
            }
        }
        (end < state.high).then_some(end)
    }

    fn release(&self, slot: usize, id: u32, after: u64) -> Released {
        let mut state = self.state.lock();
        let now = match &state.base {
            Base::At(base) => base.seq,
            Base::Unknown | Base::LiveOnly => 0,
        };
        let Some(subscriber) = state
            .subscribers
            .get_mut(slot)
            .filter(|subscriber| subscriber.id == id)
        else {
            return Released::Gone;
        };
        let Some(held) = subscriber.held.take() else {
            return Released::Live;
        };
        if held.overflowed || after < held.since {
            subscriber.held = Some(Box::new(Held {
                since: now,
                ..Held::default()
            }));
            return Released::Behind;
        }
        subscriber.after = after;
        let messages = held
            .messages
            .into_iter()
            .filter(|message| message.seq().is_none_or(|seq| seq > after));
        let messages: Vec<_> = messages.collect();
        if !messages.is_empty() {
            let encoding = subscriber.connection.encoding;
            say(&subscriber.connection, &messages, &concat(&messages, encoding));
        }
        Released::Live
    }

    /// A hole that cannot be filled: everybody is told, and the feed goes on from `position`. Answers the sessions
    /// that have to be told one by one.
    fn jump(&self, gap: Gap, position: Position) -> (Vec<(Arc<Connection>, u32)>, Todo) {
        let mut state = self.state.lock();
        let topic = match &self.key.subject {
            Subject::Topic(topic) => Some(topic),
            Subject::Mailbox(_) | Subject::Control => None,
        };
        let announcement = sse::event::gap(topic, gap, Some(&position));
        let mut lost = Vec::new();
        for (_, subscriber) in &mut state.subscribers {
            match &mut subscriber.held {
                Some(held) => {
                    held.overflowed = true;
                    held.messages = Vec::new();
                }
                None => match subscriber.connection.encoding {
                    Encoding::EventStream => {
                        subscriber.connection.send(&announcement);
                        subscriber.after = position.seq;
                    }
                    Encoding::WebSocketJson => {
                        lost.push((Arc::clone(&subscriber.connection), subscriber.token))
                    }
                },
            }
        }
        // What is still to be sent belongs before the gap.
        state.ready.clear();
        state.life = state.life.wrapping_add(1);
        state.base = Base::At(position);
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting_bytes = 0;
        waiting.into_iter().for_each(|message| state.sort_in(message));
        state.doubt = false;
        (lost, state.todo())
    }
}

impl Subscriber {
    fn send(&self, batch: &Batch) -> u64 {
        let new = |message: &&Arc<Message>| message.seq().is_none_or(|seq| seq > self.after);
        let encoding = self.connection.encoding;
        if batch.messages.first().as_ref().is_none_or(new) {
            say(&self.connection, &batch.messages, batch.encoded(encoding));
            return batch.messages.len() as u64;
        }
        let messages: Vec<_> = batch.messages.iter().filter(new).cloned().collect();
        if !messages.is_empty() {
            say(&self.connection, &messages, &concat(&messages, encoding));
        }
        messages.len() as u64
    }
}

/// Says `messages`, whose frames in one piece are `joined`.
fn say(connection: &Arc<Connection>, messages: &[Arc<Message>], joined: &Bytes) {
    let encoding = connection.encoding;
    connection.send_all(joined, messages.iter().map(|message| message.encoded(encoding)));
}

impl State {
    fn sort_in(&mut self, message: Arc<Message>) {
        let (Base::At(base), Some(position)) = (&mut self.base, &message.position) else {
            match (&self.base, &message.position) {
                (Base::Unknown, Some(_)) => self.wait(message),
                _ => self.ready.push_back(message),
            }
            return;
        };
        if position.epoch != base.epoch {
            // Only the store can say which of the two is the present one.
            self.doubt = true;
            return;
        }
        match position.seq {
            seq if seq <= base.seq => {}
            seq if seq == base.seq + 1 => {
                base.seq = seq;
                self.ready.push_back(message);
                self.take_waiting();
            }
            _ => self.wait(message),
        }
    }

    /// What waits and now continues the sequence.
    fn take_waiting(&mut self) {
        let Base::At(base) = &mut self.base else { return };
        let mut taken = 0;
        for message in &self.waiting {
            match message.seq() {
                Some(seq) if seq <= base.seq => {}
                Some(seq) if seq == base.seq + 1 => {
                    base.seq = seq;
                    self.ready.push_back(Arc::clone(message));
                }
                _ => break,
            }
            self.waiting_bytes -= message.weight();
            taken += 1;
        }
        self.waiting.drain(..taken);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }

    fn wait(&mut self, message: Arc<Message>) {
        let key = |message: &Arc<Message>| message.seq();
        let Err(at) = self.waiting.binary_search_by_key(&message.seq(), key) else {
            return;
        };
        if self.waiting.len() >= HELD_MESSAGES || self.waiting_bytes + message.weight() > WAITING_BYTES {
            // The store has them all.
            self.waiting = Vec::new();
            self.waiting_bytes = 0;
            self.doubt = true;
            return;
        }
        self.waiting_bytes += message.weight();
        self.waiting.insert(at, message);
    }

    fn hole(&self) -> bool {
        matches!(self.base, Base::At(_)) && (self.doubt || !self.waiting.is_empty())
    }

    fn todo(&mut self) -> Todo {
        Todo {
            fan_out: !self.ready.is_empty() && !std::mem::replace(&mut self.sending, true),
            many: self.subscribers.len() > STRIDE,
            catch_up: self.hole() && !std::mem::replace(&mut self.catching_up, true),
        }
    }
}
