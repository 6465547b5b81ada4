//! Engine: the loop that tries deliveries. It leases what the schedule picks, lets the channels send, and settles what
//! they said in batches; each look is its own, so that a lost wake-up, a restart and a second node run the same code.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    AckKind, ChannelKind, Clock, Outcome, TenantId, Timestamp,
    ports::{Answer, Channel, Directory, Report},
};
use carillon_sql::StoreError;
use parking_lot::Mutex;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    attempt::{CUT_OFF, attempt},
    breaker::{Pass, Verdict as Health},
    compose::Composer,
    config::DeliveryConfig,
    full::FullLanes,
    one_by_one::{lane_by_lane, one_by_one},
    schedule::{Due, Parked, Pick, Round, Schedule},
    settlement::{Said, after_ends, ours_to_retry, settlement},
};
use crate::{
    endpoints::Endpoints,
    intake::is_away,
    mailboxes::Mailboxes,
    store::{
        EntryAction, MailboxCommand, Operation, Store, Which,
        outside::{Brings, DueLane, Ended, LaneKey, LanePick, LeasedDelivery, ParkedLane, Settlement},
    },
    validation::is_action_id,
    wake::Wake,
};

/// Lanes that one look takes in of each channel.
const LOOK: usize = 1_024;
/// Tenants that a look takes in one after the other where more is due than it sees, and lanes of each per channel.
const IN_TURN: (usize, usize) = (64, 16);
/// When a lane that has more due than it has slots is looked at again, should no slot of it come free here before.
pub(super) const AGAIN: Duration = Duration::from_secs(2);
/// How often what is too late is looked for.
const EXPIRY: Duration = Duration::from_secs(1);
/// How long to wait where something is due and nothing could be picked.
const BREATH: Duration = Duration::from_millis(100);
/// After a store that did not answer.
const AWAY: Duration = Duration::from_secs(1);
/// How long an end waits for others, while some are under way, so that one commit serves many.
const GATHERED: Duration = Duration::from_millis(2);

/// Tries what goes outside.
pub(crate) struct Deliverer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) channels: HashMap<ChannelKind, Arc<dyn Channel>>,
    pub(crate) composer: Composer,
    /// Keeps the keys of plain URLs, and closes endpoints.
    pub(crate) endpoints: Arc<Endpoints>,
    /// Takes what recipients answer.
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake: Arc<Wake>,
    /// Slots, turns and breakers; shared with those who show them.
    pub(crate) schedule: Arc<Mutex<Schedule>>,
    pub(crate) config: DeliveryConfig,
}

/// A delivery with its slot.
struct Out {
    delivery: Arc<LeasedDelivery>,
    due: Due,
    pass: Pass,
}

/// An attempt that ended and is not settled yet.
struct Heard {
    out: Out,
    settlement: Settlement,
    health: Health,
    /// What the recipient said to it at once.
    answer: Option<MailboxCommand>,
}

