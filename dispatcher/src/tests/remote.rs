use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use carillon_domain::{
    Caller, ChannelKind, DeliveryId, KeyId, NotificationId, Principal, Scope, TenantId, WorkerCaller,
    ports::Operation,
};
use carillon_runtime::http::Served;
use carillon_testkit::TestDatabase;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::node::{Answer, Node, Setup, eventually, key};
use crate::remote::{Holder, RemoteError};
use crate::store::outside::{Brings, DeliveryState, OutsideRow, WorkRow};

/// Each behaviour on both stores.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Node::sqlite().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let database = super::Arc::new(super::TestDatabase::postgres("dispatcher").await);
                super::$name(super::Node::on(database, super::Setup::default()).await).await;
            })*
        }
    };
}

on_both!(
    a_worker_pulls_and_answers_once,
    what_a_dead_worker_had_comes_again_with_the_same_id,
    a_retry_comes_back_at_its_time_until_it_is_a_dead_letter,
    a_channel_in_trouble_is_left_alone,
    a_tenants_worker_sees_its_tenants_work_alone,
    what_can_be_taken_back_ends_in_recalled,
    a_lease_may_be_extended_but_not_for_ever,
    receipts_move_deliveries_and_acknowledge,
    an_address_that_is_gone_is_not_written_to_again,
    a_worker_that_hangs_up_takes_no_slot_with_it,
);

fn sms() -> ChannelKind {
    "sms".parse().expect("a channel")
}

fn acme() -> TenantId {
    "acme".parse().expect("a tenant")
}

/// A worker of one tenant.
fn worker(tenant: &TenantId) -> Principal {
    key(tenant, &[Scope::Channel(sms())])
}

/// A worker of all tenants.
fn worker_for_all() -> Principal {
    Principal {
        tenant: TenantId::default(),
        caller: Caller::Worker(Arc::new(WorkerCaller {
            id: KeyId::at(Default::default()),
            channels: vec![sms()],
        })),
    }
}

async fn post(node: &Node, principal: Principal, path: &str, body: Value) -> Answer {
    let path = format!("/v1/channels/sms/{path}");
    node.request(principal, Method::POST, &path, &[], Some(body))
        .await
}

async fn announce(node: &Node, principal: Principal) {
    let body = json!({"recall": true});
    let answer = node
        .request(principal, Method::PUT, "/v1/channels/sms", &[], Some(body))
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
}

/// What a pull brings, without waiting.
async fn pulled(node: &Node, principal: Principal) -> Vec<Value> {
    let answer = post(node, principal, "pull", json!({"limit": 100})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body["data"].as_array().expect("work").clone()
}

/// Answers one piece of work.
async fn say(node: &Node, item: &Value, said: Value) -> Answer {
    let mut outcome = json!({"delivery": item["delivery"], "lease": item["lease"]});
    for (name, value) in said.as_object().expect("an object") {
        outcome[name] = value.clone();
    }
    post(
        node,
        worker(&TenantId::default()),
        "outcomes",
        json!({"outcomes": [outcome]}),
    )
    .await
}

/// Opens deliveries of one notification to ada as planning does.
async fn opened(node: &Node, tenant: &TenantId, count: usize) -> (NotificationId, Vec<DeliveryId>) {
    opened_to(node, tenant, count, Operation::Deliver).await
}

async fn opened_to(
    node: &Node,
    tenant: &TenantId,
    count: usize,
    operation: Operation,
) -> (NotificationId, Vec<DeliveryId>) {
    let body = json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}});
    let scopes = key(tenant, &Scope::ALL);
    let path = "/v1/notifications";
    let answer = node
        .request(scopes.clone(), Method::POST, path, &[], Some(body))
        .await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    eventually(async || {
        let shown = node
            .request(scopes.clone(), Method::GET, &format!("{path}/{id}"), &[], None)
            .await;
        shown.body["state"] == "planned"
    })
    .await;
    let notification: NotificationId = id.parse().expect("an id");
    let now = node.now();
    let rows: Vec<_> = (0..count)
        .map(|n| OutsideRow {
            tenant: tenant.clone(),
            id: DeliveryId::at(now),
            brings: Brings::Notification(notification),
            user: Some(node.names.of(tenant, &"ada".parse().expect("a user"))),
            step: 0,
            name: None,
            channel: sms(),
            address: format!("+4930000{n:04}").parse().expect("an address"),
            device: None,
            lane: Arc::from("sms"),
            locale: None,
            state: DeliveryState::Pending,
            reason: None,
            provider_id: (operation == Operation::Replace).then(|| "p-1".to_owned()),
            collapse: None,
            created_at: now,
            expires_at: now.after(Duration::from_secs(7_200)),
        })
        .collect();
    let work: Vec<_> = rows
        .iter()
        .map(|row| WorkRow::of(row, Arc::from(""), operation))
        .collect();
    let store = &node.dispatcher.store;
    store.open_work(&rows, &work).await.expect("commits");
    node.dispatcher.remote.wake.wake();
    (notification, rows.iter().map(|row| row.id).collect())
}

