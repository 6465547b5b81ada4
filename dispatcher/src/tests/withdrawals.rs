//! What ends a notification before its time: answers over every channel, and cancelling.

use std::{sync::Arc, time::Duration};

use carillon_testkit::TestDatabase;
use http::Method;
use serde_json::{Value, json};

use super::{
    node::{Node, Setup, eventually},
    webhooks::Hooks,
};

async fn node(hooks: &Arc<Hooks>) -> Node {
    Node::with(Setup {
        channels: vec![hooks.clone()],
        ..Setup::default()
    })
    .await
}

/// Registers a URL as the user's own.
async fn registered(node: &Node, user: &str, url: &str) {
    let body = json!({"url": url, "user": user});
    let answer = node.key(Method::POST, "/v1/webhooks/endpoints", body).await;
    assert_eq!(answer.status.as_u16(), 201, "{:?}", answer.body);
}

fn recipient<'a>(shown: &'a Value, user: &str) -> &'a Value {
    let recipients = shown["recipients"]["data"].as_array().expect("recipients");
    let found = recipients.iter().find(|one| one["user"] == user);
    found.expect("a recipient")
}

fn delivery<'a>(recipient: &'a Value, channel: &str) -> &'a Value {
    let deliveries = recipient["deliveries"].as_array().expect("deliveries");
    let found = deliveries.iter().find(|one| one["channel"] == channel);
    found.expect("a delivery")
}

#[tokio::test]
async fn a_webhook_that_answers_acknowledges_for_its_user() {
    let hooks = Hooks::new();
    let node = node(&hooks).await;
    registered(&node, "ada", "https://reader.example/").await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "channels": ["in_app", "webhook"], "content": {"title": "t"}}))
        .await;
    eventually(async || {
        let shown = node.show(&id).await;
        delivery(recipient(&shown, "ada"), "webhook")["state"] == "delivered"
    })
    .await;
    let shown = node.show(&id).await;
    let ada = recipient(&shown, "ada");
    assert_eq!(
        (&ada["state"], &ada["acknowledgement"]["kind"]),
        (&json!("acknowledged"), &json!("read"))
    );
    let hook = delivery(ada, "webhook");
    assert_eq!(
        hook["reason"],
        Value::Null,
        "what answered is not taken back: {hook}"
    );
    let inbox = node.inbox("ada").await;
    assert_eq!(inbox["counts"]["unread"], 0, "{inbox}");
}

#[tokio::test]
async fn an_attempt_that_cannot_begin_within_a_second_begins_anew() {
    let hooks = Hooks::new();
    let node = node(&hooks).await;
    registered(&node, "ada", "https://far.example/").await;
    let body = json!({"targets": [{"user": "ada"}], "channels": ["webhook"], "content": {"title": "t"}});
    node.names.hesitate(Some(Duration::from_millis(1_100)));
    let answer = node.key(Method::POST, "/v1/notifications", body).await;
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    let outcomes = async || {
        let shown = node.show(&id).await;
        let attempts = shown["recipients"]["data"][0]["deliveries"][0]["attempts"].clone();
        let attempts = attempts.as_array().cloned().unwrap_or_default();
        let outcomes = attempts
            .iter()
            .map(|one| one["outcome"].as_str().unwrap_or("runs").to_owned());
        outcomes.collect::<Vec<_>>()
    };
    eventually(async || outcomes().await.iter().any(|one| one == "unsent")).await;
    assert_eq!(hooks.told(), [], "nothing went out too late");
    node.names.hesitate(None);
    hooks.of("notification.created", 1).await;
    eventually(async || outcomes().await.last().is_some_and(|last| last == "delivered")).await;
    assert_eq!(hooks.told().len(), 1, "it went out once");
}

/// Small pages, so that many recipients need many.
fn small_pages(config: &mut crate::DispatcherConfig) {
    config.withdrawals.page = 20;
    config.withdrawals.lease = carillon_runtime::config::Span::from_millis(50);
    config.withdrawals.poll = carillon_runtime::config::Span::from_millis(20);
}

#[tokio::test]
async fn cancelling_a_thousand_goes_on_after_a_crash_and_can_be_watched() {
    let keep = Arc::new(TestDatabase::sqlite().await);
    let setup = Setup {
        config: Some(small_pages),
        ..Setup::default()
    };
    let node = Node::on(keep, setup).await;
    let targets: Vec<Value> = (0..1_000)
        .map(|number| json!({"user": format!("user-{number}")}))
        .collect();
    let id = node
        .send(json!({"targets": targets, "content": {"title": "t"}}))
        .await;
    let path = format!("/v1/notifications/{id}/cancel");
    let answer = node.key(Method::POST, &path, Value::Null).await;
    assert_eq!(
        (&answer.body["state"], &answer.body["recalled"]),
        (&json!("cancelled"), &json!(20))
    );
    let shown = node.show(&id).await;
    assert_eq!(shown["withdrawal"]["kind"], "cancelled");
    let node = node.crash_and_restart().await;
    // A lease of the dead process ends by the clock.
    node.advance(Duration::from_secs(1));
    eventually(async || {
        node.show(&id).await["withdrawal"] == json!({"kind": "cancelled", "done": true, "open": 0})
    })
    .await;
    for number in [0, 500, 999] {
        let inbox = node.inbox(&format!("user-{number}")).await;
        assert_eq!(inbox["data"], json!([]));
    }
    let again = node.key(Method::POST, &path, Value::Null).await;
    assert_eq!(again.body["recalled"], 0);
}
