//! What the intake accepts for now is leased in the commit that accepts it, and goes to the relay by memory: a lease of
//! its own for each batch would be another synced commit. Where the relay is behind, or away, it goes through the outbox
//! alone, as what is scheduled does. So the order of acceptance is kept: nothing is handed over while something that
//! was accepted before waits to be found.

use std::sync::atomic::{AtomicU64, Ordering};

use carillon_domain::TenantId;
use parking_lot::Mutex;

use crate::{
    fresh::Fresh,
    store::{Lease, NewNotification},
};

/// The token of a notification's first lease.
pub(crate) const FIRST: i64 = 1;

/// Between one intake and one relay.
pub(crate) struct Handover {
    held: Mutex<Vec<Lease>>,
    /// The most that it holds.
    most: usize,
    /// How many commits left something for the relay to find. Counted after the commit.
    left: AtomicU64,
    /// Of those, how many a whole look at the outbox has found and passed on.
    found: AtomicU64,
    /// What was handed over, until it is planned.
    pub(crate) fresh: Fresh,
}

impl Handover {
    /// Holds up to `most` leases. Nothing is handed over before the relay has looked for what was there before.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            held: Mutex::default(),
            most,
            left: AtomicU64::new(1),
            found: AtomicU64::new(0),
            fresh: Fresh::default(),
        }
    }

    /// Whether the next commit may lease what it accepts: `count` notifications.
    pub(crate) fn takes(&self, count: usize) -> bool {
        !self.is_behind() && self.held.lock().len() + count <= self.most
    }

    /// Hands over what a commit leased, in the order of acceptance.
    pub(crate) fn give<'a>(
        &self,
        tenant: &TenantId,
        rows: impl Iterator<Item = &'a NewNotification> + Clone,
    ) {
        self.fresh.keep(tenant, rows.clone().cloned());
        self.held.lock().extend(rows.map(|row| Lease {
            tenant: tenant.clone(),
            notification: row.id,
            token: FIRST,
        }));
    }

    /// A commit left something in the outbox that is not handed over.
    pub(crate) fn leave(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// What was handed over since.
    pub(crate) fn take(&self) -> Vec<Lease> {
        std::mem::take(&mut *self.held.lock())
    }

    /// Whether something may wait in the outbox that is not handed over.
    pub(crate) fn is_behind(&self) -> bool {
        self.left.load(Ordering::Acquire) != self.found.load(Ordering::Acquire)
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
    use std::sync::Arc;

    use carillon_domain::{Category, NotificationId, Priority, Timestamp};

    use super::*;

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
        let handover = Handover::new(2);
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
        let handover = Handover::new(2);
        handover.caught_up(handover.look());
        let rows = [accepted(), accepted()];
        handover.give(&TenantId::default(), rows.iter());
        assert!(!handover.takes(1));
        let ids: Vec<_> = handover.take().iter().map(|lease| lease.notification).collect();
        assert_eq!(ids, [rows[0].id, rows[1].id], "in their order");
        assert!(handover.takes(2));
        assert!(!handover.takes(3));
    }
}
