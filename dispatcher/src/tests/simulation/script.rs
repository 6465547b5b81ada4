//! What a seed says that happens: who there is, what is sent, and what people, operators and fate do.

use std::{collections::HashMap, sync::Arc};

use carillon_domain::{
    Category, DeviceId, NotificationId, PlainAddress, Target, TenantId, Timestamp, UserId,
};

use super::{
    dice::Dice,
    people::{Person, person},
    stage::CHANNELS,
};
use crate::{
    audience::plain_recipient,
    store::{EntryAction, NewNotification},
};

/// When every trace begins: 2026-01-02T03:04:05Z, in microseconds.
pub(super) const BEGINNING: i64 = 1_767_323_045_000_000;
pub(super) const MILLISECOND: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

const NAMES: [&str; 3] = ["ada", "bob", "cyd"];

/// A trace before it is played.
pub(super) struct Script {
    pub(super) users: Vec<(UserId, &'static str)>,
    pub(super) notes: Vec<Note>,
    pub(super) deeds: Vec<(u64, Deed)>,
    /// How far each node's clock is ahead, in microseconds.
    pub(super) skew: [u64; 2],
    pub(super) nodes: usize,
}

/// A notification that will be sent.
pub(super) struct Note {
    pub(super) new: NewNotification,
    pub(super) recipients: Vec<UserId>,
    pub(super) name: String,
}

/// What somebody does.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Send(usize),
    /// A user does something to the entry of a notification.
    Act(usize, usize, EntryAction),
    /// The far end tells of what a device shows.
    Receipt(usize, usize, Told),
    /// A device of a user is active from now on for so many seconds.
    Focus(usize, usize, u64),
    /// Nobody is there any more.
    Leave(usize),
    /// A device is no address of its user any more.
    Lose(usize, usize),
    /// A user has what was lost last again.
    Find(usize),
    Cancel(usize),
    /// The clock jumps ahead by so many microseconds.
    Jump(u64),
    Kill(usize),
    Start(usize),
    /// A node stands still for so long: it is not dead, and others take it for dead.
    Pause(usize, u64),
}

/// What a receipt says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    Delivered,
    Seen,
    Read,
    Failed,
}

impl Script {
    /// What a seed says.
    pub(super) fn new(dice: &mut Dice, tenant: &TenantId, serial: bool) -> Self {
        let users: Vec<(UserId, &str)> = NAMES
            .into_iter()
            .take(dice.between(2, 3) as usize)
            .map(|name| (UserId::from_bytes(dice.bytes()), name))
            .collect();
        // On SQLite there is mostly one process; two of them there are two clocks as well.
        let nodes = if serial && dice.chance(30) { 1 } else { 2 };
        let skew = match serial && nodes == 2 {
            true => [0, dice.below(3) * 700 * MILLISECOND],
            false => [0, 0],
        };
        let mut script = Self {
            notes: Vec::new(),
            deeds: Vec::new(),
            users,
            skew,
            nodes,
        };
        for number in 0..dice.between(2, 4) as usize {
            let note = script.note(dice, tenant, number);
            script.notes.push(note);
            let at = dice.below(90 * SECOND);
            script.deeds.push((at, Deed::Send(number)));
            script.answers(dice, number, at);
        }
        script.presence(dice);
        script.fate(dice);
        script
    }

    /// The users as the directory knows them.
    pub(super) fn people(&self, dice: &mut Dice) -> HashMap<UserId, Person> {
        let mut device = || DeviceId::from_bytes(dice.bytes());
        let users = self.users.iter();
        users
            .map(|(id, name)| (*id, person(name, [device(), device(), device()])))
            .collect()
    }

