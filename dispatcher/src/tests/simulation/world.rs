//! A trace as it is played: time, who is up, and what happens next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
};

use carillon_domain::{DeliveryId, NotificationId, TenantId, Timestamp, UserId};

use super::{
    dice::Dice,
    laws::{self, Cause},
    picture::{Key, Picture, picture},
    script::{BEGINNING, Deed, MILLISECOND, SECOND, Script},
    stage::Stage,
    work::Work,
};

/// More than any trace takes.
const MOST_EVENTS: u64 = 20_000;
/// How long after something falls due a dispatcher that lives looks at it, at the most: it looks every 500 ms by itself.
const LOOKS_WITHIN: u64 = 400 * MILLISECOND;

/// What was broken, or what failed.
pub(super) type Lawful<T = ()> = Result<T, String>;

/// What a dispatcher's loops do, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worker {
    Relay,
    Ladder,
    Closer,
    Deliverer,
    Expirer,
    Withdrawer,
}

impl Worker {
    pub(super) const ALL: [Self; 6] = [
        Self::Relay,
        Self::Ladder,
        Self::Closer,
        Self::Deliverer,
        Self::Expirer,
        Self::Withdrawer,
    ];
}

pub(super) enum Event {
    Deed(Deed),
    /// A worker of a node looks, unless it means to at another time by now.
    Look(usize, Worker),
    /// Work that a node in one of its lives had begun goes on.
    Work(usize, u32, Work),
    /// What a process that is gone had sent to the database arrives there.
    Ghost(usize, Work),
}

/// A node: a process with a clock.
#[derive(Default)]
pub(super) struct Node {
    pub(super) up: bool,
    /// Counts its processes.
    pub(super) life: u32,
    pub(super) paused_until: u64,
    /// Since when it runs without a break.
    pub(super) calm_from: u64,
    looks: HashMap<usize, (u64, u64)>,
}

/// What was counted over a trace.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Figures {
    pub(super) events: u64,
    pub(super) starts: u64,
    pub(super) escalations: u64,
    pub(super) acknowledged: u64,
    pub(super) fenced: u64,
    /// The latest start of a step after its deadline, in microseconds, where nothing excuses it.
    pub(super) latest: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.starts += other.starts;
        self.escalations += other.escalations;
        self.acknowledged += other.acknowledged;
        self.fenced += other.fenced;
        self.latest = self.latest.max(other.latest);
    }
}

pub(super) struct World<'a> {
    pub(super) stage: &'a Stage,
    pub(super) serial: bool,
    pub(super) script: Script,
    pub(super) dice: Dice,
    pub(super) tenant: TenantId,
    /// Microseconds since the beginning. Never jumps.
    pub(super) now: u64,
    /// How far the clocks jumped.
    pub(super) jumped: u64,
    pub(super) nodes: [Node; 2],
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    numbers: u64,
    pub(super) sent: HashSet<NotificationId>,
    pub(super) before: Picture,
    /// By whom a climb was leased last, in which life and when.
    pub(super) climbers: HashMap<Key, (usize, u32, u64)>,
    /// When they were planned to the last recipient.
    pub(super) planned: HashMap<NotificationId, u64>,
    /// Since when nothing of a recipient's step can arrive any more.
    pub(super) failed: HashMap<Key, u64>,
    /// When a climb was taken over from somebody who died over it, or stood still.
    pub(super) lost: HashMap<Key, u64>,
    /// Attempts that run: their numbers, and until when they are leased.
    pub(super) attempts: HashMap<DeliveryId, (u32, Timestamp)>,
    /// Deliveries that arrived.
    pub(super) arrived: HashSet<DeliveryId>,
    pub(super) told: Vec<String>,
    pub(super) figures: Figures,
}

/// Plays a seed. On a violation: what it is, with what happened before.
pub(super) async fn play(stage: &Stage, seed: u64, serial: bool) -> Result<(Figures, Vec<String>), String> {
    let mut dice = Dice::new(seed);
    let tenant: TenantId = format!("seed-{seed}").parse().expect("a tenant");
    let script = Script::new(&mut dice, &tenant, serial);
    stage.people.replace(script.people(&mut dice));
    let mut world = World {
        stage,
        serial,
        dice,
        tenant,
        now: 0,
        jumped: 0,
        nodes: Default::default(),
        queue: BinaryHeap::new(),
        events: HashMap::new(),
        numbers: 0,
        sent: HashSet::new(),
        before: Picture::default(),
        climbers: HashMap::new(),
        planned: HashMap::new(),
        failed: HashMap::new(),
        lost: HashMap::new(),
        attempts: HashMap::new(),
        arrived: HashSet::new(),
        told: Vec::new(),
        figures: Figures::default(),
        script,
    };
    match world.run().await {
        Ok(()) => Ok((world.figures, world.told)),
        Err(what) => Err(format!("{}\n=> {what}", world.told.join("\n"))),
    }
}

