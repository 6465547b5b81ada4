//! Lanes that had more due than slots: whose turn it is when a slot comes free.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use carillon_domain::{ChannelKind, ports::Lane};

use super::schedule::Due;

/// Full lanes that are remembered, so that a slot that comes free is theirs; others come back when their parking ends.
const REMEMBERED: usize = 16_384;

/// Lanes that had more due than slots.
#[derive(Default)]
pub(super) struct FullLanes {
    queues: HashMap<(ChannelKind, Lane), VecDeque<Due>>,
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

    /// Some of each lane that has room, those first that wait the longest.
    pub(super) fn take(&mut self, has_room: impl Fn(&ChannelKind, &Lane) -> bool, most: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        self.queues.retain(|(channel, lane), queue| {
            if has_room(channel, lane) {
                let count = queue.len().min(most);
                taken.extend(queue.drain(..count));
            }
            !queue.is_empty()
        });
        for due in &taken {
            self.known.remove(due);
        }
        taken
    }
}
