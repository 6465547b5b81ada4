//! Schedule: whose turn it is. Due lanes go in, what to lease comes out; nothing is read or sent here.
//!
//! A lane is what fails together within a channel. It has a fixed width on this node, so that a slow one fills its own
//! slots and nobody else's; its tenants get slots in turn, each tenant's strands in turn again; a strand has one
//! delivery under way at a time. All lanes together have a width too, since their number has no bound: slots are dealt
//! one at a time from lane to lane, and the last quarter goes only to lanes that have none.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{ChannelKind, TenantId, Timestamp, ports::Lane};

use super::{
    breaker::{Admits, Breaker, Pass, Standing, Verdict},
    config::DeliveryConfig,
};

/// Lanes that are remembered at the most; new ones wait beyond.
const MAX_LANES: usize = 65_536;

/// Tenants of a lane whose strands' turns are remembered at the most.
const MAX_TURNS: usize = 4_096;

/// How long a lane without work is remembered, for its turns.
const IDLE: Duration = Duration::from_secs(600);

/// When a lane without a free slot is looked at again, should no attempt of it end before on this node. Short, because
/// another node may have room.
const FULL: Duration = Duration::from_secs(2);

/// A lane of one tenant that has something due: a row of `lanes`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Due {
    /// Over which channel.
    pub(crate) channel: ChannelKind,
    /// Within which lane.
    pub(crate) lane: Lane,
    /// Whose.
    pub(crate) tenant: TenantId,
    /// What must stay in order; empty where nothing must.
    pub(crate) strand: Arc<str>,
}

/// What to lease.
#[derive(Debug)]
pub(crate) struct Pick {
    /// From where.
    pub(crate) due: Due,
    /// How many deliveries at the most. Each of them has a slot from now on, until [`Schedule::end`] or
    /// [`Schedule::unused`].
    pub(crate) take: usize,
    /// Goes to [`Schedule::end`] with each of them.
    pub(crate) pass: Pass,
}

/// What cannot be leased now, and when to look again: the new `lanes.due_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Park {
    /// What.
    pub(crate) due: Due,
    /// When to look again.
    pub(crate) until: Timestamp,
    /// Why.
    pub(crate) reason: Parked,
}

/// Why a lane is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// All its slots are taken, or its strand has a delivery under way.
    Full,
    /// Its breaker is open, or has its one attempt under way.
    Breaker,
}

/// What to do with due lanes. What is in neither list has its turn in the next round.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Lease these.
    pub(crate) picks: Vec<Pick>,
    /// Put these off.
    pub(crate) parks: Vec<Park>,
}

/// One lane's breaker, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneStanding {
    /// Which channel.
    pub(crate) channel: ChannelKind,
    /// Which lane.
    pub(crate) lane: Lane,
    /// Slots that are taken.
    pub(crate) under_way: usize,
    /// How its breaker stands.
    pub(crate) breaker: Standing,
}

/// Slots, turns and breakers of all lanes on this node.
#[derive(Debug)]
pub(crate) struct Schedule {
    config: DeliveryConfig,
    lanes: HashMap<(ChannelKind, Lane), LaneState>,
    /// Slots taken in all lanes.
    under_way: usize,
    /// The lane that was dealt to last.
    last: Option<(ChannelKind, Lane)>,
    swept: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct LaneState {
    breaker: Breaker,
    under_way: usize,
    /// Strands with a delivery under way.
    strands: HashSet<(TenantId, Arc<str>)>,
    /// The tenant that was dealt to last.
    last: Option<TenantId>,
    /// The strand of each tenant that was dealt to last.
    last_strands: HashMap<TenantId, Arc<str>>,
    used: Timestamp,
}

/// One lane's part of a round.
struct Table {
    key: (ChannelKind, Lane),
    /// Slots that it may still get.
    free: usize,
    /// Tenants in turn, each with its strands in turn.
    tenants: VecDeque<(TenantId, VecDeque<Arc<str>>)>,
    dealt: BTreeMap<(TenantId, Arc<str>), usize>,
}

impl Schedule {
    /// Nothing under way, all breakers closed.
    pub(crate) fn new(config: DeliveryConfig) -> Self {
        Self {
            config,
            lanes: HashMap::new(),
            under_way: 0,
            last: None,
            swept: None,
        }
    }

    /// Deals slots to what is due. `patience` is each channel's longest attempt. At most [`DeliveryConfig::batch`] slots
    /// are dealt. Where it neither picks nor parks, all slots are taken: the end of an attempt brings the next round.
    pub(crate) fn round(
        &mut self,
        now: Timestamp,
        dues: impl IntoIterator<Item = Due>,
        patience: impl Fn(&ChannelKind) -> Duration,
    ) -> Round {
        self.round_of(now, dues, patience, self.config.batch)
    }