    fn note(&self, dice: &mut Dice, tenant: &TenantId, number: usize) -> Note {
        let mut recipients: Vec<UserId> = Vec::new();
        let mut targets: Vec<Target> = Vec::new();
        for (id, name) in &self.users {
            if recipients.is_empty() || dice.chance(60) {
                recipients.push(*id);
                targets.push(Target::User(name.parse().expect("a name")));
            }
        }
        if dice.chance(15) {
            let address = PlainAddress {
                channel: "email".parse().expect("a channel"),
                to: format!("n{number}@plain").parse().expect("an address"),
            };
            let id = plain_recipient(tenant, &address);
            recipients.push(id);
            targets.push(Target::Address(address));
        }
        let (channels, plan) = match dice.below(8) {
            0 => (None, None),
            1 | 2 => {
                let named: Vec<&str> = ["in_app", "fcm", "email"]
                    .into_iter()
                    .filter(|_| dice.chance(75))
                    .collect();
                let named = if named.is_empty() { vec!["in_app"] } else { named };
                let text = serde_json::to_string(&named).expect("encodes");
                (Some(Arc::from(text)), None)
            }
            _ => (None, Some(Arc::from(plan(dice)))),
        };
        let created_at = Timestamp::from_micros(BEGINNING);
        let lives = dice.pick(&[60_u64, 180, 400, 900]) * SECOND;
        Note {
            new: NewNotification {
                id: NotificationId::from_bytes(dice.bytes()),
                category: Category::default(),
                priority: Default::default(),
                collapse_key: dice.chance(25).then(|| "job".parse().expect("a key")),
                digest_key: None,
                content: Arc::from(r#"{"title":"hello"}"#),
                targets: Arc::from(serde_json::to_string(&targets).expect("encodes")),
                channels,
                template: None,
                plan,
                critical: dice.chance(15),
                created_at,
                // Both count from when it is sent.
                send_at: later(
                    created_at,
                    if dice.chance(20) {
                        dice.below(40 * SECOND)
                    } else {
                        0
                    },
                ),
                expires_at: later(created_at, lives),
            },
            recipients,
            name: format!("n{number}"),
        }
    }

    /// What people do about a notification.
    fn answers(&mut self, dice: &mut Dice, note: usize, sent: u64) {
        for user in 0..self.users.len() {
            for _ in 0..dice.below(3) {
                let within = dice.pick(&[20, 150]) * SECOND;
                let at = sent + dice.below(within);
                let deed = match dice.below(10) {
                    0 => Deed::Act(user, note, EntryAction::Seen),
                    1 | 2 => Deed::Act(user, note, EntryAction::Read),
                    3 => Deed::Act(user, note, EntryAction::Archive),
                    4 => Deed::Act(user, note, EntryAction::Delete),
                    5 => Deed::Act(user, note, EntryAction::Acted { action: None }),
                    6 => Deed::Receipt(user, note, Told::Delivered),
                    7 => Deed::Receipt(user, note, Told::Seen),
                    8 => Deed::Receipt(user, note, Told::Failed),
                    _ => Deed::Receipt(user, note, Told::Read),
                };
                self.deeds.push((at, deed));
            }
        }
        if dice.chance(20) {
            self.deeds
                .push((sent + dice.below(100 * SECOND), Deed::Cancel(note)));
        }
    }

    /// Who is in front of what, and when.
    fn presence(&mut self, dice: &mut Dice) {
        for user in 0..self.users.len() {
            if dice.chance(60) {
                let lasts = dice.between(5, 120);
                self.deeds
                    .push((0, Deed::Focus(user, dice.below(3) as usize, lasts)));
            }
            for _ in 0..dice.below(3) {
                let at = dice.below(180 * SECOND);
                let deed = match dice.below(6) {
                    0 => Deed::Leave(user),
                    1 => Deed::Lose(user, dice.below(3) as usize),
                    2 => {
                        let before = dice.below(at.max(1));
                        let lost = Deed::Lose(user, dice.below(3) as usize);
                        self.deeds.push((before, lost));
                        Deed::Find(user)
                    }
                    _ => Deed::Focus(user, dice.below(3) as usize, dice.between(5, 60)),
                };
                self.deeds.push((at, deed));
            }
        }
    }

    /// What nobody wants.
    fn fate(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(3) {
            let (at, node) = (dice.below(200 * SECOND), dice.below(self.nodes as u64) as usize);
            let back = at + dice.between(SECOND, 60 * SECOND);
            self.deeds.push((at, Deed::Kill(node)));
            self.deeds.push((back, Deed::Start(node)));
        }
        for _ in 0..dice.below(3) {
            let (at, node) = (dice.below(200 * SECOND), dice.below(self.nodes as u64) as usize);
            let lasts = dice.pick(&[2, 28, 31, 45, 90]) * SECOND;
            self.deeds.push((at, Deed::Pause(node, lasts)));
        }
        if dice.chance(40) {
            let by = dice.pick(&[3, 31, 70, 600]) * SECOND;
            self.deeds.push((dice.below(200 * SECOND), Deed::Jump(by)));
        }
    }
}

pub(super) fn later(at: Timestamp, by: u64) -> Timestamp {
    Timestamp::from_micros(at.as_micros() + by as i64)
}

/// A plan's JSON: all sorts of steps, deadlines and conditions.
fn plan(dice: &mut Dice) -> String {
    let mut channels = vec!["in_app"];
    channels.extend(CHANNELS);
    if dice.chance(60) {
        // Mostly the inbox first, as people do.
        dice.shuffle(&mut channels[1..]);
    } else {
        dice.shuffle(&mut channels);
    }
    channels.truncate(dice.between(1, 4) as usize);
    let mut steps = Vec::new();
    while !channels.is_empty() {
        let count = if dice.chance(25) { 2 } else { 1 };
        let of: Vec<&str> = channels.drain(..count.min(channels.len())).collect();
        let deadline = dice.chance(85).then(|| dice.pick(&[1_u64, 5, 20, 30, 45, 90]));
        let conditions = ["unacknowledged", "unseen", "inactive", "reachable"];
        let when: Vec<&str> = conditions.into_iter().filter(|_| dice.chance(15)).collect();
        steps.push(serde_json::json!({"channels": of, "deadline": deadline, "when": when}));
    }
    let by = if dice.chance(35) { "any" } else { "each" };
    let text = serde_json::json!({"acknowledged_by": by, "steps": steps}).to_string();
    let plan: carillon_policy::Plan = serde_json::from_str(&text).expect("a plan");
    assert!(plan.check(|_| true).is_empty(), "a request with it is accepted");
    text
}
