use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    ledger::{Ledger, Number},
    senders,
};
use crate::harness::{Api, Hooks, MailReply, Relay, Reply, Start};

/// Every so many of those that go outside also go to plain addresses where they die.
const DYING: u64 = 4;
/// Said of what is not sent since its recipient answered.
const STOPPED: &str = "acknowledged on another device";
/// The plain email address that the relay refuses for good.
const REFUSED: &str = "refused@example.net";

/// Receivers of what goes outside: they outlive the server and remember everything. Some fail now and then.
pub(super) struct Outside {
    hooks: Hooks,
    relay: Relay,
    /// Every so many notifications go outside too.
    every: u64,
}

/// What the receivers and the server's answers say of each other.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Deliveries that were to be.
    pub(super) deliveries: u64,
    /// Of them: refused for good, and dead with a reason.
    pub(super) dead: u64,
    /// Without an end by the horizon, dead for no reason, or said to have arrived where nobody took it.
    pub(super) lost: u64,
    /// Said to have arrived where nobody saw it, or arrived without having been asked for.
    pub(super) phantom: u64,
    /// Attempts of one delivery that differ in id or bytes.
    pub(super) unstable: u64,
    /// Withdrawn right after they were accepted.
    pub(super) withdrawn: u64,
    /// Of them: at a receiver nevertheless, because it was too late.
    pub(super) late: u64,
    /// Not sent, or not again, since their recipient had answered.
    pub(super) stopped: u64,
    /// Attempts that began after their recipient's answer was answered.
    pub(super) begun_after: u64,
    /// Taken more than once: allowed, receivers drop them by the id.
    pub(super) repeats: u64,
}

