//! How a subscription begins: where it starts, what it missed, and when it is live.
//!
//! First the subscriber is held, so that nothing is lost from here on; then the store is read, unless the feed
//! knows already that there is nothing new; at last what was held follows what was read.

use std::sync::Arc;

use carillon_domain::{
    DeviceName, Position, Subject, UserId,
    ports::{Gap, Since, Unavailable},
};

use super::{Feed, FeedKey, Message, Subscription};
use crate::{connection::Connection, hub::Hub};

/// How much is read from the store at a time.
pub(crate) const PAGE: usize = 64;

/// Where a client wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// With what comes from now on.
    Now,
    /// Behind a position.
    After(Position),
    /// Behind a number of whatever epoch is the present one.
    AfterSeq(u64),
    /// With the oldest that is kept.
    Earliest,
    /// The text was no position, or there was none where one is needed: announced, then from now on.
    Lost(Gap),
}

/// A held subscription and what stands before it.
pub(crate) struct Opening {
    pub(crate) subscription: Subscription,
    /// Where the subscriber stands before `messages`; `None` in a live-only topic.
    pub(crate) start: Option<Position>,
    /// The hole to announce; then `start` is the newest position.
    pub(crate) gap: Option<Gap>,
    /// What follows `start`, as far as it was read.
    pub(crate) messages: Vec<Arc<Message>>,
    /// Whether the store has more behind `messages`.
    pub(crate) more: bool,
    /// How many there are in all between `start` and the newest.
    pub(crate) behind: u64,
}

impl Opening {
    /// Gives up what was missed: the subscriber goes on from the newest.
    pub(crate) fn skip(&mut self, newest: Position) {
        self.start = Some(newest);
        self.messages = Vec::new();
        self.more = false;
    }
}

impl Hub {
    /// Opens a held subscription of `connection`, which calls it `token`.
    pub(crate) async fn open(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        token: u32,
        key: FeedKey,
        resume: Resume,
        device: Option<&DeviceName>,
    ) -> Result<Opening, Unavailable> {
        let resume = match (&key.subject, resume) {
            (Subject::Mailbox(user), Resume::After(position)) => {
                Resume::After(self.unconfirmed(&key, *user, position, device).await?)
            }
            (_, resume) => resume,
        };
        let subscription = self.registry.hold(self, key, connection, token).await?;
        // From here on it goes when the connection goes, also if nobody waits for this any more.
        self.keep(connection, token, &subscription);
        match self.begin_at(&subscription, resume).await {
            Ok(begin) => Ok(Opening {
                subscription,
                start: begin.start,
                gap: begin.gap,
                messages: begin.messages,
                more: begin.more,
                behind: begin.behind,
            }),
            Err(error) => {
                self.drop_subscription(connection, token);
                Err(error)
            }
        }
    }

    /// What a device has not confirmed is sent again: it starts at the earlier of the two.
    async fn unconfirmed(
        &self,
        key: &FeedKey,
        user: UserId,
        presented: Position,
        device: Option<&DeviceName>,
    ) -> Result<Position, Unavailable> {
        let Some(device) = device else {
            return Ok(presented);
        };
        let confirmed = self.ports.inbox.confirmed(&key.tenant, user, device).await?;
        Ok(confirmed
            .filter(|confirmed| confirmed.epoch == presented.epoch && confirmed.seq < presented.seq)
            .unwrap_or(presented))
    }

    async fn begin_at(
        self: &Arc<Self>,
        subscription: &Subscription,
        resume: Resume,
    ) -> Result<Begin, Unavailable> {
        let feed = subscription.feed();
        match resume {
            Resume::Now => Ok(Begin::at(self.newest(feed).await?, None)),
            Resume::Lost(gap) => Ok(Begin::at(self.newest(feed).await?, Some(gap))),
            Resume::After(position) => {
                if feed.known() == Some(Some(position.clone())) {
                    return Ok(Begin::at(Some(position), None));
                }
                self.read(feed, position).await
            }
            Resume::AfterSeq(seq) => match self.newest(feed).await? {
                None => Ok(Begin::at(None, Some(Gap::Unknown))),
                Some(newest) if newest.seq == seq => Ok(Begin::at(Some(newest), None)),
                Some(newest) => {
                    self.read(
                        feed,
                        Position {
                            epoch: newest.epoch,
                            seq,
                        },
                    )
                    .await
                }
            },
            Resume::Earliest => match self.newest(feed).await? {
                None => Ok(Begin::at(None, None)),
                Some(newest) => {
                    let oldest = self.oldest(&feed.key, newest).await?;
                    self.read(feed, oldest).await
                }
            },
        }
    }

