use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use carillon_domain::{
    Address, Capabilities, ChannelKind, DeliveryId, Fault, Invalid, NotificationId, Outcome, Scope, TenantId,
    UserId,
    ports::{Channel, CheckedAddress, Message, Operation, Report, Work},
};
use carillon_runtime::config::Span;
use carillon_testkit::TestDatabase;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::node::{Node, Setup, eventually, key};
use crate::store::outside::{Brings, DeliveryState, OutsideRow, WorkRow};

/// A far end of the test's own: what an address does stands in its name.
struct FarEnd {
    /// Every attempt that arrived.
    seen: Mutex<Vec<(DeliveryId, u32, String)>>,
    /// Who hangs goes on when there is a permit.
    gate: Semaphore,
    hanging: AtomicUsize,
    /// Whether what is ill answers well.
    mended: Mutex<bool>,
}

impl FarEnd {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            hanging: AtomicUsize::new(0),
            mended: Mutex::new(false),
        })
    }

    fn attempts(&self, id: DeliveryId) -> Vec<u32> {
        self.seen
            .lock()
            .iter()
            .filter(|(seen, ..)| *seen == id)
            .map(|(_, attempt, _)| *attempt)
            .collect()
    }

    fn count(&self) -> usize {
        self.seen.lock().len()
    }
}

#[async_trait]
impl Channel for FarEnd {
    fn kind(&self) -> ChannelKind {
        kind()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        let (_, host) = address.split_once('@').ok_or(Invalid("no address"))?;
        Ok(CheckedAddress {
            address: address.to_lowercase().parse()?,
            lane: Arc::from(host),
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        let Message::Notification(message) = &work.message else {
            panic!("a notification");
        };
        let title = message.content.title.clone();
        self.seen.lock().push((work.delivery, work.attempt, title));
        let address = work.address.as_str();
        let retry = |fault| Outcome::Retry {
            after: None,
            reason: "it is ill".to_owned(),
            fault,
        };
        let outcome = match address.split('@').next() {
            Some("hangs") => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.expect("open").forget();
                Outcome::Delivered { provider_id: None }
            }
            Some("panics") => panic!("a poison"),
            Some("ill") if !*self.mended.lock() => retry(Fault::Provider),
            Some("full") if !*self.mended.lock() => retry(Fault::Address),
            Some("gone") => Outcome::Gone {
                reason: "nobody there".to_owned(),
            },
            _ => Outcome::Accepted {
                provider_id: Some("it-1".to_owned()),
            },
        };
        Report::new(outcome)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

fn kind() -> ChannelKind {
    "test".parse().expect("a channel")
}

fn over(far: &Arc<FarEnd>) -> Setup {
    Setup {
        channels: vec![far.clone()],
        ..Setup::default()
    }
}

/// Deliveries of one notification to these addresses, opened as planning does.
async fn deliver(node: &Node, addresses: &[String]) -> Vec<DeliveryId> {
    let body = json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}});
    let id = node.send(body).await.parse().expect("an id");
    deliver_of(node, id, addresses).await
}

/// As [`deliver`], of a notification that may be there.
async fn deliver_of(node: &Node, id: NotificationId, addresses: &[String]) -> Vec<DeliveryId> {
    let now = node.now();
    let rows: Vec<_> = addresses
        .iter()
        .map(|address| OutsideRow {
            tenant: TenantId::default(),
            id: DeliveryId::at(now),
            brings: Brings::Notification(id),
            // Each a recipient of his own.
            user: Some(UserId::at(now)),
            step: 0,
            name: None,
            channel: kind(),
            address: address.parse::<Address>().expect("an address"),
            device: None,
            lane: Arc::from(address.split('@').next_back().unwrap_or_default()),
            locale: None,
            state: DeliveryState::Pending,
            reason: None,
            provider_id: None,
            collapse: None,
            created_at: now,
            expires_at: now.after(Duration::from_secs(3_600)),
        })
        .collect();
    let work: Vec<_> = rows
        .iter()
        .map(|row| WorkRow::of(row, Arc::from(""), Operation::Deliver))
        .collect();
    let store = &node.dispatcher.store;
    store.open_work(&rows, &work).await.expect("commits");
    rows.iter().map(|row| row.id).collect()
}

