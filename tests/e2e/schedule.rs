//! `send_at`, TTL and cancelling, over restarts.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::harness::{Start, eventually, shared, user_name};

#[expect(
    clippy::disallowed_methods,
    reason = "a test compares with the server's real clock"
)]
fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
}

/// A time from now, as requests spell it.
pub(crate) fn in_millis(millis: u64) -> String {
    let at = now() + Duration::from_millis(millis);
    jiff::Timestamp::from_microsecond(i64::try_from(at.as_micros()).expect("a time"))
        .expect("a time")
        .to_string()
}

fn time(text: &serde_json::Value) -> jiff::Timestamp {
    text.as_str().expect("a time").parse().expect("RFC 3339")
}

#[tokio::test]
async fn what_is_sent_later_survives_a_kill_and_comes_on_time() {
    let mut server = Start::default().serve().await;
    let api = server.api().await;
    let ada = api.user("ada").await;
    let at = in_millis(2_500);
    let id = api
        .notify(json!({"targets": [{"user": "ada"}], "content": {"title": "later"}, "send_at": at}))
        .await;
    assert_eq!(api.notification(&id).await["state"], "accepted");
    server.start_again().await;
    assert_eq!(ada.inbox().await["data"], json!([]));

    let mut stream = ada.stream("").await;
    let event = stream.next_named("added").await;
    assert_eq!(event.data["entry"]["notification_id"], id);
    assert!(
        now() >= Duration::from_micros(u64::try_from(time(&json!(at)).as_microsecond()).expect("after 1970"))
    );
    assert_eq!(api.notification(&id).await["state"], "planned");
}

#[tokio::test]
async fn what_expired_while_the_server_was_down_is_not_delivered() {
    let mut server = Start::default().serve().await;
    let api = server.api().await;
    let ada = api.user("ada").await;
    let short = api
        .notify(json!({"targets": [{"user": "ada"}], "content": {"title": "short"}, "send_at": in_millis(700), "ttl": 1}))
        .await;
    let long = api
        .notify(json!({"targets": [{"user": "ada"}], "content": {"title": "long"}, "send_at": in_millis(700), "ttl": 3600}))
        .await;
    server.kill();
    // Time itself is what is tested here.
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    server.start_again().await;

    eventually("the late one's plan", || async {
        (api.notification(&long).await["state"] == "planned").then_some(())
    })
    .await;
    let shown = eventually("the expiry", || async {
        let shown = api.notification(&short).await;
        (shown["state"] == "expired").then_some(shown)
    })
    .await;
    let lived = time(&shown["expires_at"]).as_millisecond() - time(&shown["send_at"]).as_millisecond();
    assert_eq!(lived, 1_000, "the TTL counts from send_at: {shown}");
    let titles: Vec<_> = ada.inbox().await["data"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["content"]["title"].clone())
        .collect();
    assert_eq!(titles, ["long"]);
    api.post(&format!("/v1/notifications/{short}/cancel"), &json!({}))
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn the_default_ttl_is_three_days_from_send_at() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let id = api
        .notify(
            json!({"targets": [{"user": user}], "content": {"title": "x"}, "send_at": in_millis(3_600_000)}),
        )
        .await;
    let shown = api.notification(&id).await;
    let lived = time(&shown["expires_at"]).as_second() - time(&shown["send_at"]).as_second();
    assert_eq!(lived, 3 * 86_400);
}

#[tokio::test]
async fn what_is_cancelled_before_its_time_is_never_sent() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut stream = ada.stream("").await;
    let id = api
        .notify(
            json!({"targets": [{"user": user}], "content": {"title": "never"}, "send_at": in_millis(600)}),
        )
        .await;
    let cancelled = api
        .post(&format!("/v1/notifications/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        cancelled,
        json!({"id": id, "state": "cancelled", "in_flight": 0, "recalled": 0})
    );
    // What is sent for a later moment arrives as the first.
    api.notify(
        json!({"targets": [{"user": user}], "content": {"title": "marker"}, "send_at": in_millis(1_200)}),
    )
    .await;
    assert_eq!(stream.next().await.data["entry"]["content"]["title"], "marker");
    assert_eq!(api.notification(&id).await["state"], "cancelled");
}

#[tokio::test]
async fn cancelling_recalls_what_is_still_open() {
    let api = shared().await.api().await;
    let users = [user_name("ada"), user_name("bob")];
    let (ada, bob) = (api.user(&users[0]).await, api.user(&users[1]).await);
    let (mut hers, mut his) = (ada.stream("").await, bob.stream("").await);
    let mut app = ada.connect(json!({})).await;
    let targets: Vec<_> = users.iter().map(|user| json!({"user": user})).collect();
    let id = api
        .notify(json!({"targets": targets, "content": {"title": "wrong"}}))
        .await;
    hers.next().await;
    let entry = his.next().await.data["entry"]["id"].clone();

    let cancelled = api
        .post(&format!("/v1/notifications/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&cancelled["state"], &cancelled["recalled"]),
        (&json!("cancelled"), &json!(2))
    );
    let recalled = his.next().await;
    assert_eq!(recalled.event, "recalled");
    assert_eq!(
        recalled.data["entry"],
        json!({"id": entry, "notification_id": id})
    );
    assert_eq!(recalled.data["counts"]["total"], 0);
    assert_eq!(hers.next().await.event, "recalled");
    app.change().await;
    assert_eq!(app.change().await.1["type"], "recalled");
    assert_eq!(bob.inbox().await["data"], json!([]));

    let again = api
        .post(&format!("/v1/notifications/{id}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(again["state"], "cancelled");
    let shown = api.notification(&id).await;
    assert_eq!(shown["recipients"]["data"][0]["state"], "cancelled", "{shown}");
}