async fn open(node: &Node, count: usize) -> Vec<DeliveryId> {
    opened(node, &TenantId::default(), count).await.1
}

/// What was accepted is to be taken back.
async fn recall(node: &Node, id: DeliveryId) {
    let (shown, _) = node
        .dispatcher
        .store
        .delivery(&TenantId::default(), id)
        .await
        .expect("reads")
        .expect("is there");
    let now = node.now();
    let work = WorkRow {
        key: crate::store::outside::LaneKey {
            tenant: TenantId::default(),
            channel: sms(),
            lane: Arc::from("sms"),
            strand: Arc::from(""),
        },
        delivery: id,
        ord: now.as_micros(),
        operation: Operation::Recall,
        due_at: now,
        expires_at: now.after(Duration::from_secs(3_600)),
        earlier: shown.attempts,
        zone: None,
    };
    node.dispatcher
        .store
        .open_work(&[], &[work])
        .await
        .expect("commits");
    node.dispatcher.remote.wake.wake();
}

async fn shown(node: &Node, id: DeliveryId) -> Value {
    let path = format!("/v1/deliveries/{id}");
    node.key(Method::GET, &path, Value::Null).await.body
}

fn outcomes(shown: &Value) -> Vec<&str> {
    let attempts = shown["attempts"].as_array().expect("attempts");
    attempts
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap_or("runs"))
        .collect()
}

fn own() -> Principal {
    worker(&TenantId::default())
}