async fn to(node: &Node, address: &str) -> DeliveryId {
    deliver(node, &[address.to_owned()]).await[0]
}

async fn shown(node: &Node, id: DeliveryId) -> Value {
    let answer = node
        .key(Method::GET, &format!("/v1/deliveries/{id}"), Value::Null)
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

async fn until(node: &Node, id: DeliveryId, state: &str) -> Value {
    eventually(async || shown(node, id).await["state"] == state).await;
    shown(node, id).await
}

fn outcomes(shown: &Value) -> Vec<&str> {
    shown["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap_or("runs"))
        .collect()
}

#[tokio::test]
async fn what_is_planned_goes_out_and_says_what_became_of_it() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let id = to(&node, "well@a.example").await;
    let shown = until(&node, id, "accepted").await;
    assert_eq!(outcomes(&shown), ["accepted"]);
    assert_eq!(
        (&shown["next_at"], &shown["attempt_count"]),
        (&Value::Null, &json!(1))
    );
    assert_eq!(*far.seen.lock(), [(id, 1, "hello".to_owned())]);
    let absent = format!("/v1/deliveries/{}", DeliveryId::at(node.now()));
    assert_eq!(node.key(Method::GET, &absent, Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_lane_that_hangs_does_not_take_the_slots_of_others() {
    let far = FarEnd::new();
    let setup = Setup {
        config: Some(|config| config.delivery.width = 4),
        ..over(&far)
    };
    let node = Node::with(setup).await;
    let slow = deliver(&node, &vec!["hangs@slow.example".to_owned(); 50]).await;
    eventually(async || far.hanging.load(Ordering::SeqCst) == 3).await;
    let hosts: Vec<_> = (0..20).map(|host| format!("well@{host}.example")).collect();
    for id in deliver(&node, &hosts).await {
        until(&node, id, "accepted").await;
    }
    assert_eq!(
        far.hanging.load(Ordering::SeqCst),
        3,
        "a tenant's share of its width, and no more"
    );
    far.gate.add_permits(50);
    for id in slow {
        until(&node, id, "delivered").await;
    }
}

#[tokio::test]
async fn a_poison_is_dead_and_its_neighbours_go_out() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let addresses = ["well@a.example", "panics@a.example", "well@a.example"].map(str::to_owned);
    let ids = deliver(&node, &addresses).await;
    until(&node, ids[0], "accepted").await;
    until(&node, ids[2], "accepted").await;
    let poison = until(&node, ids[1], "dead").await;
    assert_eq!(poison["reason"], "the channel failed on it");
}

#[tokio::test]
async fn attempts_come_back_until_the_time_to_live_ends_and_a_redrive_tries_anew() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let id = to(&node, "full@a.example").await;
    eventually(async || far.attempts(id) == [1]).await;
    eventually(async || !shown(&node, id).await["next_at"].is_null()).await;
    node.advance(Duration::from_secs(6));
    eventually(async || far.attempts(id) == [1, 2]).await;
    eventually(async || !shown(&node, id).await["next_at"].is_null()).await;
    node.advance(Duration::from_secs(7_200));
    let dead = until(&node, id, "dead").await;
    assert_eq!(dead["reason"], "its time to live ended; last: it is ill");
    assert_eq!(outcomes(&dead), ["retry", "retry"]);
    let letters = node.key(Method::GET, "/v1/dead-letters", Value::Null).await.body;
    assert_eq!(letters["data"][0]["id"], json!(id));
    let none = "/v1/dead-letters?reason=other";
    assert_eq!(
        node.key(Method::GET, none, Value::Null).await.body["data"],
        json!([])
    );
    // Exactly one way to say which.
    for body in [
        json!({}),
        json!({"all": false}),
        json!({"all": true, "ids": [id]}),
    ] {
        let answer = node.key(Method::POST, "/v1/dead-letters/redrive", body).await;
        assert_eq!(answer.status, 422);
    }
    *far.mended.lock() = true;
    let filter = json!({"filter": {"channel": "test", "reason": "it is ill"}});
    let begun = node.key(Method::POST, "/v1/dead-letters/redrive", filter).await;
    assert_eq!((begun.status.as_u16(), &begun.body["total"]), (202, &json!(1)));
    let accepted = until(&node, id, "accepted").await;
    assert_eq!(outcomes(&accepted), ["retry", "retry", "accepted"]);
    assert_eq!(far.attempts(id), [1, 2, 3]);
    let path = format!("/v1/redrives/{}", begun.body["id"].as_str().expect("an id"));
    let redrive = node.key(Method::GET, &path, Value::Null).await.body;
    assert_eq!((&redrive["state"], &redrive["done"]), (&json!("done"), &json!(1)));
    let listed = node.key(Method::GET, "/v1/redrives", Value::Null).await.body;
    assert_eq!(listed["data"], json!([redrive]));
}

#[tokio::test]
async fn a_lane_in_trouble_is_left_alone_and_then_asked_by_one() {
    let far = FarEnd::new();
    let setup = Setup {
        config: Some(|config| config.delivery.width = 1),
        ..over(&far)
    };
    let node = Node::with(setup).await;
    let ids = deliver(&node, &vec!["ill@a.example".to_owned(); 9]).await;
    let breaker = async || {
        let answer = node.key(Method::GET, "/v1/breakers", Value::Null).await;
        answer.body["data"][0].clone()
    };
    eventually(async || breaker().await["state"] == "open").await;
    assert_eq!(far.count(), 5, "that many failures in a row");
    let other = to(&node, "well@b.example").await;
    until(&node, other, "accepted").await;
    assert_eq!(far.count(), 6, "none was made in the lane meanwhile");
    *far.mended.lock() = true;
    node.advance(Duration::from_secs(10));
    for id in ids {
        until(&node, id, "accepted").await;
    }
    eventually(async || breaker().await.is_null()).await;
}

#[tokio::test]
async fn what_no_message_can_be_made_of_says_nothing_about_its_lane() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let fails = async |count| {
        for _ in 0..count {
            let id = to(&node, "ill@a.example").await;
            eventually(async || far.attempts(id).len() == 1).await;
        }
    };
    fails(4).await;
    // Of a notification that nobody knows.
    let made_of_nothing = deliver_of(
        &node,
        NotificationId::at(node.now()),
        &["well@a.example".to_owned()],
    )
    .await[0];
    until(&node, made_of_nothing, "dead").await;
    assert_eq!(far.count(), 4, "it was not sent");
    fails(1).await;
    eventually(async || {
        let answer = node.key(Method::GET, "/v1/breakers", Value::Null).await;
        answer.body["data"][0]["state"] == "open"
    })
    .await;
}

#[tokio::test]
async fn a_tenant_is_told_of_the_lanes_that_its_own_work_is_in() {
    let far = FarEnd::new();
    let node = Node::with(Setup {
        config: Some(|config| config.delivery.width = 1),
        ..over(&far)
    })
    .await;
    deliver(&node, &vec!["ill@a.example".to_owned(); 9]).await;
    let breakers = async |tenant: &TenantId| {
        let reader = key(tenant, &Scope::ALL);
        let answer = node.request(reader, Method::GET, "/v1/breakers", &[], None).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body["data"].as_array().expect("a list").clone()
    };
    eventually(async || {
        let own = breakers(&TenantId::default()).await;
        own.first().is_some_and(|lane| lane["state"] == "open")
    })
    .await;
    let acme: TenantId = "acme".parse().expect("a tenant");
    assert!(breakers(&acme).await.is_empty(), "it has nothing there");
}

#[tokio::test]
async fn a_lane_that_cannot_be_leased_from_holds_up_no_other() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let broken = "CREATE TRIGGER broken BEFORE UPDATE ON delivery_queue WHEN NEW.lane = 'broken.example' \
                  BEGIN SELECT RAISE(ABORT, 'it is broken'); END";
    let carillon_sql::Database::Sqlite(sqlite) = node.database() else {
        panic!("it is SQLite");
    };
    let mut tx = sqlite.begin_system("a test prepares").await.expect("begins");
    sqlx::query(broken).execute(&mut *tx).await.expect("runs");
    tx.commit().await.expect("commits");
    // One look finds all three.
    let addresses = ["well@a.example", "well@broken.example", "well@z.example"].map(str::to_owned);
    let ids = deliver(&node, &addresses).await;
    until(&node, ids[0], "accepted").await;
    until(&node, ids[2], "accepted").await;
    assert_eq!(shown(&node, ids[1]).await["state"], "pending");
}

