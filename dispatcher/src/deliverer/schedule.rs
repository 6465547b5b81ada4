//! Schedule: whose turn it is. Due lanes go in, what to lease comes out; nothing is read or sent here.
//!
//! A lane is what fails together within a channel. It has a fixed width on this node, so that a slow one fills its own
//! slots and nobody else's; a strand has one delivery under way at a time. All lanes together have a width too, since
//! their number has no bound and a tenant makes as many as he likes: slots are dealt one at a time from tenant to tenant,
//! each tenant's lanes in turn, each lane's strands in turn again. Of a lane that has too few, its tenants get slots in
//! turn. A tenant holds at most seven times as many slots as are free, three times as many where the lane has some under
//! way: whoever hangs, somebody else finds a slot. Of one lane he holds at most three quarters, and its last slot goes to
//! somebody who has none there. Who may have no more of a lane waits for an end in it, and the others' turns go on.
//!
//! A breaker is the lane's, for all its tenants. Where callers choose the lane, by a URL, each tenant has a breaker of his
//! own: one who has a host answer badly closes it for nobody else.

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
    /// All its slots are taken, those that are free are for other tenants, or its strand has a delivery under way.
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

/// One breaker, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneStanding {
    /// Whose, where each tenant has his own, or where it was asked for one tenant.
    pub(crate) tenant: Option<TenantId>,
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
    /// Whether its lanes are several tenants'.
    is_shared: bool,
    lanes: HashMap<(ChannelKind, Lane), LaneState>,
    /// Slots taken in all lanes.
    under_way: usize,
    /// The same by tenant, where there are any.
    tenants: HashMap<TenantId, usize>,
    /// The lane that was dealt to last.
    last: Option<(ChannelKind, Lane)>,
    /// The tenant that was dealt to last.
    last_tenant: Option<TenantId>,
    swept: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct LaneState {
    breaker: Breaker,
    /// Each tenant's own, where callers choose the lane; it is closed where there is none.
    own: HashMap<TenantId, Breaker>,
    under_way: usize,
    /// The same by tenant, where there are any.
    tenants: HashMap<TenantId, usize>,
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
    /// Tenants in turn.
    tenants: VecDeque<Waiting>,
    dealt: BTreeMap<(TenantId, Arc<str>), usize>,
}

/// One tenant's part of a lane's round.
#[derive(Clone)]
struct Waiting {
    tenant: TenantId,
    /// Slots that his breaker leaves him.
    most: usize,
    /// In turn.
    strands: VecDeque<Arc<str>>,
}

/// What a tenant may be dealt, by the lane's place in the round: strands, and how many of each.
type Hand = VecDeque<(usize, VecDeque<(Arc<str>, usize)>)>;

impl Schedule {
    /// Nothing under way, all breakers closed.
    pub(crate) fn new(config: DeliveryConfig) -> Self {
        Self {
            config,
            is_shared: true,
            lanes: HashMap::new(),
            under_way: 0,
            tenants: HashMap::new(),
            last: None,
            last_tenant: None,
            swept: None,
        }
    }

    /// The same for one tenant alone: there is nobody whom he must leave a slot of a lane.
    pub(crate) fn of_one_tenant(config: DeliveryConfig) -> Self {
        Self {
            is_shared: false,
            ..Self::new(config)
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
                let pass = state.breaker_of(&table.key.0, &tenant).begin(deadline);
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
            less(&mut state.tenants, &due.tenant);
            less(&mut self.tenants, &due.tenant);
        }
        if !due.strand.is_empty() {
            state
                .strands
                .remove(&(due.tenant.clone(), Arc::clone(&due.strand)));
        }
        state.used = now;
        let breaker = state.breaker_of(&due.channel, &due.tenant);
        breaker.end(&self.config.breaker, pass, verdict, now, random);
    }

    /// Slots that are taken in all lanes.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether any lane could be dealt a slot.
    pub(crate) fn has_slot(&self) -> bool {
        self.under_way < self.config.total_width
    }

