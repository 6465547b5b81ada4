use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Outside, outcomes, over, settled, text};
use crate::harness::{Reply, eventually};

#[tokio::test]
async fn a_test_is_tried_until_it_arrives_and_the_log_shows_every_attempt() {
    let outside = Outside::start().await;
    let (endpoint, _) = outside.endpoint("/hook", json!({})).await;
    outside.hooks.script(
        "/hook",
        [Reply::status(500), Reply::status(404), Reply::status(204)],
    );
    let id = outside.test(&endpoint).await;
    let seen = outside.hooks.wait("/hook", 3).await;
    let shown = settled(&outside.api, &id, "delivered").await;
    assert_eq!(outcomes(&shown), ["retry", "retry", "delivered"]);
    for hook in &seen {
        assert_eq!((&hook.id, &hook.body), (&id, &seen[0].body));
    }
    let path = format!("/v1/webhooks/endpoints/{endpoint}/attempts");
    let log = outside.api.get(&path).await.expect(200);
    let log: Vec<Value> = log["data"].as_array().expect("attempts").clone();
    let column = |name: &str| -> Vec<Value> { log.iter().map(|row| row[name].clone()).collect() };
    assert_eq!(column("number"), [3, 2, 1]);
    assert_eq!(column("status"), [204, 404, 500]);
    assert_eq!(
        column("excerpt"),
        [Value::Null, json!("said 404"), json!("said 500")]
    );
    assert_eq!(column("event"), ["webhook.test", "webhook.test", "webhook.test"]);
    assert!(
        log[0]["next_at"].is_null() && log[2]["next_at"].is_string(),
        "{log:?}"
    );
}

#[tokio::test]
async fn what_arrived_can_be_sent_again_under_its_id() {
    let outside = Outside::start().await;
    outside.reachable("ada").await;
    let api = &outside.api;
    let id = api
        .notify(over(&["webhook"], json!([{"user": "ada"}]), "Again"))
        .await;
    let first = outside.hooks.wait("/ada", 1).await.remove(0);
    settled(api, &first.id, "delivered").await;
    let resent = api
        .post(&format!("/v1/deliveries/{}/resend", first.id), &json!({}))
        .await;
    assert_eq!(resent.expect(202)["state"], "pending");
    let second = outside.hooks.wait("/ada", 2).await.remove(1);
    assert_eq!(second.id, first.id);
    assert_eq!(second.json()["data"]["notification_id"], id.as_str());
    let shown = settled(api, &first.id, "delivered").await;
    assert_eq!(outcomes(&shown), ["delivered", "delivered"]);
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_gone_is_disabled_and_what_waits_is_dead() {
    let outside = Outside::start().await;
    let fifo = json!({"fifo": true});
    let (gone, _) = outside.endpoint("/gone", fifo).await;
    let (_other, _) = outside.endpoint("/other", json!({})).await;
    let api = &outside.api;
    outside.hooks.script("/gone", [Reply::Hold, Reply::status(410)]);
    let held = outside.test(&gone).await;
    outside.hooks.wait("/gone", 1).await;
    // They wait their turn behind the one that is under way.
    let (second, third) = (outside.test(&gone).await, outside.test(&gone).await);
    outside.hooks.release();
    settled(api, &held, "delivered").await;
    let dead = settled(api, &second, "dead").await;
    assert_eq!(outcomes(&dead), ["gone"]);
    let waiting = settled(api, &third, "dead").await;
    assert_eq!(waiting["reason"], "the endpoint is disabled");
    assert_eq!(outcomes(&waiting), Vec::<&str>::new());
    assert_eq!(outside.hooks.seen("/gone").len(), 2);

    let path = format!("/v1/webhooks/endpoints/{gone}");
    let shown = api.get(&path).await.expect(200);
    assert_eq!(
        (&shown["state"], &shown["reason"]),
        (&json!("disabled"), &json!("answered 410"))
    );
    let told = outside.hooks.wait("/other", 1).await.remove(0).json();
    assert_eq!(told["type"], "endpoint.disabled");
    assert_eq!(
        told["data"],
        json!({"endpoint_id": gone, "reason": "answered 410"})
    );
    api.post(&format!("{path}/test"), &json!({}))
        .await
        .problem(409, "conflict");

    outside.hooks.script("/gone", [Reply::status(204)]);
    api.post(&format!("{path}/enable"), &json!({})).await.expect(200);
    let id = outside.test(&gone).await;
    settled(api, &id, "delivered").await;
}

#[tokio::test]
async fn nothing_but_failures_for_too_long_disables_an_endpoint() {
    let outside =
        Outside::start_with(|start| start.env("CARILLON_DISPATCHER__WEBHOOKS__DISABLE_AFTER", "1s")).await;
    let (failing, _) = outside.endpoint("/failing", json!({})).await;
    outside.hooks.script("/failing", [Reply::status(400)]);
    let id = outside.test(&failing).await;
    let dead = settled(&outside.api, &id, "dead").await;
    assert!(outcomes(&dead).len() > 1, "{dead}");
    let path = format!("/v1/webhooks/endpoints/{failing}");
    let shown = eventually("the endpoint to be disabled", || async {
        let shown = outside.api.get(&path).await.expect(200);
        (shown["state"] == "disabled").then_some(shown)
    })
    .await;
    assert!(
        text(&shown["reason"]).starts_with("nothing but failures since"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_endpoint_with_an_order_keeps_it_while_its_first_one_fails() {
    let outside = Outside::start().await;
    let (endpoint, _) = outside.endpoint("/fifo", json!({"fifo": true})).await;
    let failures = [Reply::status(400), Reply::status(400), Reply::status(204)];
    outside.hooks.script("/fifo", failures);
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(outside.test(&endpoint).await);
    }
    let seen = outside.hooks.wait("/fifo", 6).await;
    let order: Vec<&str> = seen.iter().map(|hook| hook.id.as_str()).collect();
    let first = sent[0].as_str();
    assert_eq!(order, [first, first, first, &sent[1], &sent[2], &sent[3]]);
    for id in &sent {
        settled(&outside.api, id, "delivered").await;
    }
    // A repeat goes last.
    outside.hooks.script("/fifo", [Reply::Hold, Reply::status(204)]);
    let held = outside.test(&endpoint).await;
    outside.hooks.wait("/fifo", 7).await;
    let next = outside.test(&endpoint).await;
    let resend = format!("/v1/deliveries/{first}/resend");
    outside.api.post(&resend, &json!({})).await.expect(202);
    outside.hooks.release();
    let seen = outside.hooks.wait("/fifo", 9).await;
    let order: Vec<&str> = seen[6..].iter().map(|hook| hook.id.as_str()).collect();
    assert_eq!(order, [&held, &next, first]);
    let shown = eventually("the repeat to be written down", || async {
        let shown = settled(&outside.api, first, "delivered").await;
        (shown["attempt_count"] == 4).then_some(shown)
    })
    .await;
    assert_eq!(outcomes(&shown), ["retry", "retry", "delivered", "delivered"]);
    let ids: HashSet<&str> = seen.iter().map(|hook| hook.id.as_str()).collect();
    assert_eq!(ids.len(), 6);
}