async fn a_worker_pulls_and_answers_once(node: Node) {
    assert_eq!(
        post(&node, own(), "pull", json!({})).await.status,
        404,
        "first it is announced"
    );
    announce(&node, own()).await;
    let ids = open(&node, 2).await;
    let work = pulled(&node, own()).await;
    assert_eq!(work.len(), 2);
    assert!(
        pulled(&node, own()).await.is_empty(),
        "nothing is handed out twice"
    );
    let item = work
        .iter()
        .find(|item| item["delivery"] == json!(ids[0]))
        .expect("there");
    assert_eq!(
        (&item["operation"], &item["attempt"]),
        (&json!("deliver"), &json!(1))
    );
    assert_eq!(item["message"]["content"]["title"], "hello");
    assert_eq!(item["message"]["user"], "ada");
    let said = json!({"outcome": "accepted", "provider_id": "p-1", "status": 202, "excerpt": "queued"});
    assert_eq!(say(&node, item, said.clone()).await.status, 200);
    let again = say(&node, item, said).await;
    assert_eq!(
        (again.status.as_u16(), &again.body["code"]),
        (409, &json!("stale_lease"))
    );
    let both: Vec<_> = work
        .iter()
        .map(|item| json!({"delivery": item["delivery"], "lease": item["lease"], "outcome": "delivered"}))
        .collect();
    let mut statuses: Vec<_> = post(&node, own(), "outcomes", json!({"outcomes": both}))
        .await
        .body["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["status"].as_u64().expect("a status"))
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let first = shown(&node, ids[0]).await;
    assert_eq!(
        (&first["state"], outcomes(&first)),
        (&json!("accepted"), vec!["accepted"])
    );
    assert_eq!(shown(&node, ids[1]).await["state"], "delivered");
    let listed = node.key(Method::GET, "/v1/channels", Value::Null).await.body;
    let channel = &listed["data"][1];
    assert_eq!(
        (&channel["kind"], &channel["place"]),
        (&json!("sms"), &json!("remote"))
    );
    assert_eq!(channel["capabilities"]["recall"], true);
    assert!(!channel["last_seen_at"].is_null());
}

async fn what_a_dead_worker_had_comes_again_with_the_same_id(node: Node) {
    announce(&node, own()).await;
    let id = open(&node, 1).await[0];
    let first = pulled(&node, own()).await;
    // Neither a restart nor anything else hands it out while the lease lasts.
    let node = node.crash_and_restart().await;
    assert!(pulled(&node, own()).await.is_empty());
    node.advance(Duration::from_secs(60));
    let second = pulled(&node, own()).await;
    assert_eq!(second[0]["delivery"], json!(id));
    assert_eq!(second[0]["attempt"], 2);
    let late = say(&node, &first[0], json!({"outcome": "delivered"})).await;
    assert_eq!(late.status, 409);
    assert_eq!(
        say(&node, &second[0], json!({"outcome": "delivered"}))
            .await
            .status,
        200
    );
    assert_eq!(outcomes(&shown(&node, id).await), ["lost", "delivered"]);
}

async fn a_retry_comes_back_at_its_time_until_it_is_a_dead_letter(node: Node) {
    announce(&node, own()).await;
    let id = open(&node, 1).await[0];
    let work = pulled(&node, own()).await;
    let said = json!({"outcome": "retry", "after": 100, "fault": "address", "reason": "full"});
    assert_eq!(say(&node, &work[0], said.clone()).await.status, 200);
    assert_eq!(
        say(&node, &work[0], said).await.status,
        409,
        "an answer counts once"
    );
    node.advance(Duration::from_secs(99));
    assert!(
        pulled(&node, own()).await.is_empty(),
        "what the far end asked for is waited for"
    );
    node.advance(Duration::from_secs(60));
    let work = pulled(&node, own()).await;
    assert_eq!(work[0]["attempt"], 2);
    let said = json!({"outcome": "rejected", "reason": "forbidden words"});
    assert_eq!(say(&node, &work[0], said).await.status, 200);
    let dead = shown(&node, id).await;
    assert_eq!(
        (&dead["state"], &dead["reason"]),
        (&json!("dead"), &json!("forbidden words"))
    );
    // One that nobody pulls ends with its time to live, though no channel of this process is there.
    let id = open(&node, 1).await[0];
    node.advance(Duration::from_secs(7_200));
    eventually(async || shown(&node, id).await["state"] == "dead").await;
}

async fn a_channel_in_trouble_is_left_alone(node: Node) {
    announce(&node, own()).await;
    open(&node, 7).await;
    let answer = post(&node, own(), "pull", json!({"limit": 5})).await;
    for item in answer.body["data"].as_array().expect("work") {
        assert_eq!(say(&node, item, json!({"outcome": "retry"})).await.status, 200);
    }
    let breakers = node.key(Method::GET, "/v1/breakers", Value::Null).await.body;
    assert_eq!(breakers["data"][0]["state"], "open");
    assert!(pulled(&node, own()).await.is_empty(), "nothing is tried");
    node.advance(Duration::from_secs(10));
    let probe = pulled(&node, own()).await;
    assert_eq!(probe.len(), 1, "one asks whether it works again");
    assert_eq!(
        say(&node, &probe[0], json!({"outcome": "delivered"}))
            .await
            .status,
        200
    );
    assert!(!pulled(&node, own()).await.is_empty());
}

async fn a_tenants_worker_sees_its_tenants_work_alone(node: Node) {
    announce(&node, own()).await;
    announce(&node, worker(&acme())).await;
    announce(&node, worker_for_all()).await;
    let ours = open(&node, 1).await[0];
    let theirs = opened(&node, &acme(), 1).await.1[0];
    let work = pulled(&node, worker(&acme())).await;
    assert_eq!(work.len(), 1);
    assert_eq!(work[0]["delivery"], json!(theirs));
    // Another tenant's lease is as good as none.
    let foreign = say(&node, &work[0], json!({"outcome": "delivered"})).await;
    assert_eq!(foreign.status, 409);
    let receipt = json!({"receipts": [{"delivery": theirs, "kind": "delivered"}]});
    let answer = post(&node, own(), "receipts", receipt).await;
    assert_eq!(answer.body["results"][0]["status"], "not_found");
    // Whoever brings the channel himself shows nobody else what he sends.
    opened(&node, &acme(), 1).await;
    assert!(pulled(&node, worker_for_all()).await.is_empty());
    let initech: TenantId = "initech".parse().expect("a tenant");
    let replaces = opened_to(&node, &initech, 1, Operation::Replace).await.1[0];
    let all = pulled(&node, worker_for_all()).await;
    assert_eq!(all.len(), 1);
    assert_eq!(
        (&all[0]["delivery"], &all[0]["tenant"]),
        (&json!(replaces), &json!("initech"))
    );
    assert_eq!(
        (&all[0]["operation"], &all[0]["provider_id"]),
        (&json!("deliver"), &Value::Null),
        "a channel that cannot replace is asked for nothing else"
    );
    let unnamed = json!({"receipts": [{"delivery": ours, "kind": "seen"}]});
    let answer = post(&node, worker_for_all(), "receipts", unnamed).await;
    assert_eq!(answer.pointers(), ["/receipts/0/tenant"]);
    let other = key(&acme(), &Scope::BACKEND);
    assert_eq!(post(&node, other, "pull", json!({})).await.status, 403);
}

async fn what_can_be_taken_back_ends_in_recalled(node: Node) {
    announce(&node, own()).await;
    let id = open(&node, 1).await[0];
    let work = pulled(&node, own()).await;
    let wrong = say(&node, &work[0], json!({"outcome": "recalled"})).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.body["code"]),
        (422, &json!("other_operation"))
    );
    let said = json!({"outcome": "delivered", "provider_id": "p-9"});
    assert_eq!(say(&node, &work[0], said).await.status, 200);
    recall(&node, id).await;
    let work = pulled(&node, own()).await;
    assert_eq!(
        (&work[0]["operation"], &work[0]["provider_id"]),
        (&json!("recall"), &json!("p-9"))
    );
    assert_eq!(
        say(&node, &work[0], json!({"outcome": "recalled"})).await.status,
        200
    );
    assert_eq!(shown(&node, id).await["state"], "recalled");
}

