use std::sync::Arc;

use carillon_domain::{Capabilities, Scope, TenantId};
use carillon_testkit::{RecordingChannel, TestDatabase};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually, key};

fn email() -> Arc<RecordingChannel> {
    Arc::new(RecordingChannel::new("email", Capabilities::default()))
}

async fn node() -> Node {
    let channels: Vec<Arc<dyn carillon_domain::ports::Channel>> = vec![email()];
    Node::with(Setup {
        channels,
        ..Setup::default()
    })
    .await
}

fn texts(why: &Value) -> Vec<&str> {
    let events = why["events"].as_array().expect("a list");
    events
        .iter()
        .map(|event| event["text"].as_str().unwrap_or("-"))
        .collect()
}

async fn why(node: &Node, id: &str, user: &str) -> Value {
    let path = format!("/v1/users/{user}/notifications/{id}/why");
    let answer = node.key(Method::GET, &path, Value::Null).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_became_of_a_notification_is_told_in_order() {
    let node = node().await;
    let body = json!({
        "targets": [{"user": "ada"}, {"address": {"channel": "email", "to": "bob@example.org"}}],
        "channels": ["in_app", "email"],
        "content": {"title": "hello"},
    });
    let id = node.send(body).await;
    let entry = node.inbox("ada").await["data"][0]["id"].clone();
    let acks = json!({"device": "laptop", "acks": [{"kind": "seen", "entry": entry}, {"kind": "acted", "entry": entry}]});
    let acked = node.user("ada", Method::POST, "/v1/acks", Some(acks)).await;
    assert_eq!(acked.status, 200, "{:?}", acked.body);
    let ada = why(&node, &id, "ada").await;
    assert_eq!(
        (&ada["user"], &ada["state"], &ada["truncated"]),
        (&json!("ada"), &json!("acknowledged"), &json!(false))
    );
    let told = texts(&ada);
    assert_eq!(told[0], "Accepted.");
    assert_eq!(told[1], "Planned in 2 steps: 1. the inbox for 30 s; 2. email.");
    for text in [
        "Not sent over email: there is no address.",
        "Put into the inbox, and pushed to every connected device.",
        "Seen on laptop.",
        "Answered: acted on laptop. Nothing more is sent, and the other devices clear.",
    ] {
        assert!(told.contains(&text), "{told:?}");
    }
    let last = ada["events"]
        .as_array()
        .and_then(|events| events.last())
        .expect("an event");
    assert_eq!(
        (&last["kind"], &last["why"]["reason"], &last["device"]),
        (&json!("acknowledged"), &json!("acted"), &json!("laptop"))
    );

    let path = format!("/v1/notifications/{id}/why");
    eventually(async || {
        let all = node.key(Method::GET, &path, Value::Null).await.body;
        let bob = all["data"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|one| one["user"].is_null());
        bob.is_some_and(|bob| {
            bob["address"] == json!({"channel": "email", "to": "bob@example.org"})
                && texts(bob)
                    .iter()
                    .any(|text| text.starts_with("Sent over email to bob@example.org"))
        })
    })
    .await;
    let first = node
        .key(Method::GET, &format!("{path}?limit=1"), Value::Null)
        .await
        .body;
    assert_eq!(first["data"].as_array().map(Vec::len), Some(1));
    let next = first["next"].as_str().expect("a cursor");
    let second = node
        .key(Method::GET, &format!("{path}?limit=1&cursor={next}"), Value::Null)
        .await
        .body;
    assert_eq!(second["next"], Value::Null);
    assert_ne!(second["data"], first["data"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_user_and_keys_of_the_tenant_that_may_read_are_told_why() {
    let node = node().await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}}))
        .await;
    let path = |user: &str| format!("/v1/users/{user}/notifications/{id}/why");
    let own = node.user("ada", Method::GET, &path("ada"), None).await;
    assert_eq!(
        (own.status.as_u16(), &own.body["events"][0]["kind"]),
        (200, &json!("accepted"))
    );
    assert_eq!(
        node.user("bob", Method::GET, &path("ada"), None).await.status,
        403
    );
    // Bob is none of its recipients, and nothing says that there is such a notification.
    assert_eq!(
        node.user("bob", Method::GET, &path("bob"), None).await.status,
        404
    );
    let all = format!("/v1/notifications/{id}/why");
    assert_eq!(node.user("ada", Method::GET, &all, None).await.status, 403);
    let other: TenantId = "acme".parse().expect("a tenant");
    for path in [path("ada"), all.clone()] {
        let strange = node
            .request(key(&other, &Scope::ALL), Method::GET, &path, &[], None)
            .await;
        assert_eq!(strange.status, 404, "{path}");
        let narrow = key(&TenantId::default(), &[Scope::NotificationsWrite]);
        assert_eq!(
            node.request(narrow, Method::GET, &path, &[], None).await.status,
            403,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_time_and_what_was_cancelled_say_so() {
    let node = node().await;
    let at = node.now().after(std::time::Duration::from_secs(600));
    let body = json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}, "send_at": at});
    let sent = node.key(Method::POST, "/v1/notifications", body).await;
    let id = sent.body["id"].as_str().expect("an id");
    let waits = why(&node, id, "ada").await;
    assert_eq!(waits["state"], Value::Null);
    assert!(
        texts(&waits)[0].starts_with("Accepted, to be sent at "),
        "{waits}"
    );
    let cancelled = node
        .key(
            Method::POST,
            &format!("/v1/notifications/{id}/cancel"),
            Value::Null,
        )
        .await;
    assert!(cancelled.status.is_success(), "{:?}", cancelled.body);
    assert_eq!(
        texts(&why(&node, id, "ada").await)[1],
        "Cancelled by its sender before it was planned."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_reads_alike_on_postgresql() {
    let channels: Vec<Arc<dyn carillon_domain::ports::Channel>> = vec![email()];
    let setup = Setup {
        channels,
        ..Setup::default()
    };
    let node = Node::on(Arc::new(TestDatabase::postgres("dispatcher").await), setup).await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}}))
        .await;
    let told = why(&node, &id, "ada").await;
    assert_eq!(
        texts(&told),
        [
            "Accepted.",
            "Planned: the inbox.",
            "Put into the inbox, and pushed to every connected device."
        ]
    );
    node.key(
        Method::POST,
        &format!("/v1/notifications/{id}/cancel"),
        Value::Null,
    )
    .await;
    let told = why(&node, &id, "ada").await;
    assert_eq!(texts(&told).last(), Some(&"Cancelled by its sender."));
}