impl World<'_> {
    async fn run(&mut self) -> Lawful {
        for node in self.nodes.iter_mut().take(self.script.nodes) {
            node.up = true;
        }
        for (at, deed) in std::mem::take(&mut self.script.deeds) {
            self.at(at, Event::Deed(deed));
        }
        loop {
            self.plan_looks();
            let Some(Reverse((at, number))) = self.queue.pop() else {
                break;
            };
            let event = self.events.remove(&number).expect("it is there");
            if !self.is_wanted(number, &event) {
                continue;
            }
            self.figures.events += 1;
            if self.figures.events > MOST_EVENTS {
                return Err("it does not come to rest".to_owned());
            }
            self.now = self.now.max(at);
            self.set_clocks();
            laws::punctual(self)?;
            self.happen(event).await?;
        }
        laws::at_rest(self).await
    }

    async fn happen(&mut self, event: Event) -> Lawful {
        match event {
            Event::Deed(deed) => self.deed(deed).await,
            Event::Look(node, worker) => self.look(node, worker).await,
            Event::Work(node, life, work) => {
                if self.nodes[node].paused_until > self.now {
                    let later = self.nodes[node].paused_until + MILLISECOND;
                    self.at(later, Event::Work(node, life, work));
                    return Ok(());
                }
                if self.nodes[node].life != life {
                    if self.script.nodes > 1 && work.may_haunt() && self.dice.chance(50) {
                        let later = self.now + self.dice.pick(&[0, 20, 31, 65]) * SECOND;
                        self.at(later, Event::Ghost(node, work));
                    }
                    return Ok(());
                }
                self.go_on(node, life, work).await
            }
            Event::Ghost(node, work) => {
                self.tell(format!("{} is dead, and this arrives late:", letter(node)));
                self.go_on(node, u32::MAX, work).await
            }
        }
    }

    /// Looks that were put off or came forward are still in the queue.
    fn is_wanted(&mut self, number: u64, event: &Event) -> bool {
        let Event::Look(node, worker) = event else {
            return true;
        };
        let node = &mut self.nodes[*node];
        match node.looks.get(&(*worker as usize)) {
            Some((_, wanted)) if *wanted == number => {
                node.looks.remove(&(*worker as usize));
                true
            }
            _ => false,
        }
    }

    /// Puts something into the queue.
    pub(super) fn at(&mut self, at: u64, event: Event) -> u64 {
        self.numbers += 1;
        self.queue.push(Reverse((at, self.numbers)));
        self.events.insert(self.numbers, event);
        self.numbers
    }

    /// Work goes on after a while.
    pub(super) fn soon(&mut self, node: usize, life: u32, most: u64, work: Work) {
        let mut at = self.now + self.dice.between(MILLISECOND, most);
        if self.dice.chance(3) {
            // It hangs, and everything else of its node goes on.
            at += match self.dice.below(3) {
                0 => self.dice.pick(&[2, 45, 90]) * SECOND,
                // About when leases end.
                _ => 29 * SECOND + self.dice.below(2 * SECOND),
            };
            self.hang(&work);
        }
        self.at(at, Event::Work(node, life, work));
    }

    /// Whoever climbs is on his own until the lease ends.
    fn hang(&mut self, work: &Work) {
        let leases = match work {
            Work::ReadClimb(leases) => leases.as_slice(),
            Work::WriteClimb(looked, _) => looked.leases(),
            _ => &[],
        };
        for lease in leases {
            if let Some((_, life, _)) = self.climbers.get_mut(&(lease.key.1, lease.key.2)) {
                *life = u32::MAX;
            }
        }
    }

    /// Every worker that lives looks soon after something falls due.
    fn plan_looks(&mut self) {
        for worker in Worker::ALL {
            let due = self.due(worker);
            let Some(due) = due else { continue };
            for node in 0..self.script.nodes {
                if !self.nodes[node].up {
                    continue;
                }
                let at = self
                    .since_beginning(node, due)
                    .max(self.now)
                    .max(self.nodes[node].paused_until);
                let planned = self.nodes[node].looks.get(&(worker as usize));
                if planned.is_some_and(|(planned, _)| *planned <= at + LOOKS_WITHIN) {
                    continue;
                }
                let at = at + self.dice.between(MILLISECOND, LOOKS_WITHIN);
                let number = self.at(at, Event::Look(node, worker));
                self.nodes[node].looks.insert(worker as usize, (at, number));
            }
        }
    }

    /// When something of what a worker looks for is due next.
    pub(super) fn due(&self, worker: Worker) -> Option<i64> {
        let due = self.before.due;
        match worker {
            Worker::Relay => due.outbox,
            Worker::Ladder => due.climbs,
            Worker::Closer => due.closing,
            Worker::Deliverer => due.lanes,
            Worker::Expirer => due.work_expires,
            Worker::Withdrawer => due.withdrawals,
        }
    }

    pub(super) fn no_looks(&mut self, node: usize) {
        self.nodes[node].looks.clear();
    }

    /// What a node's clock shows.
    pub(super) fn wall(&self, node: usize) -> i64 {
        BEGINNING + (self.now + self.jumped + self.script.skew[node]) as i64
    }

    /// When a node's clock shows a time, or did.
    fn since_beginning(&self, node: usize, wall: i64) -> u64 {
        let ahead = (self.jumped + self.script.skew[node]) as i64;
        u64::try_from(wall - BEGINNING - ahead).unwrap_or(0)
    }

    fn set_clocks(&self) {
        for (node, actor) in self.stage.nodes.iter().enumerate() {
            actor.clock.set(Timestamp::from_micros(self.wall(node)));
        }
        // The directory's own; nobody is ahead of it.
        let ahead = self.script.skew.into_iter().max().unwrap_or_default();
        let now = BEGINNING + (self.now + self.jumped + ahead) as i64;
        self.stage.people.clock.set(Timestamp::from_micros(now));
    }

    /// A node that answers requests now.
    pub(super) fn somebody(&mut self) -> Option<usize> {
        let awake: Vec<usize> = (0..self.script.nodes)
            .filter(|node| self.nodes[*node].up && self.nodes[*node].paused_until <= self.now)
            .collect();
        (!awake.is_empty()).then(|| self.dice.pick(&awake))
    }

    /// For how long a dispatcher has been running without a break, the one that does for the longest.
    pub(super) fn calm_for(&self) -> u64 {
        let nodes = self.nodes.iter();
        nodes
            .filter(|node| node.up && node.paused_until <= self.now)
            .map(|node| self.now.saturating_sub(node.calm_from))
            .max()
            .unwrap_or_default()
    }

    /// Whether whoever looked at a recipient last died over it, or stood still, and its lease is not out for long.
    pub(super) fn is_excused(&self, key: &Key) -> bool {
        if self.lost.get(key).is_some_and(|at| self.now <= at + SECOND) {
            return true;
        }
        let leased = self.before.climbs.get(key);
        let ends = leased.is_some_and(|(due, _)| due + SECOND as i64 >= self.wall(0));
        // As long as the configuration says that a lease lasts.
        let lease = self
            .climbers
            .get(key)
            .map(|(_, _, at)| at + 31 * SECOND + self.script.skew[1]);
        ends && lease.is_some_and(|until| until >= self.now) && self.climber_is_gone(key)
    }

    pub(super) fn climber_is_gone(&self, key: &Key) -> bool {
        self.climbers.get(key).is_some_and(|(node, life, at)| {
            let node = &self.nodes[*node];
            node.life != *life || node.paused_until > *at
        })
    }

    /// Looks at what a commit changed.
    pub(super) async fn observe(&mut self, cause: &Cause) -> Lawful {
        let after = picture(&self.stage.database, &self.tenant).await?;
        laws::changed(self, &after, cause)?;
        self.before = after;
        Ok(())
    }

    pub(super) fn tell(&mut self, line: String) {
        let seconds = self.now as f64 / SECOND as f64;
        self.told.push(format!("{seconds:10.3} {line}"));
    }

    /// A recipient as people call it.
    pub(super) fn called(&self, (note, user): &Key) -> String {
        let of = self.script.notes.iter().find(|known| known.new.id == *note);
        let note = of.map_or("?", |note| note.name.as_str());
        format!("{note}/{}", self.person(*user))
    }

    pub(super) fn person(&self, user: UserId) -> &'static str {
        let known = self.script.users.iter().find(|(id, _)| *id == user);
        known.map_or("plain", |(_, name)| name)
    }

    /// What a commit changed, in an order of its own.
    pub(super) fn narrate(&mut self, after: &Picture) {
        let mut lines = BTreeMap::new();
        for (key, now) in &after.recipients {
            let was = self.before.recipients.get(key);
            let as_words = |it: &super::picture::Recipient| {
                let step = it.step.map_or("-".to_owned(), |step| step.to_string());
                format!("{} {} step {step}", it.state, it.phase)
            };
            let (was, now) = (was.map(as_words), as_words(now));
            if was.as_ref() != Some(&now) {
                lines.insert(self.called(key), now);
            }
        }
        for ((key, step, channel, address), state) in &after.deliveries {
            let way = (*key, *step, channel.clone(), address.clone());
            if self.before.deliveries.get(&way) != Some(state) {
                let line = format!("{} step {step} {channel} {address}", self.called(key));
                lines.insert(line, state.clone());
            }
        }
        for (what, now) in lines {
            self.tell(format!("    {what}: {now}"));
        }
    }
}

pub(super) fn letter(node: usize) -> &'static str {
    ["A", "B"][node]
}
