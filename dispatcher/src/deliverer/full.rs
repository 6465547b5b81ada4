//! Lanes that had more due than slots: whose turn it is when a slot comes free.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use carillon_domain::{ChannelKind, TenantId, Timestamp, ports::Lane};

use super::schedule::{Due, Schedule};

/// Full lanes that are remembered, so that a slot that comes free is theirs; others come back when their parking ends.
const REMEMBERED: usize = 16_384;

/// Lanes that had more due than slots.
#[derive(Default)]
pub(super) struct FullLanes {
    queues: HashMap<(ChannelKind, Lane), VecDeque<Due>>,
    /// Those whose tenant may have no more of the lane now.
    aside: HashMap<(ChannelKind, Lane, TenantId), VecDeque<Due>>,
    known: HashSet<Due>,
}

impl FullLanes {
    pub(super) fn push(&mut self, due: Due) {
        if self.known.len() < REMEMBERED && self.known.insert(due.clone()) {
            self.queues
                .entry((due.channel.clone(), Arc::clone(&due.lane)))
                .or_default()
                .push_back(due);
        }
    }

    /// Takes back what was taken and got no slot: its turn comes before theirs who wait for less long.
    pub(super) fn give_back(&mut self, dues: Vec<Due>) {
        for due in dues.into_iter().rev() {
            if self.known.insert(due.clone()) {
                self.queues
                    .entry((due.channel.clone(), Arc::clone(&due.lane)))
                    .or_default()
                    .push_front(due);
            }
        }
    }

    /// Up to `most` of each lane that has room, those first that wait the longest. Those whose tenant may have no more
    /// there are set aside until he may: they keep nobody else's turn.
    pub(super) fn take(&mut self, schedule: &Schedule, now: Timestamp, most: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        let queues = &mut self.queues;
        self.aside.retain(|(channel, lane, tenant), dues| {
            if schedule.has_room_for(channel, lane, tenant) {
                let count = dues.len().min(most);
                queues
                    .entry((channel.clone(), Arc::clone(lane)))
                    .or_default()
                    .extend(dues.drain(..count));
            }
            !dues.is_empty()
        });
        let aside = &mut self.aside;
        self.queues.retain(|(channel, lane), queue| {
            if !schedule.has_room(channel, lane, now) {
                return true;
            }
            let mut left = most;
            while left > 0
                && let Some(due) = queue.pop_front()
            {
                if schedule.has_room_for(channel, lane, &due.tenant) {
                    taken.push(due);
                    left -= 1;
                } else {
                    let key = (channel.clone(), Arc::clone(lane), due.tenant.clone());
                    aside.entry(key).or_default().push_back(due);
                }
            }
            !queue.is_empty()
        });
        for due in &taken {
            self.known.remove(due);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::deliverer::{breaker::Verdict, config::DeliveryConfig};

    const NOW: Timestamp = Timestamp::from_seconds(1_767_323_045);

    fn due(tenant: &str, strand: &str) -> Due {
        Due {
            channel: ChannelKind::webhook(),
            lane: Arc::from("shared.example:443"),
            tenant: tenant.parse().expect("a tenant"),
            strand: Arc::from(strand),
        }
    }

    #[test]
    fn who_may_have_no_more_of_a_lane_keeps_nobodys_turn_and_has_his_own_at_his_next_end() {
        let mut schedule = Schedule::new(DeliveryConfig {
            width: 8,
            ..DeliveryConfig::default()
        });
        let held = schedule.round(NOW, [due("a", "")], |_| Duration::from_secs(15));
        assert_eq!(held.picks[0].take, 6, "the others have two left");
        let mut full = FullLanes::default();
        full.push(due("a", ""));
        for strand in 0..100 {
            full.push(due("a", &format!("{strand:02}")));
        }
        full.push(due("b", ""));
        assert_eq!(full.take(&schedule, NOW, 64), [due("b", "")]);
        assert!(full.take(&schedule, NOW, 64).is_empty(), "they wait aside");
        let pick = &held.picks[0];
        schedule.end(&pick.due, pick.pass, Verdict::Well, NOW, 0.0);
        let taken = full.take(&schedule, NOW, 64);
        assert_eq!((taken.len(), &taken[0]), (64, &due("a", "")), "the first first");
        full.push(taken[0].clone());
        assert_eq!(full.take(&schedule, NOW, 64).len(), 38, "nothing is forgotten");
    }
}
