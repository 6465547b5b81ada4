use std::time::Duration;

use carillon_domain::{Scope, TenantId, Timestamp};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually, key};

const HOUR: Duration = Duration::from_secs(3_600);

fn hourly() -> Value {
    json!({"cron": "0 * * * *", "notification": {"targets": [{"user": "ada"}], "content": {"title": "hourly"}}})
}

async fn show(node: &Node, name: &str) -> Value {
    let answer = node
        .key(Method::GET, &format!("/v1/schedules/{name}"), Value::Null)
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

async fn put(node: &Node, name: &str, body: Value) {
    let answer = node
        .key(Method::PUT, &format!("/v1/schedules/{name}"), body)
        .await;
    assert!(answer.status.is_success(), "{:?}", answer.body);
}

/// To the next full hour.
fn to_the_hour(node: &Node) {
    let into = node.now().as_micros().rem_euclid(3_600_000_000);
    node.advance(HOUR - Duration::from_micros(into.unsigned_abs()));
}

async fn runs(node: &Node, name: &str) -> usize {
    show(node, name).await["runs"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn each_time_sends_once_and_says_what_it_sent() {
    let node = Node::sqlite().await;
    let made = node
        .key(Method::POST, "/v1/schedules", {
            let mut body = hourly();
            body["name"] = json!("report");
            body
        })
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let again = node.key(Method::POST, "/v1/schedules", {
        let mut body = hourly();
        body["name"] = json!("report");
        body
    });
    assert_eq!(again.await.status, 409);
    for turn in 1..=3 {
        to_the_hour(&node);
        node.dispatcher.scheduler.wake();
        eventually(async || runs(&node, "report").await == turn).await;
    }
    let shown = show(&node, "report").await;
    assert_eq!(shown["skipped"], 0);
    let id = shown["runs"][0]["notification_id"].as_str().expect("sent");
    assert_eq!(shown["runs"][0]["due_at"], json!(node.now()));
    node.until_state(id, "planned").await;
    eventually(async || {
        node.inbox("ada").await["counts"]["total"] == 3
            || node.inbox("ada").await["data"].as_array().map(Vec::len) == Some(3)
    })
    .await;
}

#[tokio::test]
async fn after_a_pause_the_last_time_within_the_grace_comes_once() {
    let node = Node::sqlite().await;
    put(&node, "report", {
        let mut body = hourly();
        body["cron"] = json!("*/30 * * * *");
        body
    })
    .await;
    let node = node.finish().await;
    to_the_hour(&node);
    node.advance(5 * HOUR);
    let node = node.crash_and_restart().await;
    eventually(async || runs(&node, "report").await == 1).await;
    let shown = show(&node, "report").await;
    assert_eq!(shown["runs"][0]["due_at"], json!(node.now()));
    assert!(
        shown["skipped"]
            .as_u64()
            .is_some_and(|skipped| (10..=11).contains(&skipped)),
        "{shown}"
    );
    // Too late for once.
    let at = node.now().after(HOUR);
    put(
        &node,
        "once",
        json!({"at": at, "notification": hourly()["notification"]}),
    )
    .await;
    let node = node.finish().await;
    node.advance(3 * HOUR);
    let node = node.crash_and_restart().await;
    eventually(async || show(&node, "once").await["skipped"] == 1).await;
    let once = show(&node, "once").await;
    assert_eq!(
        (&once["next_at"], once["runs"].as_array().map(Vec::len)),
        (&Value::Null, Some(0))
    );
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let node = Node::with(Setup {
        idle: true,
        ..Setup::default()
    })
    .await;
    let refused = async |body: Value| -> Vec<String> {
        let answer = node.key(Method::PUT, "/v1/schedules/x", body).await;
        assert_eq!(answer.status, 422, "{:?}", answer.body);
        let mut pointers: Vec<String> = answer.pointers().into_iter().map(str::to_owned).collect();
        pointers.sort_unstable();
        pointers
    };
    let fit = hourly()["notification"].clone();
    assert_eq!(refused(json!({"notification": fit})).await, ["/cron"]);
    assert_eq!(
        refused(json!({"cron": "61 * * * *", "timezone": "Mars/Base", "ends_at": "x", "notification": fit}))
            .await,
        ["/cron", "/ends_at", "/timezone"]
    );
    assert_eq!(
        refused(json!({"at": "2001-01-01T00:00:00Z", "timezone": "UTC", "notification": fit})).await,
        ["/at", "/timezone"]
    );
    assert_eq!(
        refused(json!({"cron": "* * * * *", "starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z",
            "notification": {"targets": [], "content": {"title": "t"}, "send_at": "2026-02-01T00:00:00Z"}})).await,
        ["/ends_at", "/notification/send_at", "/notification/targets"]
    );
    assert_eq!(
        refused(json!({"cron": "* * * * *", "notification": {"target": 1}})).await,
        ["/notification/target"]
    );
    let reader = key(&TenantId::default(), &[Scope::NotificationsRead]);
    let answer = node
        .request(reader, Method::PUT, "/v1/schedules/x", &[], Some(hourly()))
        .await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn coming_times_follow_the_zone_and_a_run_changes_none_of_them() {
    let node = Node::sqlite().await;
    node.advance(
        Timestamp::parse("2026-03-27T12:00:00Z")
            .expect("a time")
            .since(node.now()),
    );
    put(
        &node,
        "daily",
        json!({"cron": "30 2 * * *", "timezone": "Europe/Berlin", "enabled": false,
        "notification": hourly()["notification"]}),
    )
    .await;
    let next = node
        .key(Method::GET, "/v1/schedules/daily/next?count=3", Value::Null)
        .await;
    assert_eq!(
        next.body["data"],
        json!([
            "2026-03-28T01:30:00.000000Z",
            "2026-03-29T01:00:00.000000Z",
            "2026-03-30T00:30:00.000000Z"
        ])
    );
    let many = node
        .key(Method::GET, "/v1/schedules/daily/next?count=101", Value::Null)
        .await;
    assert_eq!(many.status, 400);
    let ran = node
        .key(Method::POST, "/v1/schedules/daily/run", Value::Null)
        .await;
    assert_eq!(ran.status, 202, "{:?}", ran.body);
    node.until_state(ran.body["id"].as_str().expect("an id"), "planned")
        .await;
    let shown = show(&node, "daily").await;
    assert_eq!(shown["next_at"], Value::Null, "it is disabled");
    assert_eq!(shown["runs"][0]["notification_id"], ran.body["id"]);
    assert_eq!(shown["runs"][0]["manual"], true);
    let gone = node.key(Method::DELETE, "/v1/schedules/daily", Value::Null).await;
    assert_eq!(gone.status, 204);
    let ran = node
        .key(Method::POST, "/v1/schedules/daily/run", Value::Null)
        .await;
    assert_eq!(ran.status, 404);
}

#[tokio::test]
async fn a_time_that_cannot_be_sent_is_told_and_the_next_one_comes() {
    let node = Node::sqlite().await;
    let template = json!({"default_locale": "en", "locales": {"en": {"in_app": {"title": "T"}}}});
    let made = node
        .key(Method::PUT, "/v1/templates/digest", template.clone())
        .await;
    assert!(made.status.is_success(), "{:?}", made.body);
    put(
        &node,
        "report",
        json!({"cron": "0 * * * *",
        "notification": {"targets": [{"user": "ada"}], "template": {"name": "digest"}}}),
    )
    .await;
    let gone = node
        .key(Method::DELETE, "/v1/templates/digest", Value::Null)
        .await;
    assert_eq!(gone.status, 204);
    to_the_hour(&node);
    eventually(async || runs(&node, "report").await == 1).await;
    let shown = show(&node, "report").await;
    assert_eq!(
        shown["runs"][0]["error"],
        "/notification/template/name: there is no such template"
    );
    let made = node.key(Method::PUT, "/v1/templates/digest", template).await;
    assert!(made.status.is_success(), "{:?}", made.body);
    to_the_hour(&node);
    eventually(async || runs(&node, "report").await == 2).await;
    assert!(show(&node, "report").await["runs"][0]["notification_id"].is_string());
}

#[tokio::test]
async fn two_nodes_send_each_time_once() {
    let node = Node::on(
        std::sync::Arc::new(carillon_testkit::TestDatabase::postgres("schedules").await),
        Setup::default(),
    )
    .await;
    let other = node.beside().await;
    put(&node, "report", hourly()).await;
    for turn in 1..=5 {
        to_the_hour(&node);
        node.dispatcher.scheduler.wake();
        other.dispatcher.scheduler.wake();
        eventually(async || runs(&node, "report").await == turn).await;
    }
    eventually(async || node.inbox("ada").await["data"].as_array().map(Vec::len) == Some(5)).await;
    assert_eq!(show(&other, "report").await["skipped"], 0);
}
