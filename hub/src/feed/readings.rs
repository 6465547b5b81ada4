//! What was lately read from topics' histories. After a cut everybody comes back, most of them from the same place: one
//! reading of the store serves them all, and so do the frames that were encoded for the first.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use carillon_domain::{Position, Subject, ports::Since};
use parking_lot::Mutex;

use super::{Feed, Message};

/// How many readings are kept, and how large one may be in bytes: 16 MiB in all.
const MOST: usize = 64;
const MOST_BYTES: usize = 256 * 1024;
/// How long a reading is kept: as long as a crowd takes to come back. Who comes later reads again.
const LIFE: Duration = Duration::from_secs(5);

/// A page read from a topic's history up to its end.
type Page = Since<Arc<Message>>;

/// The last readings, oldest first.
#[derive(Default)]
pub(crate) struct Readings(Mutex<VecDeque<Reading>>);

struct Reading {
    feed: Arc<Feed>,
    from: Position,
    page: Page,
    /// In the hub's milliseconds.
    read_at: u64,
}

impl Readings {
    /// What stands behind `from`, if that was read and nothing newer has come since: then the store would say the same.
    /// Ask for a subscriber that is held already: what comes after the feed's position of now is held for it.
    pub(super) fn find(&self, feed: &Arc<Feed>, from: &Position) -> Option<Page> {
        let newest = feed.known()??;
        let readings = self.0.lock();
        let reading = readings.iter().rev().find(|reading| {
            Arc::ptr_eq(&reading.feed, feed) && reading.from == *from && reading.page.position == newest
        })?;
        Some(reading.page.clone())
    }

    /// Keeps what stands behind `from`. Mailboxes are one user's: their readings serve nobody else.
    pub(super) fn keep(&self, feed: &Arc<Feed>, from: &Position, page: &Page, now: u64) {
        let weight: usize = page.items.iter().map(|message| message.weight()).sum();
        if page.more
            || page.gap.is_some()
            || weight > MOST_BYTES
            || !matches!(feed.key.subject, Subject::Topic(_))
        {
            return;
        }
        let mut readings = self.0.lock();
        readings.retain(|reading| !Arc::ptr_eq(&reading.feed, feed) || reading.from != *from);
        if readings.len() >= MOST {
            readings.pop_front();
        }
        readings.push_back(Reading {
            feed: Arc::clone(feed),
            from: from.clone(),
            page: page.clone(),
            read_at: now,
        });
    }

    /// Lets go of what is over.
    pub(crate) fn forget(&self, now: u64) {
        let life = LIFE.as_millis() as u64;
        let mut readings = self.0.lock();
        if readings.is_empty() {
            return;
        }
        readings.retain(|reading| now.saturating_sub(reading.read_at) < life);
        if readings.is_empty() {
            *readings = VecDeque::new();
        }
    }
}