    async fn read(self: &Arc<Self>, feed: &Arc<Feed>, position: Position) -> Result<Begin, Unavailable> {
        if let Some(page) = self.readings.find(feed, &position) {
            let behind = page.position.seq.saturating_sub(position.seq);
            return Ok(Begin {
                start: Some(position),
                gap: None,
                messages: page.items,
                more: false,
                behind,
            });
        }
        let Some(page) = self.since(&feed.key, &position).await? else {
            // Without a history there is nothing to resume.
            self.settle(feed, None);
            return Ok(Begin::at(None, Some(Gap::Unknown)));
        };
        if let Some(gap) = page.gap {
            self.settle(feed, Some(page.position.clone()));
            return Ok(Begin::at(Some(page.position), Some(gap)));
        }
        let newest = if page.more {
            self.newest(feed).await?.unwrap_or_else(|| page.position.clone())
        } else {
            self.settle(feed, Some(page.position.clone()));
            self.readings.keep(feed, &position, &page, self.shared.millis());
            page.position
        };
        let behind = newest.seq.saturating_sub(position.seq);
        Ok(Begin {
            start: Some(position),
            gap: None,
            messages: page.items,
            more: page.more,
            behind,
        })
    }

    /// Where the feed ends: what it knows itself, else what the store says.
    pub(crate) async fn newest(self: &Arc<Self>, feed: &Arc<Feed>) -> Result<Option<Position>, Unavailable> {
        if let Some(known) = feed.known() {
            return Ok(known);
        }
        let key = &feed.key;
        let newest = match &key.subject {
            Subject::Mailbox(user) => Some(self.ports.inbox.head(&key.tenant, *user).await?),
            Subject::Topic(topic) => self.ports.topics.head(&key.tenant, topic).await?,
            Subject::Control => None,
        };
        self.settle(feed, newest.clone());
        // Another subscriber may have settled the feed at a later position meanwhile.
        Ok(feed.known().unwrap_or(newest))
    }

    /// The position before the oldest change that is kept. Rare: only who asks for `earliest` pays for the search.
    async fn oldest(&self, key: &FeedKey, newest: Position) -> Result<Position, Unavailable> {
        let at = |seq| Position {
            epoch: newest.epoch.clone(),
            seq,
        };
        let (mut low, mut high) = (0, newest.seq);
        while low < high {
            let middle = if low == 0 && high == newest.seq {
                0
            } else {
                low + (high - low) / 2
            };
            let kept = self
                .page(key, &at(middle), 1)
                .await?
                .is_some_and(|page| page.gap.is_none());
            if kept { high = middle } else { low = middle + 1 }
        }
        Ok(at(high))
    }

    /// The next page behind `position`; `None`: the topic has no history.
    pub(crate) async fn since(
        &self,
        key: &FeedKey,
        position: &Position,
    ) -> Result<Option<Since<Arc<Message>>>, Unavailable> {
        self.page(key, position, PAGE).await
    }

    async fn page(
        &self,
        key: &FeedKey,
        position: &Position,
        limit: usize,
    ) -> Result<Option<Since<Arc<Message>>>, Unavailable> {
        match &key.subject {
            Subject::Mailbox(user) => {
                let page = self
                    .ports
                    .inbox
                    .since(&key.tenant, *user, position, limit)
                    .await?;
                let items = page.items.into_iter().map(Message::from_change).collect();
                Ok(Some(Since {
                    items,
                    position: page.position,
                    more: page.more,
                    gap: page.gap,
                }))
            }
            Subject::Topic(topic) => {
                let Some(page) = self
                    .ports
                    .topics
                    .since(&key.tenant, topic, position, limit)
                    .await?
                else {
                    return Ok(None);
                };
                let items = page
                    .items
                    .into_iter()
                    .map(|item| Message::from_publication(topic, item))
                    .collect();
                Ok(Some(Since {
                    items,
                    position: page.position,
                    more: page.more,
                    gap: page.gap,
                }))
            }
            Subject::Control => Ok(None),
        }
    }

    fn settle(self: &Arc<Self>, feed: &Arc<Feed>, newest: Option<Position>) {
        let todo = feed.settle(newest);
        self.act(feed, todo);
    }
}

struct Begin {
    start: Option<Position>,
    gap: Option<Gap>,
    messages: Vec<Arc<Message>>,
    more: bool,
    behind: u64,
}

impl Begin {
    fn at(start: Option<Position>, gap: Option<Gap>) -> Self {
        Self {
            start,
            gap,
            messages: Vec::new(),
            more: false,
            behind: 0,
        }
    }
}
