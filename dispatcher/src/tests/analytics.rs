use std::{sync::Arc, time::Duration};

use carillon_domain::{Capabilities, Scope, TenantId};
use carillon_testkit::{RecordingChannel, TestDatabase};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually, key};

async fn node(database: TestDatabase) -> Node {
    let email: Arc<dyn carillon_domain::ports::Channel> =
        Arc::new(RecordingChannel::new("email", Capabilities::default()));
    let setup = Setup {
        channels: vec![email],
        ..Setup::default()
    };
    Node::on(Arc::new(database), setup).await
}

async fn counts(node: &Node, query: &str) -> Value {
    let answer = node
        .key(Method::GET, &format!("/v1/analytics{query}"), Value::Null)
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

/// What is counted over one channel, without what is zero.
fn over(counts: &Value, channel: &str) -> Value {
    let rows = counts["data"].as_array().expect("a list");
    let row = rows
        .iter()
        .find(|row| row["channel"] == channel)
        .expect("counted");
    let numbers = row.as_object().expect("an object").iter();
    numbers
        .filter(|(_, value)| value.as_u64().is_some_and(|count| count > 0))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn what_became_of_notifications_is_counted(database: TestDatabase) {
    let mut node = node(database).await;
    let now = node.now();
    let hello = |user: &str, category: &str| {
        json!({"targets": [{"user": user}, {"address": {"channel": "email", "to": format!("{user}@example.org")}}],
               "category": category, "channels": ["in_app"], "content": {"title": "hello"}})
    };
    let first = node.send(hello("ada", "news")).await;
    node.send(hello("bob", "news")).await;
    let entry = node.inbox("ada").await["data"][0]["id"].clone();
    for (device, kind) in [
        ("phone", "seen"),
        ("laptop", "seen"),
        ("laptop", "clicked"),
        ("phone", "read"),
    ] {
        let acks = json!({"device": device, "acks": [{"kind": kind, "entry": entry}]});
        let acked = node.user("ada", Method::POST, "/v1/acks", Some(acks)).await;
        assert_eq!(acked.status, 200, "{:?}", acked.body);
    }
    let position = node.inbox("ada").await["position"].clone();
    let acks = json!({"device": "phone", "acks": [{"kind": "delivered", "position": position}]});
    node.user("ada", Method::POST, "/v1/acks", Some(acks)).await;
    let window = format!(
        "?from={}&to={}",
        now.before(Duration::from_secs(60)),
        now.after(Duration::from_secs(7_200))
    );
    eventually(async || {
        over(&counts(&node, &window).await, "email")
            == json!({"deliveries": 2, "accepted": 2, "delivered": 2})
    })
    .await;
    let all = counts(&node, &window).await;
    // A person counts once, on however many devices.
    assert_eq!(
        over(&all, "in_app"),
        json!({"deliveries": 2, "accepted": 2, "delivered": 1, "seen": 1, "read": 1, "clicked": 1})
    );
    assert_eq!((&all["notifications"], &all["next"]), (&json!(2), &Value::Null));
    assert_eq!(all["data"][0]["category"], "news");
    assert!(
        all["data"][0]["hour"]
            .as_str()
            .is_some_and(|hour| hour.ends_with(":00:00.000000Z")),
        "{all}"
    );

    // After the process ended where it stood, the counts are what they were.
    node = node.crash_and_restart().await;
    assert_eq!(counts(&node, &window).await, all);
    let one = counts(
        &node,
        &format!("?notification={first}&group_by=notification,channel"),
    )
    .await;
    assert_eq!(over(&one, "in_app")["seen"], 1);
    assert_eq!(one["data"][0]["notification_id"], first.as_str());
    assert_eq!(
        counts(&node, &format!("{window}&category=other")).await["data"],
        json!([])
    );
    let only = counts(&node, &format!("{window}&channel=email&group_by=channel")).await;
    assert_eq!(only["data"].as_array().map(Vec::len), Some(1));

    // Each device's receipts are kept, the first of each kind.
    let shown = node.show(&first).await;
    let receipts = shown["recipients"]["data"].as_array().expect("a list").iter();
    let mut told: Vec<String> = receipts
        .flat_map(|recipient| recipient["receipts"].as_array().cloned().unwrap_or_default())
        .map(|receipt| {
            format!(
                "{} {}",
                receipt["kind"].as_str().unwrap_or("-"),
                receipt["device"].as_str().unwrap_or("-")
            )
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "clicked laptop",
            "delivered phone",
            "read laptop",
            "read phone",
            "seen laptop",
            "seen phone"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_notifications_is_counted_exactly_on_sqlite() {
    what_became_of_notifications_is_counted(TestDatabase::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_notifications_is_counted_exactly_on_postgresql() {
    what_became_of_notifications_is_counted(TestDatabase::postgres("dispatcher").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_bounded_and_tenants_apart() {
    let node = node(TestDatabase::sqlite().await).await;
    node.send(json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}}))
        .await;
    for bad in [
        "?group_by=minute",
        "?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z",
        "?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "?cursor=x",
    ] {
        let answer = node
            .key(Method::GET, &format!("/v1/analytics{bad}"), Value::Null)
            .await;
        assert_eq!(answer.status, 400, "{bad}: {:?}", answer.body);
    }
    let to = node.now().after(Duration::from_secs(60));
    let path = format!("/v1/analytics?to={to}");
    let other: TenantId = "acme".parse().expect("a tenant");
    let strange = node
        .request(key(&other, &Scope::ALL), Method::GET, &path, &[], None)
        .await;
    assert_eq!(
        (strange.status.as_u16(), &strange.body["notifications"]),
        (200, &json!(0))
    );
    let narrow = key(&TenantId::default(), &[Scope::NotificationsWrite]);
    assert_eq!(
        node.request(narrow, Method::GET, &path, &[], None).await.status,
        403
    );
    assert_eq!(node.user("ada", Method::GET, &path, None).await.status, 403);
    assert_eq!(counts(&node, &format!("?to={to}")).await["notifications"], 1);
}