    /// As [`Self::round`], with at most `most` slots.
    pub(crate) fn round_of(
        &mut self,
        now: Timestamp,
        dues: impl IntoIterator<Item = Due>,
        patience: impl Fn(&ChannelKind) -> Duration,
        most: usize,
    ) -> Round {
        self.sweep(now);
        let mut round = Round::default();
        let mut tables = self.tables(now, dues, &mut round);
        self.deal(&mut tables, most.min(self.config.batch));
        for table in tables {
            let Some(state) = self.lanes.get_mut(&table.key) else {
                continue;
            };
            for ((tenant, strand), take) in table.dealt {
                // A lease is longer than an attempt by the margin; after that the outcome is refused.
                let deadline = now.after(patience(&table.key.0) + self.config.lease_margin.duration());
                let pass = state.breaker.begin(deadline);
                if !strand.is_empty() {
                    state.strands.insert((tenant.clone(), Arc::clone(&strand)));
                }
                round.picks.push(Pick {
                    due: Due {
                        channel: table.key.0.clone(),
                        lane: Arc::clone(&table.key.1),
                        tenant,
                        strand,
                    },
                    take,
                    pass,
                });
            }
        }
        round
    }

    /// `count` of the slots of a pick found nothing to lease.
    pub(crate) fn unused(&mut self, pick: &Pick, count: usize, now: Timestamp) {
        for _ in 0..count {
            self.end(&pick.due, pick.pass, Verdict::Unknown, now, 0.0);
        }
    }

    /// An attempt ended and is settled. `random`, from 0 to 1, is the breaker's draw.
    pub(crate) fn end(&mut self, due: &Due, pass: Pass, verdict: Verdict, now: Timestamp, random: f64) {
        let key = (due.channel.clone(), Arc::clone(&due.lane));
        let Some(state) = self.lanes.get_mut(&key) else {
            return;
        };
        if state.under_way > 0 {
            state.under_way -= 1;
            self.under_way = self.under_way.saturating_sub(1);
        }
        if !due.strand.is_empty() {
            state
                .strands
                .remove(&(due.tenant.clone(), Arc::clone(&due.strand)));
        }
        state.used = now;
        state
            .breaker
            .end(&self.config.breaker, pass, verdict, now, random);
    }

    /// Slots that are taken in all lanes.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether any lane could be dealt a slot.
    pub(crate) fn has_slot(&self) -> bool {
        self.under_way < self.config.total_width
    }

    /// Whether a lane could be leased from at `now`.
    pub(crate) fn has_room(&self, channel: &ChannelKind, lane: &Lane, now: Timestamp) -> bool {
        let taken = self
            .lanes
            .get(&(channel.clone(), Arc::clone(lane)))
            .map_or(Ok(0), |state| {
                match state.breaker.admits(&self.config.breaker, now) {
                    Admits::Nothing(until) => Err(until),
                    _ => Ok(state.under_way),
                }
            });
        taken.is_ok_and(|taken| taken < self.config.width_of(channel))
    }

    /// Lanes that this node remembers: all with something under way, and all whose breaker is not at ease.
    pub(crate) fn standings(&self, now: Timestamp) -> impl Iterator<Item = LaneStanding> {
        self.lanes
            .iter()
            .map(move |((channel, lane), state)| LaneStanding {
                channel: channel.clone(),
                lane: Arc::clone(lane),
                under_way: state.under_way,
                breaker: state.breaker.standing(&self.config.breaker, now),
            })
    }