    /// Whether a lane could be leased from at `now`, by some tenant.
    pub(crate) fn has_room(&self, channel: &ChannelKind, lane: &Lane, now: Timestamp) -> bool {
        let Some(state) = self.lanes.get(&(channel.clone(), Arc::clone(lane))) else {
            return true;
        };
        let closed = matches!(
            state.breaker.admits(&self.config.breaker, now),
            Admits::Nothing(_)
        );
        !closed && state.under_way < self.config.width_of(channel)
    }

    /// Whether a lane that has room has some for this tenant.
    pub(crate) fn has_room_for(&self, channel: &ChannelKind, lane: &Lane, tenant: &TenantId) -> bool {
        let width = self.config.width_of(channel);
        let state = self.lanes.get(&(channel.clone(), Arc::clone(lane)));
        !self.is_shared || state.is_none_or(|state| state.has_share(width, tenant))
    }

    /// Breakers that this node remembers: all lanes with something under way, and all that are not at ease.
    pub(crate) fn standings(&self, now: Timestamp) -> Vec<LaneStanding> {
        let mut standings = Vec::with_capacity(self.lanes.len());
        for ((channel, lane), state) in &self.lanes {
            let standing = |tenant: Option<&TenantId>| self.standing(channel, lane, state, tenant, now);
            if is_chosen(channel) {
                let tenants: BTreeSet<_> = state.tenants.keys().chain(state.own.keys()).collect();
                standings.extend(tenants.into_iter().map(|tenant| standing(Some(tenant))));
            } else {
                standings.push(standing(None));
            }
        }
        standings
    }

    /// How the lanes stand for one tenant: with his own slots alone.
    pub(crate) fn standings_of(&self, tenant: &TenantId, now: Timestamp) -> Vec<LaneStanding> {
        self.lanes
            .iter()
            .map(|((channel, lane), state)| self.standing(channel, lane, state, Some(tenant), now))
            .collect()
    }

