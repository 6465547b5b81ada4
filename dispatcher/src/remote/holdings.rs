//! What workers have under way on this node: slots, turns and breakers, and whose they are.

use std::collections::HashMap;

use carillon_domain::{DeliveryId, TenantId, Timestamp};

use super::WorkerKey;
use crate::deliverer::{
    breaker::{Pass, Verdict},
    config::DeliveryConfig,
    schedule::{Due, LaneStanding, Schedule},
};

/// Tenants whose workers' lanes are remembered; those at ease are forgotten beyond.
const MAX_TENANTS: usize = 4_096;

/// Who has a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// By which key he came.
    pub(crate) key: WorkerKey,
    /// Over which stream; none for a pull.
    pub(crate) stream: Option<u64>,
}

/// A delivery that a worker has.
pub(super) struct Held {
    /// Of its attempt.
    pub(super) number: u32,
    /// Which schedule its slot is of.
    pub(super) served: Option<TenantId>,
    pub(super) due: Due,
    pub(super) pass: Pass,
    pub(super) until: Timestamp,
    pub(super) holder: Holder,
}

/// All of them. Workers of one tenant have slots and breakers of their own: what one tenant's worker does is nothing to
/// another's.
pub(super) struct Holdings {
    config: DeliveryConfig,
    schedules: HashMap<Option<TenantId>, Schedule>,
    held: HashMap<(TenantId, DeliveryId), Held>,
    streams: u64,
}

impl Holdings {
    pub(super) fn new(config: DeliveryConfig) -> Self {
        Self {
            config,
            schedules: HashMap::new(),
            held: HashMap::new(),
            streams: 0,
        }
    }

    /// A number for a new stream.
    pub(super) fn stream(&mut self) -> u64 {
        self.streams += 1;
        self.streams
    }

    /// The slots and breakers of those workers.
    pub(super) fn schedule(&mut self, served: Option<&TenantId>) -> &mut Schedule {
        if self.schedules.len() >= MAX_TENANTS && !self.schedules.contains_key(&served.cloned()) {
            self.schedules.retain(|_, schedule| schedule.under_way() > 0);
        }
        self.schedules
            .entry(served.cloned())
            .or_insert_with(|| match served {
                Some(_) => Schedule::of_one_tenant(self.config.clone()),
                None => Schedule::new(self.config.clone()),
            })
    }

    /// How many more deliveries a holder may get.
    pub(super) fn room(&self, holder: Holder, in_flight: usize, limit: usize) -> usize {
        let of_key = self.count(|held| held.holder.key == holder.key);
        let room = in_flight.saturating_sub(of_key);
        let of_stream = match holder.stream {
            Some(stream) => self.count(|held| held.holder.stream == Some(stream)),
            None => 0,
        };
        room.min(limit.saturating_sub(of_stream))
    }

    fn count(&self, which: impl Fn(&Held) -> bool) -> usize {
        self.held.values().filter(|held| which(held)).count()
    }

    pub(super) fn hold(&mut self, key: (TenantId, DeliveryId), held: Held, now: Timestamp) {
        // Its last lease ended, and nobody answered.
        if let Some(old) = self.held.insert(key, held) {
            self.give_back(&old, Verdict::Unknown, now);
        }
    }

    /// An attempt ended, by an answer; leases that another node handed out are not known here.
    pub(super) fn end(
        &mut self,
        key: &(TenantId, DeliveryId),
        number: u32,
        verdict: Verdict,
        now: Timestamp,
    ) {
        if self.held.get(key).is_some_and(|held| held.number == number)
            && let Some(held) = self.held.remove(key)
        {
            self.give_back(&held, verdict, now);
        }
    }

    pub(super) fn extend(&mut self, key: &(TenantId, DeliveryId), number: u32, until: Timestamp) {
        if let Some(held) = self.held.get_mut(key)
            && held.number == number
        {
            held.until = until;
        }
    }

    /// Gives back the slots of leases that ended without an answer.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let ended: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.until <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            if let Some(held) = self.held.remove(&key) {
                self.give_back(&held, Verdict::Unknown, now);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.schedules.values().map(Schedule::under_way).sum()
    }

    /// How the lanes stand that workers of this tenant, or of all tenants, serve.
    pub(super) fn standings(&self, tenant: Option<&TenantId>, now: Timestamp) -> Vec<LaneStanding> {
        self.schedules
            .iter()
            .filter(|(served, _)| served.is_none() || tenant.is_none() || served.as_ref() == tenant)
            .flat_map(|(_, schedule)| match tenant {
                Some(tenant) => schedule.standings_of(tenant, now),
                None => schedule.standings(now),
            })
            .collect()
    }

    fn give_back(&mut self, held: &Held, verdict: Verdict, now: Timestamp) {
        if let Some(schedule) = self.schedules.get_mut(&held.served) {
            schedule.end(&held.due, held.pass, verdict, now, rand::random());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_323_045);

    fn due() -> Due {
        Due {
            channel: "sms".parse().expect("a channel"),
            lane: Arc::from("sms"),
            tenant: TenantId::default(),
            strand: Arc::from(""),
        }
    }

    fn hold(holdings: &mut Holdings, stream: Option<u64>) -> (TenantId, DeliveryId) {
        let round = holdings
            .schedule(None)
            .round_of(NOW, [due()], |_| Duration::from_secs(60), 1);
        let pick = round.picks.first().expect("a slot");
        let key = (TenantId::default(), DeliveryId::at(NOW));
        let held = Held {
            number: 1,
            served: None,
            due: due(),
            pass: pick.pass,
            until: NOW.after(Duration::from_secs(60)),
            holder: Holder { key: None, stream },
        };
        holdings.hold(key.clone(), held, NOW);
        key
    }

    #[test]
    fn what_a_key_and_a_stream_have_counts_against_them_until_it_ends() {
        let mut holdings = Holdings::new(DeliveryConfig::default());
        let stream = holdings.stream();
        let holder = |stream| Holder { key: None, stream };
        let first = hold(&mut holdings, Some(stream));
        hold(&mut holdings, None);
        assert_eq!(holdings.room(holder(Some(stream)), 10, 2), 1);
        assert_eq!(holdings.room(holder(None), 10, 100), 8);
        holdings.end(&first, 2, Verdict::Well, NOW);
        assert_eq!(
            holdings.room(holder(Some(stream)), 10, 2),
            1,
            "an old attempt ends nothing"
        );
        holdings.end(&first, 1, Verdict::Well, NOW);
        assert_eq!(holdings.room(holder(Some(stream)), 10, 2), 2);
        assert_eq!(holdings.schedule(None).under_way(), 1);
        holdings.sweep(NOW.after(Duration::from_secs(60)));
        assert_eq!(holdings.schedule(None).under_way(), 0, "its lease ended");
    }
}