impl Deliverer {
    /// Tries until `stop`; then what runs comes to its end and is settled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        if self.channels.is_empty() {
            return self.run_without_channels(stop).await;
        }
        let mut engine = Engine::new(self);
        loop {
            let stopping = stop.is_cancelled();
            if stopping && engine.out.is_empty() && engine.heard.is_empty() {
                return;
            }
            match engine.turn(stopping).await {
                Ok(pause) => engine.wait(&stop, pause).await,
                Err(error) => {
                    metrics::counter!("carillon_delivery_failures_total").increment(1);
                    tracing::error!(
                        error = &error as &dyn Error,
                        "deliveries could not be handed out or settled; it is tried again"
                    );
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }

    /// What workers bring may still be too late; nothing else is to be done, and no wake-up is about it.
    async fn run_without_channels(&self, stop: CancellationToken) {
        let never = Wake::default();
        loop {
            let more = Engine::new(self).expire().await;
            if more && !stop.is_cancelled() {
                continue;
            }
            let poll = self.config.poll.duration();
            if !never.wait(&stop, &*self.clock, None, poll).await {
                return;
            }
        }
    }

    fn patience(&self, channel: &ChannelKind) -> Duration {
        self.channels
            .get(channel)
            .map_or(Duration::ZERO, |channel| channel.patience())
            + CUT_OFF
    }

    /// What follows of a report.
    fn settlement(&self, delivery: &Arc<LeasedDelivery>, said: Said) -> Settlement {
        let recalls = self
            .channels
            .get(&delivery.key.channel)
            .is_some_and(|channel| channel.capabilities().recall);
        settlement(&self.config.retry, self.clock.now(), delivery, said, recalls)
    }

    async fn after(&self, ended: &[Ended]) {
        after_ends(&*self.directory, ended).await;
    }
}

/// One run of the loop.
struct Engine<'a> {
    deliverer: &'a Deliverer,
    kinds: Vec<ChannelKind>,
    sends: JoinSet<Said>,
    out: HashMap<Id, Out>,
    heard: Vec<Heard>,
    /// When the first of them was.
    heard_since: Option<Instant>,
    full: FullLanes,
    expired: Option<Instant>,
    /// The tenant that was looked at last, where more is due than one look sees.
    turn: Option<TenantId>,
}

impl<'a> Engine<'a> {
    fn new(deliverer: &'a Deliverer) -> Self {
        Self {
            deliverer,
            kinds: deliverer.channels.keys().cloned().collect(),
            sends: JoinSet::new(),
            out: HashMap::new(),
            heard: Vec::new(),
            heard_since: None,
            full: FullLanes::default(),
            expired: None,
            turn: None,
        }
    }

    /// Settles what ended and hands out what is due. Answers how long to wait for something to happen.
    async fn turn(&mut self, stopping: bool) -> Result<Duration, StoreError> {
        let poll = self.deliverer.config.poll.duration();
        self.gather();
        if stopping || self.is_gathered() {
            self.settle().await?;
        }
        if stopping {
            return Ok(poll);
        }
        // One batch, so that a million that are too late keep nobody from being settled and handed out.
        let late = self.expire().await;
        if !late && !self.deliverer.schedule.lock().has_slot() {
            // Ends give slots back, and they are waited for.
            return Ok(poll.min(EXPIRY));
        }
        if self.hand_out().await? || late {
            return Ok(Duration::ZERO);
        }
        let next = self.deliverer.store.next_lane_due(&self.kinds).await?;
        let now = self.deliverer.clock.now();
        Ok(next.map_or(poll, |next| next.since(now).max(BREATH).min(poll)))
    }

    /// Waits for ends, a wake-up, or the time. Ends come together; but nobody waits for them where something new is to be
    /// handed out.
    async fn wait(&mut self, stop: &CancellationToken, pause: Duration) {
        if pause.is_zero() {
            // What ended meanwhile is settled with the next turn.
            return tokio::task::yield_now().await;
        }
        let (deliverer, never) = (self.deliverer, CancellationToken::new());
        let until = Instant::now() + pause;
        while !self.is_gathered() {
            let until = self
                .heard_since
                .map_or(until, |since| until.min(since + GATHERED));
            tokio::select! {
                ended = self.sends.join_next_with_id(), if !self.sends.is_empty() => {
                    if let Some(ended) = ended {
                        self.hear(ended);
                    }
                    self.gather();
                }
                () = stop.cancelled(), if !stop.is_cancelled() => return,
                _ = deliverer.wake.wait(&never, &*deliverer.clock, None, until.saturating_duration_since(Instant::now())) => return,
            }
        }
    }

    /// Whether what was heard is settled now: there is enough of it, it waited, or nothing else can come.
    fn is_gathered(&self) -> bool {
        let Some(since) = self.heard_since else {
            return false;
        };
        self.sends.is_empty()
            || self.heard.len() >= self.deliverer.config.batch
            || since.elapsed() >= GATHERED
    }