    fn standing(
        &self,
        channel: &ChannelKind,
        lane: &Lane,
        state: &LaneState,
        tenant: Option<&TenantId>,
        now: Timestamp,
    ) -> LaneStanding {
        let own = tenant.filter(|_| is_chosen(channel));
        let breaker = match own {
            Some(tenant) => state.own.get(tenant).cloned().unwrap_or_default(),
            None => state.breaker.clone(),
        };
        LaneStanding {
            tenant: tenant.cloned(),
            channel: channel.clone(),
            lane: Arc::clone(lane),
            under_way: tenant.map_or(state.under_way, |tenant| held(&state.tenants, tenant)),
            breaker: breaker.standing(&self.config.breaker, now),
        }
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
            let mut free = width.saturating_sub(state.under_way);
            let mut tenants: BTreeMap<TenantId, (usize, BTreeSet<Arc<str>>)> = BTreeMap::new();
            for due in dues {
                let breaker = state.breaker_for(&key.0, &due.tenant);
                let most = match breaker.admits(&self.config.breaker, now) {
                    Admits::All => usize::MAX,
                    Admits::One => 1,
                    Admits::Nothing(until) => {
                        let is_open =
                            matches!(breaker.standing(&self.config.breaker, now), Standing::Open { .. });
                        round.parks.push(if is_open {
                            let reason = Parked::Breaker;
                            Park { due, until, reason }
                        } else {
                            // One attempt asks: its end frees the lane at once.
                            Park::full(due, until.min(now.after(FULL)))
                        });
                        continue;
                    }
                };
                if !is_chosen(&key.0) {
                    free = free.min(most);
                }
                let taken = !due.strand.is_empty()
                    && state
                        .strands
                        .contains(&(due.tenant.clone(), Arc::clone(&due.strand)));
                let shares = !self.is_shared || state.has_share(width, &due.tenant);
                if free == 0 || taken || !shares {
                    round.parks.push(Park::full(due, now.after(FULL)));
                } else {
                    let waiting = tenants.entry(due.tenant).or_insert((most, BTreeSet::new()));
                    waiting.1.insert(due.strand);
                }
            }
            let tenants = in_turn(tenants, |(tenant, _)| {
                state.last.as_ref().is_none_or(|last| tenant > last)
            });
            tables.push(Table {
                key,
                free,
                tenants: tenants
                    .map(|(tenant, (most, strands))| {
                        let last = state.last_strands.get(&tenant);
                        let strands = in_turn(strands, |strand| last.is_none_or(|last| strand > last));
                        Waiting {
                            tenant,
                            most,
                            strands: strands.collect(),
                        }
                    })
                    .collect(),
                dealt: BTreeMap::new(),
            });
        }
        let first = tables.partition_point(|table| self.last.as_ref().is_some_and(|last| table.key <= *last));
        tables.rotate_left(first);
        tables
    }

    /// One slot for each tenant in turn, until `left` are dealt or nobody may have more.
    fn deal(&mut self, tables: &mut [Table], mut left: usize) {
        // What one tenant may not have is another's in the next pass.
        while left > 0 {
            let hands = self.hands(tables, left);
            let before = left;
            let last = self.last_tenant.clone();
            let mut turns: VecDeque<(TenantId, Hand)> = in_turn(hands, |(tenant, _)| {
                last.as_ref().is_none_or(|last| tenant > last)
            })
            .collect();
            while let Some((tenant, mut hand)) = turns.pop_front() {
                if left == 0 {
                    break;
                }
                while let Some((index, mut strands)) = hand.pop_front() {
                    let (Some(table), Some((strand, count))) = (tables.get_mut(index), strands.pop_front())
                    else {
                        continue;
                    };
                    if count == 0 {
                        continue;
                    }
                    if !self.may_have(&tenant, &table.key) {
                        continue;
                    }
                    self.take(&tenant, table, &strand);
                    left -= 1;
                    if count > 1 {
                        strands.push_front((strand, count - 1));
                    }
                    if !strands.is_empty() {
                        hand.push_back((index, strands));
                    }
                    turns.push_back((tenant, hand));
                    break;
                }
            }
            if left == before {
                return;
            }
        }
    }

    /// Shares each lane's free slots out to its tenants in turn, at most `most` of them, and gathers what each gets.
    fn hands(&self, tables: &[Table], most: usize) -> BTreeMap<TenantId, Hand> {
        let mut hands: BTreeMap<TenantId, Hand> = BTreeMap::new();
        for (index, table) in tables.iter().enumerate() {
            let mut free = table.free.min(most);
            let mut shares: BTreeMap<TenantId, VecDeque<(Arc<str>, usize)>> = BTreeMap::new();
            let mut waiting: VecDeque<Waiting> = table
                .tenants
                .iter()
                .filter(|waiting| self.may_have(&waiting.tenant, &table.key))
                .cloned()
                .collect();
            // The common case, at once: nobody to share with.
            if let [one] = waiting.make_contiguous()
                && let [strand] = one.strands.make_contiguous()
                && strand.is_empty()
            {
                let share = VecDeque::from([(Arc::clone(strand), free.min(one.most))]);
                let hand = hands.entry(one.tenant.clone()).or_default();
                hand.push_back((index, share));
                continue;
            }
            while free > 0
                && let Some(mut one) = waiting.pop_front()
            {
                if one.most == 0 {
                    continue;
                }
                let Some(strand) = one.strands.pop_front() else {
                    continue;
                };
                free -= 1;
                one.most -= 1;
                // What has no order may have several; a strand has one.
                if strand.is_empty() {
                    one.strands.push_back(Arc::clone(&strand));
                }
                shares
                    .entry(one.tenant.clone())
                    .or_default()
                    .push_back((strand, 1));
                waiting.push_back(one);
            }
            for (tenant, strands) in shares {
                hands.entry(tenant).or_default().push_back((index, strands));
            }
        }
        hands
    }

    /// Whether a tenant may hold one slot more, in that lane.
    fn may_have(&self, tenant: &TenantId, key: &(ChannelKind, Lane)) -> bool {
        let free = self.config.total_width.saturating_sub(self.under_way);
        let is_idle = self.lanes.get(key).is_none_or(|state| state.under_way == 0);
        held(&self.tenants, tenant) < free.saturating_mul(if is_idle { 7 } else { 3 })
            && self.has_room_for(&key.0, &key.1, tenant)
    }

    /// Gives a slot away.
    fn take(&mut self, tenant: &TenantId, table: &mut Table, strand: &Arc<str>) {
        table.free -= 1;
        let place = table.tenants.iter().position(|waiting| waiting.tenant == *tenant);
        if let Some(mut waiting) = place.and_then(|place| table.tenants.remove(place)) {
            waiting.most = waiting.most.saturating_sub(1);
            waiting.strands.retain(|waits| waits != strand);
            // What has no order may have several; a strand has one.
            if strand.is_empty() {
                waiting.strands.push_back(Arc::clone(strand));
            }
            // The next turn is another's.
            table.tenants.push_back(waiting);
        }
        *table
            .dealt
            .entry((tenant.clone(), Arc::clone(strand)))
            .or_default() += 1;
        self.under_way += 1;
        *self.tenants.entry(tenant.clone()).or_default() += 1;
        if let Some(state) = self.lanes.get_mut(&table.key) {
            state.under_way += 1;
            *state.tenants.entry(tenant.clone()).or_default() += 1;
            state.last = Some(tenant.clone());
            state.remember(tenant, strand);
        }
        self.last = Some(table.key.clone());
        self.last_tenant = Some(tenant.clone());
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
            let is_untroubled =
                state.breaker.is_untroubled() && state.own.values().all(Breaker::is_untroubled);
            let forgotten = idle >= IDLE && (is_untroubled || idle >= IDLE + 2 * longest);
            state.under_way > 0 || !forgotten
        });
    }
}