    /// Sorts what is due by lane; parks what cannot be served now.
    fn tables(
        &mut self,
        now: Timestamp,
        dues: impl IntoIterator<Item = Due>,
        round: &mut Round,
    ) -> Vec<Table> {
        let mut by_lane: BTreeMap<(ChannelKind, Lane), Vec<Due>> = BTreeMap::new();
        for due in dues {
            let key = (due.channel.clone(), Arc::clone(&due.lane));
            by_lane.entry(key).or_default().push(due);
        }
        let mut tables = Vec::with_capacity(by_lane.len());
        for (key, dues) in by_lane {
            if self.lanes.len() >= MAX_LANES && !self.lanes.contains_key(&key) {
                let until = now.after(FULL);
                round
                    .parks
                    .extend(dues.into_iter().map(|due| Park::full(due, until)));
                continue;
            }
            let width = self.config.width_of(&key.0);
            let state = self.lanes.entry(key.clone()).or_default();
            state.used = now;
            let room = width.saturating_sub(state.under_way);
            let free = match state.breaker.admits(&self.config.breaker, now) {
                Admits::All => room,
                Admits::One => room.min(1),
                Admits::Nothing(until) => {
                    round.parks.extend(dues.into_iter().map(|due| Park {
                        due,
                        until,
                        reason: Parked::Breaker,
                    }));
                    continue;
                }
            };
            let mut tenants: BTreeMap<TenantId, BTreeSet<Arc<str>>> = BTreeMap::new();
            for due in dues {
                let taken = !due.strand.is_empty()
                    && state
                        .strands
                        .contains(&(due.tenant.clone(), Arc::clone(&due.strand)));
                if free == 0 || taken {
                    round.parks.push(Park::full(due, now.after(FULL)));
                } else {
                    tenants.entry(due.tenant).or_default().insert(due.strand);
                }
            }
            let tenants = in_turn(tenants, |(tenant, _)| {
                state.last.as_ref().is_none_or(|last| tenant > last)
            });
            tables.push(Table {
                key,
                free,
                tenants: tenants
                    .map(|(tenant, strands)| {
                        let last = state.last_strands.get(&tenant);
                        let strands = in_turn(strands, |strand| last.is_none_or(|last| strand > last));
                        (tenant, strands.collect())
                    })
                    .collect(),
                dealt: BTreeMap::new(),
            });
        }
        let first = tables.partition_point(|table| self.last.as_ref().is_some_and(|last| table.key <= *last));
        tables.rotate_left(first);
        tables
    }

    /// One slot for each lane in turn, until `left` are dealt or nobody may have more.
    fn deal(&mut self, tables: &mut [Table], mut left: usize) {
        let total = self.config.total_width;
        let shared = total - total / 4;
        let mut dealt = true;
        while dealt {
            dealt = false;
            for table in tables.iter_mut() {
                let Some(state) = self.lanes.get_mut(&table.key) else {
                    continue;
                };
                let bound = if state.under_way == 0 { total } else { shared };
                if left == 0 || table.free == 0 || self.under_way >= bound {
                    continue;
                }
                let Some((tenant, mut strands)) = table.tenants.pop_front() else {
                    continue;
                };
                if let Some(strand) = strands.pop_front() {
                    // What has no order may have several; a strand has one.
                    if strand.is_empty() {
                        strands.push_back(Arc::clone(&strand));
                    }
                    *table
                        .dealt
                        .entry((tenant.clone(), Arc::clone(&strand)))
                        .or_default() += 1;
                    table.free -= 1;
                    state.under_way += 1;
                    self.under_way += 1;
                    left -= 1;
                    state.last = Some(tenant.clone());
                    state.remember(&tenant, &strand);
                    self.last = Some(table.key.clone());
                    dealt = true;
                }
                if !strands.is_empty() {
                    table.tenants.push_back((tenant, strands));
                }
            }
        }
    }

    /// Forgets lanes that had no work for a while.
    fn sweep(&mut self, now: Timestamp) {
        // A clock that was set back sweeps at once, and forgets nothing.
        if self
            .swept
            .is_some_and(|swept| now >= swept && now.since(swept) < IDLE / 10)
        {
            return;
        }
        self.swept = Some(now);
        let config = &self.config.breaker;
        let longest = config.longest.duration();
        self.lanes.retain(|_, state| {
            let idle = now.since(state.used);
            let forgotten = idle >= IDLE && (state.breaker.is_untroubled() || idle >= IDLE + 2 * longest);
            state.under_way > 0 || !forgotten
        });
    }
}

impl LaneState {
    fn remember(&mut self, tenant: &TenantId, strand: &Arc<str>) {
        // Beyond that many, turns begin anew: each still gets one.
        if self.last_strands.len() >= MAX_TURNS && !self.last_strands.contains_key(tenant) {
            self.last_strands.clear();
        }
        self.last_strands.insert(tenant.clone(), Arc::clone(strand));
    }
}

/// In their order, beginning with the first that is `after` the one that had the last turn.
fn in_turn<T>(all: impl IntoIterator<Item = T>, after: impl Fn(&T) -> bool) -> impl Iterator<Item = T> {
    let (first, then): (Vec<T>, Vec<T>) = all.into_iter().partition(after);
    first.into_iter().chain(then)
}

impl Park {
    fn full(due: Due, until: Timestamp) -> Self {
        Self {
            due,
            until,
            reason: Parked::Full,
        }
    }
}

#[cfg(test)]
mod tests;