/// Channel, address and number: what one delivery is known by outside the server.
type Key = (&'static str, String, Number);

/// What receivers have of one delivery.
#[derive(Debug, Default)]
struct Record {
    ids: BTreeSet<String>,
    bodies: BTreeSet<String>,
    seen: u64,
    taken: u64,
}

impl Outside {
    pub(super) async fn start(every: u64) -> Self {
        let (hooks, relay) = (Hooks::start().await, Relay::start().await);
        let well = || Reply::status(204);
        // 503 counts for the host's breaker, 409 for this URL alone.
        for (user, status) in [(5, 409), (6, 503), (7, 503)] {
            hooks.cycle(&path(user), [well(), Reply::status(status), well()]);
        }
        for user in [4, 7] {
            let busy = MailReply::Refuse("451 4.2.0 try again");
            relay.cycle(&email(user), [MailReply::Take, busy, MailReply::Take]);
        }
        hooks.script("/gone", [Reply::status(410)]);
        relay.script(REFUSED, [MailReply::Refuse("550 5.7.1 not by our policy")]);
        Self { hooks, relay, every }
    }

    /// How a server reaches them. What a killed process had under way comes back soon.
    pub(super) fn settings(&self, start: Start) -> Start {
        crate::e2e::impatient(self.relay.port())
            .and(start)
            .env("CARILLON_DISPATCHER__DELIVERY__RETRY__FIRST", "100ms")
            .env("CARILLON_DISPATCHER__DELIVERY__RETRY__LONGEST", "1s")
            .env("CARILLON_DISPATCHER__DELIVERY__LEASE_MARGIN", "1s")
    }

    /// The addresses of a user, for `PUT /v1/users/{id}`.
    pub(super) fn addresses(&self, user: usize) -> Value {
        json!({"addresses": [
            {"channel": "email", "address": email(user)},
            {"channel": "webhook", "address": self.hooks.url(&path(user))},
        ]})
    }

    fn goes(&self, number: Number) -> bool {
        number.is_multiple_of(self.every)
    }

    fn dies(&self, number: Number) -> bool {
        number.is_multiple_of(self.every * DYING)
    }

    fn gone(&self, number: Number) -> String {
        self.hooks.url(&format!("/gone?n={number}"))
    }

    /// A notification that goes outside alone.
    pub(super) fn to_withdraw(&self, number: Number) -> Value {
        json!({
            "targets": [{"address": {"channel": "webhook", "to": self.withdrawn(number)}}],
            "content": {"title": format!("number {number}"), "data": {"n": number}}
        })
    }

    fn withdrawn(&self, number: Number) -> String {
        self.hooks.url(&format!("/withdrawn?n={number}"))
    }

    /// What a notification's request says beside users and content.
    pub(super) fn extend(&self, number: Number, request: &mut Value) {
        if !self.goes(number) {
            return;
        }
        request["channels"] = json!(["in_app", "email", "webhook"]);
        if self.dies(number) {
            let targets = request["targets"].as_array_mut().expect("targets");
            targets.push(json!({"address": {"channel": "email", "to": REFUSED}}));
            targets.push(json!({"address": {"channel": "webhook", "to": self.gone(number)}}));
        }
    }

    /// Channel and address of each delivery that a notification to `users` must have, and whose it is; nobody's are to die.
    fn expected(&self, number: Number, users: &[usize]) -> Vec<(&'static str, String, Option<usize>)> {
        let mut expected = Vec::new();
        for user in users {
            expected.push(("email", email(*user), Some(*user)));
            expected.push(("webhook", self.hooks.url(&path(*user)), Some(*user)));
        }
        if self.dies(number) {
            expected.push(("email", REFUSED.to_owned(), None));
            expected.push(("webhook", self.gone(number), None));
        }
        expected
    }

    /// Waits until every delivery has an end, or until `deadline`, and compares.
    pub(super) async fn judge(&self, ledger: &Ledger, api: &Api, deadline: Instant) -> Counts {
        let going: Vec<(Number, String, Vec<usize>)> = {
            let state = ledger.state();
            let accepted = state.accepted.iter().filter(|(number, _)| self.goes(**number));
            accepted
                .map(|(number, id)| (*number, id.clone(), state.intents[number].clone()))
                .collect()
        };
        let mut counts = Counts::default();
        let mut shown = HashMap::new();
        let mut left: Vec<usize> = (0..going.len()).collect();
        loop {
            let mut open = Vec::new();
            for index in left {
                let (number, id, users) = &going[index];
                let found = found(api, id).await;
                let count = self.expected(*number, users).len();
                if found.len() < count || found.values().any(|delivery| delivery["state"] == "pending") {
                    open.push(index);
                }
                shown.insert(*number, found);
            }
            if open.is_empty() || Instant::now() > deadline {
                break;
            }
            left = open;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let mut records = self.records();
        let mut examples = Vec::new();
        for (number, id, users) in &going {
            for (channel, address, user) in self.expected(*number, users) {
                counts.deliveries += 1;
                let delivery = &shown[number].get(&(channel.to_owned(), address.clone()));
                let record = records
                    .remove(&(channel, address.clone(), *number))
                    .unwrap_or_default();
                let answered = user.and_then(|user| ledger.state().answered.get(&(user, *number)).copied());
                let before = counts.faults();
                counts.weigh(*delivery, &record, user.is_none());
                counts.begun_after += begun_after(*delivery, answered);
                if before != counts.faults() {
                    examples.push(format!(
                        "outside: {number} {id} over {channel} to {address}: {delivery:?}, at the receiver {record:?}"
                    ));
                }
            }
        }
        let withdrawn = ledger.state().withdrawn.clone();
        for (number, id) in &withdrawn {
            let address = self.withdrawn(*number);
            let record = records
                .remove(&("webhook", address.clone(), *number))
                .unwrap_or_default();
            let key = ("webhook".to_owned(), address);
            let mut delivery = found(api, id).await.remove(&key);
            while delivery.as_ref().is_some_and(is_tried) && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(250)).await;
                delivery = found(api, id).await.remove(&key);
            }
            let before = counts.faults();
            counts.weigh_withdrawn(delivery.as_ref(), &record);
            if before != counts.faults() {
                examples.push(format!(
                    "outside: {number} {id}, withdrawn: {delivery:?}, at the receiver {record:?}"
                ));
            }
        }
        // A request whose answer was lost was accepted in the end: what is left was never asked for.
        counts.phantom += records.len() as u64;
        examples.extend(
            records
                .keys()
                .map(|key| format!("outside: nobody asked for {key:?}")),
        );
        let mut state = ledger.state();
        examples.into_iter().for_each(|what| state.example(what));
        counts
    }

    fn records(&self) -> HashMap<Key, Record> {
        let mut records: HashMap<Key, Record> = HashMap::new();
        for (path, hook) in self.hooks.all() {
            let number = hook.json()["data"]["content"]["data"]["n"]
                .as_u64()
                .expect("a number");
            let record = records
                .entry(("webhook", self.hooks.url(&path), number))
                .or_default();
            record.seen += 1;
            record.taken += u64::from(hook.taken);
            record.ids.insert(hook.id);
            record.bodies.insert(hook.body);
        }
        for (to, mail) in self.relay.all() {
            let subject = mail.header("subject");
            let number = subject
                .strip_prefix("number ")
                .and_then(|number| number.parse().ok());
            let number = number.unwrap_or_else(|| panic!("not ours: {mail:?}"));
            let record = records.entry(("email", to, number)).or_default();
            record.seen += 1;
            record.taken += 1;
            record.ids.insert(mail.delivery());
            record.bodies.insert(mail.raw);
        }
        records
    }
}

