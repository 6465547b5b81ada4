use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;

use super::journal::Journal;

/// A notification as its sender numbers it; it travels in `content.data.n`.
pub(super) type Number = u64;

/// What one reader has shown to its user.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The highest `seq` shown.
    pub(super) last_seq: u64,
    /// Each number with how often it was shown, repeats by `seq` left out.
    pub(super) numbers: HashMap<Number, u32>,
}

/// Everything that happened, as seen from outside.
pub(super) struct Ledger {
    state: Mutex<State>,
    journal: Journal,
    accepted: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Each intent: number and users.
    pub(super) intents: HashMap<Number, Vec<usize>>,
    /// Each accepted number with its id.
    pub(super) accepted: HashMap<Number, String>,
    /// What was withdrawn right after it was accepted: number and id.
    pub(super) withdrawn: Vec<(Number, String)>,
    /// Requests, for asking again: key, path, body, ids.
    pub(super) requests: Vec<Request>,
    /// By user and reader.
    pub(super) shown: BTreeMap<(usize, &'static str), Shown>,
    /// By user and `seq`: what the change was, so that two readings can be compared.
    pub(super) changes: HashMap<(usize, u64), String>,
    /// Entries whose acknowledgement was answered with 200.
    pub(super) read: Vec<(usize, String)>,
    /// When they were answered, by user and number.
    pub(super) answered: HashMap<(usize, Number), jiff::Timestamp>,
    /// Requests whose first try had no answer.
    pub(super) indeterminate: u64,
    pub(super) dup_wire: u64,
    pub(super) reorder: u64,
    pub(super) silent_gap: u64,
    pub(super) announced_gap: u64,
    pub(super) phantom: u64,
    /// Two answers under one key, or one `seq` with two meanings.
    pub(super) contradiction: u64,
    /// How often the store's rows contradicted each other.
    pub(super) broken: u64,
    /// The first few violations, in words.
    pub(super) examples: Vec<String>,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: String,
    pub(super) path: &'static str,
    pub(super) body: serde_json::Value,
    pub(super) ids: Vec<String>,
}

impl State {
    pub(super) fn example(&mut self, what: String) {
        if self.examples.len() < 20 {
            self.examples.push(what);
        }
    }
}

impl Ledger {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            state: Mutex::default(),
            journal,
            accepted: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no reader or sender panicked")
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How many notifications were accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn intend(&self, key: &str, numbers: &[(Number, Vec<usize>)]) {
        self.journal.note(json!({"intent": key, "numbers": numbers}));
        self.state().intents.extend(numbers.iter().cloned());
    }

    pub(super) fn accept(&self, numbers: &[(Number, Vec<usize>)], request: Request) {
        self.journal
            .note(json!({"accepted": request.key, "ids": request.ids}));
        let mut state = self.state();
        for ((number, _), id) in numbers.iter().zip(&request.ids) {
            if state.accepted.insert(*number, id.clone()).is_none() {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
        state.requests.push(request);
    }

    /// What somebody saw who looked at the store's rows.
    pub(super) fn contradicted(&self, broken: Vec<String>) {
        let mut state = self.state();
        state.broken += broken.len() as u64;
        for what in broken {
            state.example(format!("the store: {what}"));
        }
    }

    /// One change that reader `kind` of `user` received; `connection` is the `seq` before it on the same connection.
    pub(super) fn receive(
        &self,
        user: usize,
        kind: &'static str,
        connection: &mut u64,
        seq: u64,
        change: &serde_json::Value,
    ) {
        let entry = &change["entry"];
        let number = entry["content"]["data"]["n"].as_u64();
        let what = format!(
            "{} {} {}",
            change["type"].as_str().unwrap_or("?"),
            entry["notification_id"].as_str().unwrap_or_default(),
            change["entries"][0]["id"].as_str().unwrap_or_default(),
        );
        self.journal
            .note(json!({"received": kind, "user": user, "seq": seq, "n": number, "what": what}));
        let mut state = self.state();
        if seq <= *connection {
            state.reorder += 1;
            state.example(format!("reorder: user {user} {kind}: {seq} after {connection}"));
        }
        *connection = seq;
        match state.changes.get(&(user, seq)) {
            Some(before) if *before != what => {
                let message = format!("contradiction: user {user} seq {seq}: `{before}`, then `{what}`");
                state.contradiction += 1;
                state.example(message);
            }
            Some(_) => {}
            None => drop(state.changes.insert((user, seq), what)),
        }
        let shown = state.shown.entry((user, kind)).or_default();
        if seq <= shown.last_seq {
            state.dup_wire += 1;
            return;
        }
        let expected = shown.last_seq + 1;
        shown.last_seq = seq;
        if seq != expected {
            state.silent_gap += 1;
            state.example(format!(
                "silent gap: user {user} {kind}: {seq} instead of {expected}"
            ));
        }
        let Some(number) = number else { return };
        *state
            .shown
            .entry((user, kind))
            .or_default()
            .numbers
            .entry(number)
            .or_default() += 1;
        if !state
            .intents
            .get(&number)
            .is_some_and(|users| users.contains(&user))
        {
            state.phantom += 1;
            state.example(format!("phantom: user {user} {kind} was shown {number}"));
        }
    }

    /// A gap that the server announced. In these runs nothing is trimmed, so there is no reason for one.
    pub(super) fn gap(&self, user: usize, kind: &'static str, reason: &serde_json::Value, position: u64) {
        self.journal
            .note(json!({"gap": kind, "user": user, "reason": reason}));
        let mut state = self.state();
        state.announced_gap += 1;
        state.example(format!("announced gap: user {user} {kind}: {reason}"));
        state.shown.entry((user, kind)).or_default().last_seq = position;
    }
}
