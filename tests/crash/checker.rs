use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    ledger::{Ledger, Number},
    outside::{Counts, Outside},
    senders,
};
use crate::harness::Api;

/// How many answered requests are asked again at the end.
const ASKED_AGAIN: usize = 300;
/// How many notifications are looked at one by one.
const LOOKED_AT: usize = 300;

/// What the run showed.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    kills: u64,
    seed: u64,
    took: Duration,
    accepted: u64,
    indeterminate: u64,
    /// Accepted, and not shown by a reader or not in the inbox.
    pub(super) lost: u64,
    /// Shown twice to one user.
    dup_visible: u64,
    dup_wire: u64,
    reorder: u64,
    pub(super) silent_gap: u64,
    announced_gap: u64,
    phantom: u64,
    contradiction: u64,
    /// Accepted, and not at its end by the horizon.
    pub(super) stuck: u64,
    /// Acknowledged with 200, and not acknowledged in the inbox.
    unacknowledged: u64,
    /// How often the store's rows contradicted each other, looked at after each kill.
    pub(super) broken: u64,
    /// What went outside the inbox.
    pub(super) outside: Counts,
    pub(super) examples: Vec<String>,
}

impl Verdict {
    pub(super) fn of_run(self, kills: u64, seed: u64, took: Duration) -> Self {
        Self {
            kills,
            seed,
            took,
            ..self
        }
    }

    /// Repeats on the wire are allowed; nothing else is.
    pub(super) fn is_clean(&self) -> bool {
        self.lost
            + self.dup_visible
            + self.reorder
            + self.silent_gap
            + self.announced_gap
            + self.phantom
            + self.contradiction
            + self.stuck
            + self.unacknowledged
            + self.broken
            == 0
            && self.outside.is_clean()
    }
}

impl fmt::Display for Verdict {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} accepted, {} indeterminate and settled, seed {}, {:.0} s: lost {}, dup_visible {}, \
             dup_wire {}, reorder {}, silent_gap {}, announced_gap {}, phantom {}, contradiction {}, stuck {}, \
             unacknowledged {}, broken {}; {} deliveries by email and webhook, {} of them refused for good: lost {}, phantom {}, \
             unstable {}, repeats {}, stopped by an answer {}, begun after it {}; {} withdrawn, {} of them too late",
            self.kills,
            self.accepted,
            self.indeterminate,
            self.seed,
            self.took.as_secs_f64(),
            self.lost,
            self.dup_visible,
            self.dup_wire,
            self.reorder,
            self.silent_gap,
            self.announced_gap,
            self.phantom,
            self.contradiction,
            self.stuck,
            self.unacknowledged,
            self.broken,
            self.outside.deliveries,
            self.outside.dead,
            self.outside.lost,
            self.outside.phantom,
            self.outside.unstable,
            self.outside.repeats,
            self.outside.stopped,
            self.outside.begun_after,
            self.outside.withdrawn,
            self.outside.late,
        )?;
        if self.is_clean() {
            let bound = |n: u64| 300.0 / n.max(1) as f64;
            write!(
                f,
                "; at 95 % below {:.2} % of kills and {:.4} % of notifications",
                bound(self.kills),
                bound(self.accepted)
            )?;
        }
        Ok(())
    }
}

/// Waits until everything has come to rest, or the horizon, and compares.
pub(super) async fn judge(
    ledger: &Ledger,
    outside: &Outside,
    api: &Api,
    users: &[(Api, String)],
    horizon: Duration,
) -> Verdict {
    let deadline = Instant::now() + horizon;
    while Instant::now() < deadline && missing(ledger) > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Acknowledgements by the readers may still be on their way to the other reader.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let again: Vec<_> = {
        let state = ledger.state();
        let step = (state.requests.len() / ASKED_AGAIN).max(1);
        state.requests.iter().step_by(step).cloned().collect()
    };
    for request in &again {
        senders::again(api, ledger, request).await;
    }
    // What was acknowledged before the inboxes are looked at must be there. A reader that is behind goes on
    // acknowledging meanwhile: that proves nothing either way.
    let read = ledger.state().read.clone();
    let mut inboxes = Vec::new();
    for (user, _) in users {
        inboxes.push(inbox(user).await);
    }
    let states = states(api).await;

    let mut verdict = Verdict::default();
    compare(ledger, &read, &inboxes, &states, &mut verdict);
    look(ledger, api, &mut verdict).await;
    verdict.outside = outside.judge(ledger, api, deadline).await;
    let mut state = ledger.state();
    verdict.examples.append(&mut state.examples);
    verdict
}

/// Accepted and not shown by every reader of every target.
fn missing(ledger: &Ledger) -> usize {
    let state = ledger.state();
    let mut missing = 0;
    for number in state.accepted.keys() {
        for user in &state.intents[number] {
            for kind in ["sse", "websocket"] {
                let shown = state.shown.get(&(*user, kind));
                if !shown.is_some_and(|shown| shown.numbers.contains_key(number)) {
                    missing += 1;
                }
            }
        }
    }
    missing
}