async fn a_lease_may_be_extended_but_not_for_ever(node: Node) {
    announce(&node, own()).await;
    open(&node, 1).await;
    let work = pulled(&node, own()).await;
    let lease = json!({"leases": [{"delivery": work[0]["delivery"], "lease": work[0]["lease"]}]});
    let mut extended = 0;
    loop {
        node.advance(Duration::from_secs(50));
        if post(&node, own(), "extend", lease.clone()).await.status != 200 {
            break;
        }
        assert!(
            pulled(&node, own()).await.is_empty(),
            "it is still the first one's"
        );
        extended += 1;
    }
    assert_eq!(extended, 72, "an hour");
    node.advance(Duration::from_secs(60));
    assert_eq!(pulled(&node, own()).await.len(), 1);
    assert_eq!(post(&node, own(), "extend", lease).await.status, 409);
}

async fn receipts_move_deliveries_and_acknowledge(node: Node) {
    announce(&node, own()).await;
    let (notification, ids) = opened(&node, &TenantId::default(), 3).await;
    for item in pulled(&node, own()).await {
        let said = json!({"outcome": "accepted", "provider_id": format!("p-{}", item["delivery"])});
        assert_eq!(say(&node, &item, said).await.status, 200);
    }
    let receipts = json!({"receipts": [
        {"delivery": ids[0], "kind": "delivered"},
        {"provider_id": format!("p-{}", json!(ids[1])), "kind": "failed", "reason": "no such number"},
        {"provider_id": "p-other", "kind": "delivered"},
        {"delivery": ids[2], "kind": "read"},
    ]});
    assert_eq!(node.inbox("ada").await["data"][0]["read_at"], Value::Null);
    let answer = post(&node, own(), "receipts", receipts).await;
    let statuses: Vec<_> = answer.body["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["status"].as_str().expect("a word"))
        .collect();
    assert_eq!(statuses, ["ok", "ok", "not_found", "ok"]);
    assert_eq!(shown(&node, ids[0]).await["state"], "delivered");
    let failed = shown(&node, ids[1]).await;
    assert_eq!(
        (&failed["state"], &failed["reason"]),
        (&json!("dead"), &json!("no such number"))
    );
    assert_eq!(
        shown(&node, ids[2]).await["state"],
        "delivered",
        "who reads it has it"
    );
    let recipient = node.show(&notification.to_string()).await["recipients"].clone();
    assert!(
        recipient.to_string().contains("read"),
        "it is acknowledged: {recipient}"
    );
    let first = recipient["data"][0]["deliveries"]
        .as_array()
        .expect("deliveries")
        .iter();
    let told: Vec<_> = first
        .flat_map(|delivery| delivery["receipts"].as_array().expect("receipts").clone())
        .map(|receipt| receipt["kind"].clone())
        .collect();
    for kind in ["delivered", "failed", "read"] {
        assert!(told.contains(&json!(kind)), "{kind} in {told:?}");
    }
    let bad = json!({"receipts": [{"kind": "seen"}, {"delivery": ids[0], "kind": "read", "action": "x"}]});
    let answer = post(&node, own(), "receipts", bad).await;
    assert_eq!(answer.pointers(), ["/receipts/0", "/receipts/1/action"]);
}

async fn an_address_that_is_gone_is_not_written_to_again(node: Node) {
    announce(&node, own()).await;
    let ids = open(&node, 1).await;
    let events = json!({"events": [
        {"kind": "address.gone", "address": "+49300000000", "reason": "it left"},
        {"kind": "joined", "address": "+49301111111"},
    ]});
    let answer = post(&node, own(), "events", events).await;
    assert_eq!(
        answer.body["results"],
        json!([{"status": "ok"}, {"status": "ignored"}])
    );
    assert!(pulled(&node, own()).await.is_empty());
    let skipped = shown(&node, ids[0]).await;
    assert_eq!(
        (&skipped["state"], &skipped["reason"]),
        (&json!("skipped"), &json!("suppressed"))
    );
}

#[tokio::test]
async fn a_pull_waits_until_there_is_work() {
    let node = Arc::new(
        Node::with(Setup {
            config: Some(|config| config.delivery.poll = carillon_runtime::config::Span::from_secs(60)),
            ..Setup::default()
        })
        .await,
    );
    announce(&node, own()).await;
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { post(&node, own(), "pull", json!({"wait": 30})).await }
    });
    let id = open(&node, 1).await[0];
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it is woken")
        .expect("no panic");
    assert_eq!(answer.body["data"][0]["delivery"], json!(id));
}

