//! `kill -9` in the middle of a broadcast to 100,000, and of its withdrawal.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use carillon_domain::{Clock as _, SystemClock};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::seed;
use crate::harness::{Api, Hooks, Relay, Server, Store, report};

const USERS: usize = 100_000;
/// Every so many users have a webhook too.
const OUTSIDE: usize = 200;
/// Users of one request.
const BULK: usize = 1_000;
/// Requests under way at the same time while they sign up.
const CONNECTIONS: usize = 4;
const KILLS: usize = 4;
const TOPIC: &str = "everybody";
const LIMIT: Duration = Duration::from_secs(180);

/// A server with the users.
struct Audience {
    server: Server,
    api: Api,
    hooks: Hooks,
    _relay: Relay,
}

fn name(number: usize) -> String {
    format!("reader{number}")
}

fn path(number: usize) -> String {
    format!("/reader/{number}")
}

/// Subscribes everybody, some requests of many.
async fn subscribe(api: Api, part: usize) {
    let path = format!("/v1/topics/{TOPIC}/subscriptions");
    for first in (part * BULK..USERS).step_by(CONNECTIONS * BULK) {
        let items: Vec<_> = (first..first + BULK)
            .map(|number| json!({"subscribe": name(number)}))
            .collect();
        api.post(&path, &json!({"items": items})).await.expect(200);
    }
}