    /// Everything that ended by now.
    fn gather(&mut self) {
        while let Some(ended) = self.sends.try_join_next_with_id() {
            self.hear(ended);
        }
    }

    fn hear(&mut self, ended: Result<(Id, Said), JoinError>) {
        let (id, said) = match ended {
            Ok((id, said)) => (id, said),
            Err(error) => {
                // It would fail again: its neighbours go on, and it can be redriven once the fault is mended.
                tracing::error!(error = &error as &dyn Error, "a channel failed on a delivery");
                let reason = "the channel failed on it".to_owned();
                (error.id(), Said::sent(Report::new(Outcome::Rejected { reason })))
            }
        };
        if let Some(out) = self.out.remove(&id) {
            self.told(out, said);
        }
    }

    fn told(&mut self, out: Out, said: Said) {
        let health = said.health();
        let answer = answer(&out.delivery, said.report.acknowledged.as_ref());
        let settlement = self.deliverer.settlement(&out.delivery, said);
        self.heard_since.get_or_insert_with(Instant::now);
        self.heard.push(Heard {
            out,
            settlement,
            health,
            answer,
        });
    }

    /// Writes down what was heard, and gives the slots back.
    async fn settle(&mut self) -> Result<(), StoreError> {
        while !self.heard.is_empty() {
            let count = self.heard.len().min(self.deliverer.config.batch);
            let batch: Vec<Settlement> = self.heard[..count]
                .iter()
                .map(|heard| heard.settlement.clone())
                .collect();
            let deliverer = self.deliverer;
            // First, so that no answer is lost: without its outcome the attempt is lost, and nothing follows it.
            let answers = self.heard[..count]
                .iter()
                .filter_map(|heard| heard.answer.clone());
            let answers: Vec<MailboxCommand> = answers.collect();
            if !answers.is_empty() {
                deliverer.mailboxes.heard(&answers).await?;
                for heard in &mut self.heard[..count] {
                    heard.answer = None;
                }
            }
            let now = deliverer.clock.now();
            let settled = match deliverer.store.settle(now, &batch).await {
                Ok(settled) => {
                    metrics::counter!("carillon_delivery_stale_total").increment(settled.stale);
                    deliverer.endpoints.closed(&settled.disabled);
                    settled.ended
                }
                // The slots stay taken, so that what waits to be settled stays bounded.
                Err(error) if is_away(&error) => return Err(error),
                Err(_) => one_by_one(deliverer, now, &batch).await?,
            };
            {
                let mut schedule = deliverer.schedule.lock();
                for heard in self.heard.drain(..count) {
                    schedule.end(&heard.out.due, heard.out.pass, heard.health, now, rand::random());
                }
            }
            deliverer.after(&settled).await;
        }
        self.heard_since = None;
        Ok(())
    }

    /// Ends what is too late and waits, a batch of it. Answers whether there is more. What cannot be ended is tried again
    /// later: it keeps nobody from being handed out.
    async fn expire(&mut self) -> bool {
        if self.expired.is_some_and(|at| at.elapsed() < EXPIRY) {
            return false;
        }
        let deliverer = self.deliverer;
        let (now, batch) = (deliverer.clock.now(), deliverer.config.batch);
        match deliverer.store.expire_deliveries(now, batch).await {
            Ok(ended) => {
                deliverer.after(&ended).await;
                let more = ended.len() >= batch;
                self.expired = (!more).then(Instant::now);
                more
            }
            Err(error) => {
                self.expired = Some(Instant::now());
                metrics::counter!("carillon_delivery_failures_total").increment(1);
                tracing::error!(
                    error = &error as &dyn Error,
                    "deliveries that are too late could not be ended; it is tried again"
                );
                false
            }
        }
    }

