//! What the intake accepts for now is leased in the commit that accepts it, and goes to the relay by memory: a lease of
//! its own for each batch would be another synced commit. Where the relay is behind, or away, it goes through the outbox
//! alone, as what is scheduled does. So the order of acceptance is kept: nothing is handed over while something that
//! was accepted before waits to be found.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use carillon_domain::{TenantId, Timestamp};
use parking_lot::Mutex;

use crate::{
    fresh::Fresh,
    pace::Pace,
    store::{Lease, NewNotification},
};

/// The token of a notification's first lease.
pub(crate) const FIRST: i64 = 1;

/// Between one intake and one relay.
pub(crate) struct Handover {
    /// Each with the end of the lease.
    held: Mutex<Vec<(Lease, Timestamp)>>,
    /// The most that it holds.
    most: usize,
    /// How many commits left something for the relay to find. Counted after the commit.
    left: AtomicU64,
    /// Of those, how many a whole look at the outbox has found and passed on.
    found: AtomicU64,
    /// What was handed over, until it is planned.
    pub(crate) fresh: Fresh,
    /// How far all of it may be ahead of the planner.
    pub(crate) pace: Arc<Pace>,
}

impl Handover {
    /// Holds up to `most` leases. Nothing is handed over before the relay has looked for what was there before.
    pub(crate) fn new(most: usize, pace: Arc<Pace>) -> Self {
        Self {
            held: Mutex::default(),
            most,
            left: AtomicU64::new(1),
            found: AtomicU64::new(0),
            fresh: Fresh::default(),
            pace,
        }
    }

    /// Whether the next commit may lease what it accepts: `count` notifications.
    pub(crate) fn takes(&self, count: usize) -> bool {
        let count = self.held.lock().len() + count;
        !self.is_behind() && count <= self.most && self.pace.takes(count)
    }

    /// Hands over what a commit leased `until` then, in the order of acceptance.
    pub(crate) fn give<'a>(
        &self,
        tenant: &TenantId,
        until: Timestamp,
        rows: impl Iterator<Item = &'a NewNotification> + Clone,
    ) {
        self.fresh.keep(tenant, rows.clone().cloned());
        let lease = |row: &NewNotification| Lease {
            tenant: tenant.clone(),
            notification: row.id,
            token: FIRST,
        };
        self.held.lock().extend(rows.map(|row| (lease(row), until)));
    }

    /// A commit left something in the outbox that is not handed over.
    pub(crate) fn leave(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// What was handed over since.
    pub(crate) fn take(&self) -> Vec<(Lease, Timestamp)> {
        std::mem::take(&mut *self.held.lock())
    }

    /// Whether something may wait in the outbox that is not handed over.
    pub(crate) fn is_behind(&self) -> bool {
        self.left.load(Ordering::Acquire) != self.found.load(Ordering::Acquire)
    }

    /// Whether the planner has a single job, and nothing is known to wait behind it.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.lock().is_empty() && !self.is_behind() && self.pace.handed_out() <= 1
    }

    /// Begins a look at the outbox.
    pub(crate) fn look(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }

    /// The look that began so found all that was due, and has passed it on.
    pub(crate) fn caught_up(&self, look: u64) {
        self.found.store(look, Ordering::Release);
    }

    /// The relay ends: from now on everything waits in the outbox for the next one.
    pub(crate) fn close(&self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use carillon_domain::{Category, NotificationId, Priority};

    use super::*;
    use crate::config::PlannerConfig;

    fn handover() -> Handover {
        let pace = Pace::new(&PlannerConfig::default(), Arc::default());
        Handover::new(2, Arc::new(pace))
    }

    fn accepted() -> NewNotification {
        let now = Timestamp::from_micros(1_000_000);
        NewNotification {
            id: NotificationId::at(now),
            category: Category::default(),
            priority: Priority::default(),
            collapse_key: None,
            digest_key: None,
            content: Arc::from("{}"),
            targets: Arc::from("[]"),
            channels: None,
            template: None,
            plan: None,
            critical: false,
            created_at: now,
            send_at: now,
            expires_at: now,
        }
    }

    #[test]
    fn nothing_overtakes_what_waits_in_the_outbox() {
        let handover = handover();
        assert!(!handover.takes(1), "nobody has looked yet");
        handover.caught_up(handover.look());
        assert!(handover.takes(2));
        let look = handover.look();
        handover.leave();
        handover.caught_up(look);
        assert!(!handover.takes(1), "it was committed after the look began");
        handover.caught_up(handover.look());
        assert!(handover.takes(1));
    }

    #[test]
    fn it_holds_no_more_than_its_most() {
        let handover = handover();
        handover.caught_up(handover.look());
        let rows = [accepted(), accepted()];
        let until = Timestamp::from_micros(2_000_000);
        handover.give(&TenantId::default(), until, rows.iter());
        assert!(!handover.takes(1));
        let taken = handover.take();
        let ids: Vec<_> = taken.iter().map(|(lease, _)| lease.notification).collect();
        assert_eq!(ids, [rows[0].id, rows[1].id], "in their order");
        assert!(handover.takes(2));
        assert!(!handover.takes(3));
    }
}