#[tokio::test]
async fn a_crash_while_it_is_tried_tries_again_with_the_same_id() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let id = to(&node, "hangs@a.example").await;
    eventually(async || far.hanging.load(Ordering::SeqCst) == 1).await;
    let node = node.crash_and_restart().await;
    eventually(async || far.hanging.load(Ordering::SeqCst) == 2).await;
    far.gate.add_permits(1);
    let shown = until(&node, id, "delivered").await;
    assert_eq!(outcomes(&shown), ["lost", "delivered"]);
    assert_eq!(far.attempts(id), [1, 2]);
}

#[tokio::test]
async fn stopping_lets_what_runs_come_to_its_end_and_begins_nothing() {
    let far = FarEnd::new();
    let setup = Setup {
        config: Some(|config| config.delivery.width = 1),
        ..over(&far)
    };
    let node = Node::with(setup).await;
    let ids = deliver(&node, &vec!["hangs@a.example".to_owned(); 2]).await;
    eventually(async || far.hanging.load(Ordering::SeqCst) == 1).await;
    let finishing = tokio::spawn(node.finish());
    far.gate.add_permits(2);
    let node = finishing.await.expect("no panic");
    let mut states = HashMap::new();
    for id in ids {
        let state = shown(&node, id).await["state"].clone();
        *states
            .entry(state.as_str().expect("a state").to_owned())
            .or_insert(0) += 1;
    }
    let expected = [("delivered".to_owned(), 1), ("pending".to_owned(), 1)];
    assert_eq!(states, HashMap::from(expected));
    assert_eq!(far.count(), 1);
}