    /// Lanes that are due: the longest due first. Where there are more than one look sees, some of each tenant's in turn
    /// as well, so that one with many keeps nobody from being seen.
    async fn due(&mut self, now: Timestamp) -> Result<Vec<DueLane>, StoreError> {
        let store = &self.deliverer.store;
        let mut lanes = store.due_lanes(now, &self.kinds, LOOK).await?;
        if lanes.len() >= LOOK {
            let (mut others, last) = store
                .due_lanes_in_turn(now, &self.kinds, self.turn.as_ref(), IN_TURN)
                .await?;
            lanes.append(&mut others);
            self.turn = last;
        }
        Ok(lanes)
    }

    /// One round. Answers whether another may hand out more at once.
    async fn hand_out(&mut self) -> Result<bool, StoreError> {
        let deliverer = self.deliverer;
        let now = deliverer.clock.now();
        let lanes = self.due(now).await?;
        let (round, found) = {
            let mut schedule = deliverer.schedule.lock();
            let waiting = self.full.take(&schedule, now, 64);
            let found: HashSet<Due> = lanes.into_iter().map(|lane| due_of(&lane.key)).collect();
            let dues = waiting.iter().cloned().chain(found.iter().cloned());
            let round = schedule.round(now, dues, |channel| deliverer.patience(channel));
            // They are parked: who has no turn now would have none before his parking ends.
            self.full.give_back(without_turn(waiting, &round));
            (round, found)
        };
        let mut parks = Vec::new();
        for park in round.parks {
            let key = key_of(&park.due);
            // Those that were only remembered are parked already.
            if found.contains(&park.due) {
                parks.push(ParkedLane {
                    key,
                    until: park.until,
                });
            }
            if park.reason == Parked::Full {
                self.full.push(park.due);
            }
        }
        let picked = !round.picks.is_empty();
        // First, so that no slot is taken for nothing should parking fail.
        if picked {
            self.lease(now, round.picks).await?;
        }
        if !parks.is_empty() {
            deliverer.store.park(&parks).await?;
        }
        Ok(picked)
    }

    /// Leases what was picked, and lets the channels send it.
    async fn lease(&mut self, now: Timestamp, picks: Vec<Pick>) -> Result<(), StoreError> {
        let deliverer = self.deliverer;
        let wanted: Vec<LanePick> = picks
            .iter()
            .map(|pick| LanePick {
                key: key_of(&pick.due),
                limit: u32::try_from(pick.take).unwrap_or(u32::MAX),
            })
            .collect();
        let patience = picks
            .iter()
            .map(|pick| deliverer.patience(&pick.due.channel))
            .max();
        let until = now
            .after(patience.unwrap_or_default())
            .after(deliverer.config.lease_margin.duration());
        let again = now.after(AGAIN);
        let leased = deliverer.store.lease_deliveries(now, &wanted, until, again).await;
        let leased = match leased {
            Err(error) if !is_away(&error) => {
                metrics::counter!("carillon_delivery_failures_total").increment(1);
                lane_by_lane(deliverer, now, &wanted, until).await
            }
            leased => leased,
        };
        let committed = Instant::now();
        let handed = match leased {
            Ok(handed) => handed,
            Err(error) => {
                let mut schedule = deliverer.schedule.lock();
                for pick in &picks {
                    schedule.unused(pick, pick.take, now);
                }
                return Err(error);
            }
        };
        let mut out = Vec::with_capacity(handed.leased.len());
        {
            let mut slots: HashMap<LaneKey, (usize, Pick)> = picks
                .into_iter()
                .map(|pick| (key_of(&pick.due), (pick.take, pick)))
                .collect();
            for delivery in handed.leased {
                if let Some((left, pick)) = slots.get_mut(&delivery.key) {
                    *left = left.saturating_sub(1);
                    out.push(Out {
                        delivery: Arc::new(delivery),
                        due: pick.due.clone(),
                        pass: pick.pass,
                    });
                }
            }
            let mut schedule = deliverer.schedule.lock();
            for (left, pick) in slots.values() {
                schedule.unused(pick, *left, now);
            }
        }
        for key in &handed.more {
            self.full.push(due_of(key));
        }
        deliverer.after(&handed.ended).await;
        self.send(out, committed).await;
        Ok(())
    }