impl LaneState {
    /// Whether a tenant may hold one slot more of the lane's `width`, should one be free: his first one, or one that is
    /// neither the last nor beyond three quarters.
    fn has_share(&self, width: usize, tenant: &TenantId) -> bool {
        let held = held(&self.tenants, tenant);
        held == 0 || (held < width * 3 / 4 && self.under_way + 1 < width)
    }

    /// The breaker that counts for a tenant.
    fn breaker_for(&self, channel: &ChannelKind, tenant: &TenantId) -> Breaker {
        if is_chosen(channel) {
            self.own.get(tenant).cloned().unwrap_or_default()
        } else {
            self.breaker.clone()
        }
    }

    /// The same, to be told.
    fn breaker_of(&mut self, channel: &ChannelKind, tenant: &TenantId) -> &mut Breaker {
        if !is_chosen(channel) {
            return &mut self.breaker;
        }
        // Beyond that many, those at ease begin anew.
        if self.own.len() >= MAX_TURNS && !self.own.contains_key(tenant) {
            self.own.retain(|_, breaker| !breaker.is_closed());
            if self.own.len() >= MAX_TURNS {
                self.own.clear();
            }
        }
        self.own.entry(tenant.clone()).or_default()
    }

    fn remember(&mut self, tenant: &TenantId, strand: &Arc<str>) {
        // Beyond that many, turns begin anew: each still gets one.
        if self.last_strands.len() >= MAX_TURNS && !self.last_strands.contains_key(tenant) {
            self.last_strands.clear();
        }
        self.last_strands.insert(tenant.clone(), Arc::clone(strand));
    }
}

/// Whether callers choose the lanes of a channel: by the host of a URL that they write.
fn is_chosen(channel: &ChannelKind) -> bool {
    channel.as_str() == ChannelKind::WEBHOOK
}

fn held(slots: &HashMap<TenantId, usize>, tenant: &TenantId) -> usize {
    slots.get(tenant).copied().unwrap_or(0)
}

fn less(slots: &mut HashMap<TenantId, usize>, tenant: &TenantId) {
    if let Some(count) = slots.get_mut(tenant) {
        *count -= 1;
        if *count == 0 {
            slots.remove(tenant);
        }
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