fn compare(
    ledger: &Ledger,
    read: &[(usize, String)],
    inboxes: &[HashMap<Number, Vec<Value>>],
    states: &BTreeMap<String, String>,
    verdict: &mut Verdict,
) {
    let mut state = ledger.state();
    let mut examples = Vec::new();
    let mut example = |what: String| {
        if examples.len() < 20 {
            examples.push(what);
        }
    };
    for (number, id) in &state.accepted {
        match states.get(id).map(String::as_str) {
            Some("planned") => {}
            Some(other) => {
                verdict.stuck += 1;
                example(format!("stuck: {number} {id} is {other}"));
            }
            None => {
                verdict.lost += 1;
                example(format!("lost: {number} {id} is not there"));
            }
        }
        for user in &state.intents[number] {
            let in_inbox = inboxes[*user].get(number).map_or(0, Vec::len);
            if in_inbox == 0 {
                verdict.lost += 1;
                example(format!("lost: {number} {id} is not in the inbox of user {user}"));
            }
            verdict.dup_visible += in_inbox.saturating_sub(1) as u64;
            for kind in ["sse", "websocket"] {
                let shown = state.shown.get(&(*user, kind));
                let times = shown
                    .and_then(|shown| shown.numbers.get(number))
                    .copied()
                    .unwrap_or(0);
                if times == 0 {
                    verdict.lost += 1;
                    example(format!(
                        "lost: {number} {id} was not shown to user {user} over {kind}"
                    ));
                }
                if times > 1 {
                    verdict.dup_visible += u64::from(times - 1);
                    example(format!(
                        "dup_visible: {number} {id} was shown {times} times to user {user} over {kind}"
                    ));
                }
            }
        }
    }
    let withdrawn = state.withdrawn.iter().map(|(_, id)| id);
    let known: HashSet<&String> = state.accepted.values().chain(withdrawn).collect();
    for id in states.keys().filter(|id| !known.contains(id)) {
        verdict.phantom += 1;
        example(format!("phantom: nobody was told of {id}"));
    }
    let acknowledged: HashSet<&str> = inboxes
        .iter()
        .flat_map(HashMap::values)
        .flatten()
        .filter(|entry| entry["acknowledgement"].is_object() && entry["read_at"].is_string())
        .filter_map(|entry| entry["id"].as_str())
        .collect();
    for (user, entry) in read
        .iter()
        .filter(|(_, entry)| !acknowledged.contains(entry.as_str()))
    {
        verdict.unacknowledged += 1;
        example(format!("unacknowledged: {entry} of user {user}"));
    }
    verdict.accepted = state.accepted.len() as u64;
    verdict.indeterminate = state.indeterminate;
    verdict.dup_wire = state.dup_wire;
    verdict.reorder = state.reorder;
    verdict.silent_gap = state.silent_gap;
    verdict.announced_gap = state.announced_gap;
    verdict.phantom += state.phantom;
    verdict.contradiction = state.contradiction;
    state.examples.append(&mut examples);
}

/// The deliveries of some of them, one by one.
async fn look(ledger: &Ledger, api: &Api, verdict: &mut Verdict) {
    let some: Vec<(String, usize)> = {
        let state = ledger.state();
        let step = (state.accepted.len() / LOOKED_AT).max(1);
        let some = state.accepted.iter().step_by(step);
        some.map(|(number, id)| (id.clone(), state.intents[number].len()))
            .collect()
    };
    for (id, users) in some {
        let answer = api.get(&format!("/v1/notifications/{id}")).await;
        if answer.status != 200 {
            continue; // counted as lost above
        }
        let shown = answer.json();
        let recipients = shown["recipients"]["data"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let delivered = recipients
            .iter()
            // `delivered` once a device confirmed it, `accepted` once it is in the mailbox.
            .flat_map(|recipient| recipient["deliveries"].as_array().into_iter().flatten())
            .filter(|delivery| delivery["channel"] == "in_app")
            .filter(|delivery| matches!(delivery["state"].as_str(), Some("accepted" | "delivered")))
            .count();
        if delivered != users {
            verdict.stuck += 1;
            ledger
                .state()
                .example(format!("stuck: {id}: {delivered} of {users} delivered"));
        }
    }
}

/// All entries of one user, by number.
async fn inbox(user: &Api) -> HashMap<Number, Vec<Value>> {
    let mut entries: HashMap<Number, Vec<Value>> = HashMap::new();
    for entry in pages(user, "/v1/inbox?view=all&limit=200").await {
        let number = entry["content"]["data"]["n"].as_u64().expect("a number");
        entries.entry(number).or_default().push(entry);
    }
    entries
}

/// Each notification's id and state.
async fn states(api: &Api) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    pages(api, "/v1/notifications?limit=200")
        .await
        .iter()
        .map(|item| (text(&item["id"]), text(&item["state"])))
        .collect()
}

async fn pages(api: &Api, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut page = api.get(&format!("{path}{cursor}")).await.expect(200);
        match page["data"].take() {
            Value::Array(data) => items.extend(data),
            other => panic!("not a page: {other}"),
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}