#[tokio::test]
async fn however_often_it_is_woken_a_pull_that_waits_looks_now_and_then() {
    let node = Node::with(Setup {
        config: Some(|config| config.delivery.poll = carillon_runtime::config::Span::from_secs(60)),
        ..Setup::default()
    })
    .await;
    announce(&node, own()).await;
    let remote = node.dispatcher.remote.clone();
    let begun = std::time::Instant::now();
    let waiting = post(&node, own(), "pull", json!({"wait": 2}));
    let waking = async {
        for _ in 0..500 {
            remote.wake.tell();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (answer, ()) = tokio::join!(waiting, waking);
    assert_eq!(answer.body["data"], json!([]));
    let looks = remote.looks.load(std::sync::atomic::Ordering::SeqCst);
    let most = 3 + begun.elapsed().as_millis() / 50;
    assert!(looks as u128 <= most, "{looks} looks, {most} would do");
}

/// Both kinds of workers that keys let in.
fn workers() -> [Principal; 2] {
    [worker(&TenantId::default()), worker_for_all()]
}

#[tokio::test]
async fn a_pull_that_waits_is_refused_once_its_key_is_revoked() {
    for principal in workers() {
        let node = Arc::new(Node::sqlite().await);
        announce(&node, principal.clone()).await;
        let waiting = tokio::spawn({
            let (node, principal) = (node.clone(), principal.clone());
            async move { post(&node, principal, "pull", json!({"wait": 30})).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        node.revoked.revoke(&principal);
        let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert_eq!(answer.expect("within seconds").expect("no panic").status, 401);
    }
}

#[tokio::test]
async fn a_stream_ends_once_its_key_is_revoked() {
    for principal in workers() {
        let node = Node::sqlite().await;
        announce(&node, principal.clone()).await;
        open(&node, 1).await;
        let mut stream = Stream::open(&node, principal.clone(), 10).await;
        stream.work().await;
        node.revoked.revoke(&principal);
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.end()).await;
        assert_eq!(ended.expect("within seconds"), "", "it brought nothing more");
    }
}

#[tokio::test]
async fn a_revoked_key_is_handed_nothing_and_the_work_is_another_ones_at_once() {
    let node = Node::sqlite().await;
    announce(&node, own()).await;
    let id = open(&node, 1).await[0];
    let worker = own();
    node.revoked.revoke(&worker);
    let (served, kind) = (Served::Tenant(TenantId::default()), sms());
    let Caller::Key(key) = worker.caller else {
        panic!("a key")
    };
    let holder = Holder {
        key: Some(key.id),
        stream: None,
    };
    let remote = &node.dispatcher.remote;
    let pulled_by_it = remote.pull(&served, &kind, holder, 10, Duration::ZERO).await;
    assert!(matches!(pulled_by_it, Err(RemoteError::Revoked)));
    let found = Mutex::new(Vec::new());
    eventually(async || {
        *found.lock() = pulled(&node, own()).await;
        !found.lock().is_empty()
    })
    .await;
    assert_eq!(found.lock()[0]["delivery"], json!(id));
}

#[tokio::test]
async fn a_stream_brings_work_as_far_as_its_credit_goes() {
    let node = Node::sqlite().await;
    announce(&node, own()).await;
    open(&node, 3).await;
    let mut stream = Stream::open(&node, own(), 2).await;
    let (first, second) = (stream.work().await, stream.work().await);
    assert_ne!(first["delivery"], second["delivery"]);
    assert_eq!(
        say(&node, &first, json!({"outcome": "delivered"})).await.status,
        200
    );
    let third = stream.work().await;
    assert_ne!(third["delivery"], second["delivery"]);
    let limit = "/v1/channels/sms/stream?limit=101";
    let answer = node.request(own(), Method::GET, limit, &[], None).await;
    assert_eq!(answer.pointers(), ["?limit"]);
}

#[tokio::test]
async fn what_carillon_brings_itself_is_no_workers() {
    let node = Node::sqlite().await;
    let operator = || Principal {
        tenant: TenantId::default(),
        caller: Caller::Operator,
    };
    let path = "/v1/channels/in_app";
    let answer = node
        .request(operator(), Method::PUT, path, &[], Some(json!({})))
        .await;
    assert_eq!(answer.status, 409);
    for n in 0..33 {
        let path = format!("/v1/channels/c{n}");
        let answer = node
            .request(operator(), Method::PUT, &path, &[], Some(json!({})))
            .await;
        assert_eq!(answer.status, if n < 32 { 200 } else { 409 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_worker_sends_and_takes_back() {
    let node = Node::sqlite().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = node.router_of(own());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let file = std::env::temp_dir().join(format!("sms-{}.jsonl", KeyId::at(node.now())));
    let example = Example::start(&format!("http://{address}"), &file);
    let ids = open(&node, 3).await;
    for id in &ids {
        eventually(async || shown(&node, *id).await["state"] == "delivered").await;
    }
    recall(&node, ids[1]).await;
    eventually(async || shown(&node, ids[1]).await["state"] == "recalled").await;
    drop(example);
    server.abort();
    let lines: Vec<Value> = BufReader::new(std::fs::File::open(&file).expect("it wrote"))
        .lines()
        .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
        .collect();
    let _ = std::fs::remove_file(&file);
    let did = |word: &str| lines.iter().filter(|line| line["did"] == word).count();
    assert_eq!((did("sent"), did("recalled")), (3, 1), "{lines:?}");
    assert!(
        lines
            .iter()
            .all(|line| line["did"] != "sent" || line["text"] == "hello")
    );
}

/// The example's process; ends with the test.
struct Example(Child);

impl Example {
    fn start(url: &str, file: &std::path::Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/sms-worker/worker.py");
        let child = Command::new("python3")
            .arg(script)
            .env("CARILLON_URL", url)
            .env("CARILLON_KEY", "crk_example")
            .env("SMS_FILE", file)
            .stdin(Stdio::null())
            .spawn()
            .expect("python3 is there");
        Self(child)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A stream of work.
struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    async fn open(node: &Node, principal: Principal, limit: usize) -> Self {
        let request = Request::get(format!("/v1/channels/sms/stream?limit={limit}"))
            .body(Body::empty())
            .expect("a request");
        let response: Response = node
            .router_of(principal)
            .oneshot(request)
            .await
            .expect("infallible");
        assert_eq!(response.status(), 200);
        Self {
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// What it still says of work until it ends.
    async fn end(mut self) -> String {
        let mut text = self.text;
        while let Some(frame) = self.body.frame().await {
            let bytes = frame.expect("it is read").into_data().expect("data");
            text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
        text.lines().filter(|line| line.starts_with("data:")).collect()
    }

    /// The next piece of work.
    async fn work(&mut self) -> Value {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let data = data.map(|data| serde_json::from_str(data).expect("JSON"));
                self.text = rest.to_owned();
                match data {
                    Some(data) => return data,
                    None => continue,
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame())
                .await
                .expect("more comes")
                .expect("it goes on")
                .expect("it is read");
            let bytes = frame.into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_taken_back_by_who_announced_it() {
    let (node, tenant) = (Node::sqlite().await, TenantId::default());
    let own = worker(&tenant);
    let delete = async |principal| {
        let path = "/v1/channels/sms";
        let answer = node.request(principal, Method::DELETE, path, &[], None).await;
        answer.status.as_u16()
    };
    assert_eq!(delete(own.clone()).await, 404);
    announce(&node, own.clone()).await;
    assert_eq!(delete(worker_for_all()).await, 404, "it is the tenant's");
    assert_eq!(delete(key(&tenant, &[Scope::NotificationsRead])).await, 403);
    assert_eq!(delete(own.clone()).await, 204);
    let answer = post(&node, own, "pull", json!({})).await;
    assert_eq!(answer.status, 404, "there is no such channel any more");
}

async fn a_worker_that_hangs_up_takes_no_slot_with_it(node: Node) {
    announce(&node, own()).await;
    let ids = open(&node, 3).await;
    let remote = &node.dispatcher.remote;
    let (served, kind) = (Served::Tenant(TenantId::default()), sms());
    let holder = Holder {
        key: None,
        stream: None,
    };
    // Broken off wherever it stands: before the store answers, while it does, and after.
    let mut handed = 0;
    for micros in (0..10_000).step_by(100) {
        let pull = remote.pull(&served, &kind, holder, 10, Duration::ZERO);
        if let Ok(pulled) = tokio::time::timeout(Duration::from_micros(micros), pull).await {
            handed += pulled.expect("pulls").len();
            if handed == ids.len() {
                break;
            }
        }
    }
    let handed = Mutex::new(handed);
    eventually(async || {
        let more = pulled(&node, own()).await.len();
        *handed.lock() += more;
        *handed.lock() == ids.len()
    })
    .await;
    eventually(async || remote.under_way() == ids.len()).await;
}