impl Counts {
    pub(super) fn is_clean(&self) -> bool {
        self.faults() == 0
    }

    fn faults(&self) -> u64 {
        self.lost + self.phantom + self.unstable + self.begun_after
    }

    /// Withdrawn before it was planned, while it waited, or too late; what a receiver took, the attempts must tell.
    fn weigh_withdrawn(&mut self, delivery: Option<&Value>, record: &Record) {
        self.withdrawn += 1;
        self.late += u64::from(record.taken > 0);
        let Some(delivery) = delivery else {
            self.phantom += u64::from(record.seen > 0);
            return;
        };
        let attempts = delivery["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        let told = |outcome: &str| attempts.iter().any(|attempt| attempt["outcome"] == outcome);
        match delivery["state"].as_str() {
            Some("delivered") => self.lost += u64::from(record.taken == 0),
            Some("cancelled") => {
                self.lost += u64::from(told("delivered") && record.taken == 0);
                self.phantom += u64::from(record.seen > 0 && !told("delivered") && !told("lost"));
            }
            _ => self.lost += 1,
        }
        let id = delivery["id"].as_str().expect("an id");
        self.unstable += u64::from(record.bodies.len() > 1 || record.ids.iter().any(|found| found != id));
    }

    fn weigh(&mut self, delivery: Option<&Value>, record: &Record, dies: bool) {
        self.repeats += record.taken.saturating_sub(1);
        let Some(delivery) = delivery else {
            self.lost += 1;
            return;
        };
        match delivery["state"].as_str() {
            Some("accepted" | "delivered") => {
                self.lost += u64::from(record.taken == 0);
                self.phantom += u64::from(record.seen == 0 || dies);
            }
            // Its recipient answered first; what was under way then, the attempts must tell.
            Some("cancelled") if delivery["reason"] == STOPPED => {
                self.stopped += 1;
                let attempts = delivery["attempts"].as_array().map_or(&[][..], Vec::as_slice);
                let told = |outcome: &str| attempts.iter().any(|attempt| attempt["outcome"] == outcome);
                self.phantom += u64::from(record.taken > 0 && !told("lost"));
            }
            // Nobody else refuses for good, and nothing is too late.
            Some("dead") if dies && delivery["reason"].is_string() => self.dead += 1,
            _ => self.lost += 1,
        }
        let id = delivery["id"].as_str().expect("an id");
        let is_stable = record.bodies.len() <= 1 && record.ids.iter().all(|found| found == id);
        self.unstable += u64::from(!is_stable);
    }
}

/// Attempts that began after the answer to the recipient's acknowledgement had come.
fn begun_after(delivery: Option<&Value>, answered: Option<jiff::Timestamp>) -> u64 {
    let (Some(delivery), Some(answered)) = (delivery, answered) else {
        return 0;
    };
    let attempts = delivery["attempts"].as_array().into_iter().flatten();
    let began = attempts
        .filter(|attempt| attempt["operation"] != "recall")
        .map(|attempt| {
            let text = attempt["started_at"].as_str().expect("a time");
            text.parse::<jiff::Timestamp>().expect("a time")
        });
    began.filter(|began| *began > answered).count() as u64
}

/// Whether an attempt is under way, or its process ended and nobody said so yet.
fn is_tried(delivery: &Value) -> bool {
    let attempts = delivery["attempts"].as_array();
    attempts
        .into_iter()
        .flatten()
        .any(|attempt| attempt["outcome"].is_null())
}

fn email(user: usize) -> String {
    format!("{}@example.net", senders::user(user))
}

fn path(user: usize) -> String {
    format!("/{}", senders::user(user))
}

/// A notification's deliveries outside the inbox, by channel and address.
async fn found(api: &Api, notification: &str) -> HashMap<(String, String), Value> {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let answer = api.get(&format!("/v1/notifications/{notification}")).await;
    if answer.status != 200 {
        return HashMap::new(); // counted as lost
    }
    let shown = answer.json();
    let mut found = HashMap::new();
    for recipient in shown["recipients"]["data"].as_array().into_iter().flatten() {
        for delivery in recipient["deliveries"].as_array().into_iter().flatten() {
            if delivery["channel"] != "in_app" {
                let key = (text(&delivery["channel"]), text(&delivery["address"]));
                found.insert(key, delivery.clone());
            }
        }
    }
    found
}
