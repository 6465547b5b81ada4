//! Wake-ups. They carry no data: whoever wakes looks for himself, so that a restart, a second instance and a lost hint
//! run the same code.

use std::time::Duration;

use carillon_domain::{Clock, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Wakes one waiter; a wake-up without a waiter is kept. All listeners hear it as well.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    one: Notify,
    all: watch::Sender<u64>,
}

impl Wake {
    pub(crate) fn wake(&self) {
        self.one.notify_one();
        self.tell();
    }

    /// Wakes the listeners alone.
    pub(crate) fn tell(&self) {
        self.all.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hears every wake-up from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }

    /// Waits for a wake-up, for `due`, or for `period`. `false`: stop.
    pub(crate) async fn wait(
        &self,
        stop: &CancellationToken,
        clock: &dyn Clock,
        due: Option<Timestamp>,
        period: Duration,
    ) -> bool {
        // The wall clock may jump; the period bounds what that can do.
        let until = due.map_or(period, |due| due.since(clock.now()).min(period));
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.one.notified() => true,
            () = tokio::time::sleep(until) => true,
        }
    }
}