    /// Begins the attempts, which were committed at `committed`.
    async fn send(&mut self, out: Vec<Out>, committed: Instant) {
        let deliverer = self.deliverer;
        let deliveries: Vec<_> = out.iter().map(|out| Arc::clone(&out.delivery)).collect();
        let now = deliverer.clock.now();
        let read = async {
            let mut sources = deliverer.store.load_work(now, &deliveries).await?;
            deliverer.endpoints.resolve(&deliveries, &mut sources).await?;
            deliverer.composer.parts(&deliveries, sources).await
        };
        let parts = match read.await {
            Ok(parts) => Arc::new(parts),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "the content of deliveries could not be read"
                );
                for out in out {
                    self.told(out, ours_to_retry("its content could not be read"));
                }
                return;
            }
        };
        for out in out {
            let Some(channel) = deliverer.channels.get(&out.delivery.key.channel) else {
                self.told(out, ours_to_retry("its channel is not there"));
                continue;
            };
            let (channel, composer) = (Arc::clone(channel), deliverer.composer.clone());
            let (delivery, parts) = (Arc::clone(&out.delivery), Arc::clone(&parts));
            #[cfg(feature = "planted-bugs")]
            if crate::planted::is(crate::planted::SETTLE_BEFORE_SEND) {
                tokio::spawn(async move {
                    tokio::time::sleep(BREATH).await;
                    attempt(&*channel, &composer, delivery, parts, committed).await
                });
                let outcome = Outcome::Accepted { provider_id: None };
                self.told(out, Said::sent(Report::new(outcome)));
                continue;
            }
            let handle = self
                .sends
                .spawn(async move { attempt(&*channel, &composer, delivery, parts, committed).await });
            self.out.insert(handle.id(), out);
        }
    }
}

/// What a recipient said to a delivery, as he would have said it in his inbox.
pub(crate) fn answer(delivery: &LeasedDelivery, answer: Option<&Answer>) -> Option<MailboxCommand> {
    let (answer, user) = (answer?, delivery.user?);
    let Brings::Notification(notification) = delivery.brings else {
        return None;
    };
    let action = match answer.kind {
        AckKind::Read => EntryAction::Read,
        AckKind::Dismissed => EntryAction::Archive,
        AckKind::Acted => EntryAction::Acted {
            action: answer.action.clone().filter(|action| is_action_id(action)),
        },
    };
    Some(MailboxCommand {
        tenant: delivery.key.tenant.clone(),
        user,
        name: delivery.name.clone(),
        device: None,
        channel: Some(delivery.key.channel.clone()),
        answering: vec![delivery.id],
        operations: vec![Operation::Entry(Which::Notification(notification), action)],
    })
}

/// Who was dealt nothing in a round, and not put off by it.
fn without_turn(waiting: Vec<Due>, round: &Round) -> Vec<Due> {
    let dealt = round.picks.iter().map(|pick| &pick.due);
    let seen: HashSet<&Due> = dealt.chain(round.parks.iter().map(|park| &park.due)).collect();
    waiting.into_iter().filter(|due| !seen.contains(due)).collect()
}

pub(crate) fn due_of(key: &LaneKey) -> Due {
    Due {
        channel: key.channel.clone(),
        lane: Arc::clone(&key.lane),
        tenant: key.tenant.clone(),
        strand: Arc::clone(&key.strand),
    }
}

pub(crate) fn key_of(due: &Due) -> LaneKey {
    LaneKey {
        tenant: due.tenant.clone(),
        channel: due.channel.clone(),
        lane: Arc::clone(&due.lane),
        strand: Arc::clone(&due.strand),
    }
}

#[cfg(test)]
mod tests;