/// Gives some a webhook.
async fn register(api: Api, hooks: Hooks, part: usize) {
    for number in (part * OUTSIDE..USERS).step_by(CONNECTIONS * OUTSIDE) {
        let address = json!({"channel": "webhook", "address": hooks.url(&path(number))});
        let profile = json!({"addresses": [address]});
        let answer = api.put(&format!("/v1/users/{}", name(number)), &profile).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
}

impl Audience {
    async fn gather() -> Self {
        let (hooks, relay) = (Hooks::start().await, Relay::start().await);
        let server = crate::e2e::impatient(relay.port())
            .env("CARILLON_LOG__LEVEL", "warn")
            // What a killed process had under way comes back soon.
            .env("CARILLON_DISPATCHER__DELIVERY__LEASE_MARGIN", "1s")
            .serve()
            .await;
        let api = server.api().await;
        let mut gathering = JoinSet::new();
        for part in 0..CONNECTIONS {
            gathering.spawn(subscribe(api.clone(), part));
            gathering.spawn(register(api.clone(), hooks.clone(), part));
        }
        gathering.join_all().await;
        Self {
            server,
            api,
            hooks,
            _relay: relay,
        }
    }

    async fn send(&self, title: &str) -> String {
        self.api
            .notify(json!({
                "targets": [{"topic": TOPIC}],
                "channels": ["in_app", "webhook"],
                "content": {"title": title}
            }))
            .await
    }

    /// How many are planned by its own word, and by its rows, at one moment.
    async fn planned(&self, id: &str) -> (usize, usize) {
        let query = format!(
            "SELECT b.planned || ' ' || (SELECT COUNT(*) FROM recipients r \
             WHERE r.tenant = b.tenant AND r.notification = b.notification) \
             FROM broadcasts b WHERE b.tenant = 'default' AND b.notification = '{id}'"
        );
        let Some(text) = self.server.texts(query).await.pop() else {
            return (0, 0);
        };
        let (word, rows) = text.split_once(' ').expect("two numbers");
        (word.parse().expect("a number"), rows.parse().expect("a number"))
    }

    /// Waits until so many are planned, and checks that the progress is true.
    async fn reach(&self, id: &str, target: usize) -> usize {
        let begun = Instant::now();
        loop {
            let (word, rows) = self.planned(id).await;
            assert_eq!(word, rows, "the progress of {id} is not what its rows say");
            if word >= target {
                return word;
            }
            assert!(
                begun.elapsed() < LIMIT,
                "{word} of {target} are planned, and no more"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a notification that is as it should be.
    async fn shown(&self, id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.api.notification(id).await;
            if fits(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < LIMIT, "{what}: {shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many entries in inboxes show it, and of how many users they are.
    async fn entries(&self, id: &str) -> String {
        let query = format!(
            "SELECT COUNT(*) || ' ' || COUNT(DISTINCT user_id) FROM entries \
             WHERE tenant = 'default' AND notification = '{id}' AND gone_at IS NULL"
        );
        self.server.texts(query).await.remove(0)
    }

    /// Each one's webhooks of a notification, by their ids.
    fn hooked(&self, title: &str) -> HashMap<String, HashSet<String>> {
        let mut hooked: HashMap<String, HashSet<String>> = HashMap::new();
        for (path, hook) in self.hooks.all() {
            if hook.body.contains(title) {
                hooked.entry(path).or_default().insert(hook.id);
            }
        }
        hooked
    }
}

fn sum(shown: &Value) -> u64 {
    let counts = shown["counts"].as_array().expect("counts");
    counts
        .iter()
        .map(|count| count["count"].as_u64().expect("a count"))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_goes_on_where_it_was_killed_and_a_withdrawal_holds() {
    let begun = Instant::now();
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut audience = Audience::gather().await;
    let ready = begun.elapsed();

    // Everybody gets it once, however often it is killed.
    let id = audience.send("first-news").await;
    let mut targets: Vec<usize> = (0..KILLS).map(|_| random.random_range(1..USERS)).collect();
    targets.sort_unstable();
    let mut killed_at = Vec::new();
    for target in targets {
        killed_at.push(audience.reach(&id, target).await);
        tokio::time::sleep(Duration::from_micros(random.random_range(0..30_000))).await;
        audience.server.start_again().await;
    }
    audience.reach(&id, USERS).await;
    let shown = audience
        .shown(&id, "planned for everybody", |shown| {
            shown["broadcast"]["state"] == "done"
        })
        .await;
    assert_eq!(shown["broadcast"]["planned"], USERS, "{shown}");
    assert_eq!(sum(&shown), USERS as u64, "{shown}");
    assert_eq!(audience.entries(&id).await, format!("{USERS} {USERS}"));
    for number in [0, random.random_range(0..USERS), USERS - 1] {
        let inbox = audience.api.user(&name(number)).await.inbox().await;
        let entries = inbox["data"].as_array().expect("entries");
        assert_eq!(entries.len(), 1, "{inbox}");
        assert_eq!(entries[0]["content"]["title"], "first-news");
    }
    let outside = USERS / OUTSIDE;
    let waited = Instant::now();
    while audience.hooked("first-news").len() < outside {
        assert!(waited.elapsed() < LIMIT, "a webhook does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let hooked = audience.hooked("first-news");
    assert!(
        hooked.values().all(|ids| ids.len() == 1),
        "one delivery each, by one id, however often it was tried"
    );

    // What is withdrawn in its middle stays withdrawn.
    let id = audience.send("second-news").await;
    audience
        .reach(&id, random.random_range(USERS / 10..USERS / 2))
        .await;
    let answer = audience
        .api
        .post(&format!("/v1/notifications/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    let answered = SystemClock.now().as_micros();
    let (planned, _) = audience.planned(&id).await;
    tokio::time::sleep(Duration::from_micros(random.random_range(0..30_000))).await;
    audience.server.start_again().await;
    let shown = audience
        .shown(&id, "withdrawn for everybody", |shown| {
            shown["withdrawal"]["done"] == true
        })
        .await;
    assert_eq!(shown["state"], "cancelled", "{shown}");
    assert_eq!(shown["broadcast"]["state"], "cancelled", "{shown}");
    assert_eq!(
        audience.planned(&id).await,
        (planned, planned),
        "planned after the answer: {shown}"
    );
    assert!(
        planned < USERS,
        "it was planned to its end before it was withdrawn: {shown}"
    );
    assert_eq!(sum(&shown), planned as u64, "{shown}");
    let counts = shown["counts"].as_array().expect("counts");
    assert!(counts.iter().all(|count| count["state"] != "open"), "{shown}");
    assert_eq!(audience.entries(&id).await, "0 0", "nobody's inbox shows it");
    let begun_after = format!(
        "SELECT a.delivery FROM deliveries d JOIN attempts a ON a.tenant = d.tenant AND a.delivery = d.id \
         WHERE d.tenant = 'default' AND d.notification = '{id}' AND a.operation = 'deliver' \
         AND a.started_at > {answered}"
    );
    assert_eq!(audience.server.texts(begun_after).await, Vec::<String>::new());
    let inbox = audience.api.user(&name(0)).await.inbox().await;
    assert_eq!(inbox["data"].as_array().expect("entries").len(), 1, "{inbox}");
    report(&format!(
        "kill -9 in a broadcast to {USERS} on {:?}: seed {seed}, killed at {killed_at:?}, then withdrawn at {planned} \
         ({} in flight): each once in the inbox, {outside} webhooks by one id each, 0 planned and 0 begun after the \
         answer; {:.0} s, {:.0} s of them to gather the audience",
        Store::under_test(),
        answer["in_flight"],
        begun.elapsed().as_secs_f64(),
        ready.as_secs_f64(),
    ));
}