#[tokio::test]
async fn suppressed_addresses_are_listed_and_lifted() {
    let far = FarEnd::new();
    let node = Node::with(over(&far)).await;
    let id = to(&node, "gone@a.example").await;
    until(&node, id, "dead").await;
    let body = json!({"channel": "test", "address": "WELL@A.example", "detail": "on the phone"});
    let answer = node.key(Method::POST, "/v1/suppressions", body).await;
    assert_eq!(
        answer.body["address"], "well@a.example",
        "as the channel spells it"
    );
    let bad = json!({"channel": "test", "address": "nonsense"});
    let answer = node.key(Method::POST, "/v1/suppressions", bad).await;
    assert_eq!(answer.pointers(), ["/address"]);
    let listed = node
        .key(Method::GET, "/v1/suppressions?limit=1", Value::Null)
        .await
        .body;
    assert_eq!(listed["data"][0]["address"], "gone@a.example");
    assert_eq!(listed["data"][0]["reason"], "gone");
    let next = format!(
        "/v1/suppressions?channel=test&cursor={}",
        listed["next"].as_str().expect("another page")
    );
    let listed = node.key(Method::GET, &next, Value::Null).await.body;
    assert_eq!(listed["data"][0]["reason"], "manual");
    let skipped = to(&node, "well@a.example").await;
    until(&node, skipped, "skipped").await;
    for status in [204, 404] {
        let path = "/v1/suppressions/test/well%40a.example";
        assert_eq!(node.key(Method::DELETE, path, Value::Null).await.status, status);
    }
    let again = to(&node, "well@a.example").await;
    until(&node, again, "accepted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_never_make_the_same_attempt() {
    let far = FarEnd::new();
    let setup = Setup {
        config: Some(|config| {
            config.delivery.width = 8;
            config.delivery.poll = Span::from_millis(5);
        }),
        ..over(&far)
    };
    let first = Node::on(Arc::new(TestDatabase::postgres("dispatcher").await), setup).await;
    let second = first.beside().await;
    let addresses: Vec<_> = (0..200).map(|n| format!("well@{}.example", n % 5)).collect();
    let ids = deliver(&first, &addresses).await;
    eventually(async || {
        // Lanes that were parked come back when the clock says so.
        first.advance(Duration::from_millis(500));
        far.count() >= 200
    })
    .await;
    for id in &ids {
        until(&second, *id, "accepted").await;
        assert_eq!(far.attempts(*id), [1]);
    }
    assert_eq!(far.count(), 200);
}
