use serde_json::json;

use super::{Outside, delivery_in, hmac, over, plain, text};
use crate::harness::MailReply;

#[tokio::test]
async fn a_tenants_endpoint_hears_what_becomes_of_deliveries() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let (_, key) = outside
        .endpoint("/events", json!({"events": ["delivery.*"]}))
        .await;
    let api = &outside.api;
    outside.relay.script(
        "refused@example.net",
        [MailReply::Refuse("550 5.7.1 not by our policy")],
    );
    let id = api
        .notify(over(&["email", "webhook"], json!([{"user": "ada"}]), "Well"))
        .await;
    let refused = api
        .notify(
            json!({"targets": plain("email", "refused@example.net"), "content": {"title": "Not so well"}}),
        )
        .await;
    for (kind, notification, channel, state, address) in [
        ("delivery.accepted", &id, "email", "accepted", email.clone()),
        (
            "delivery.delivered",
            &id,
            "webhook",
            "delivered",
            outside.hooks.url("/ada"),
        ),
        (
            "delivery.dead",
            &refused,
            "email",
            "dead",
            "refused@example.net".to_owned(),
        ),
    ] {
        let told = outside.hooks.wait_kind("/events", kind, 1).await;
        let [told] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(told.signatures("v1"), [hmac(&key, told)]);
        let shown = delivery_in(api, notification, channel, state).await;
        let mut expected = json!({
            "delivery_id": shown["id"], "notification_id": notification, "channel": channel,
            "address": address, "state": state, "reason": shown["reason"],
        });
        // A plain address is nobody whom the tenant named.
        if notification == &id {
            expected["user"] = json!("ada");
        }
        assert_eq!(told.json()["data"], expected);
    }
    // Of what is told itself nothing is told.
    let dead = outside.hooks.wait_kind("/events", "delivery.dead", 1).await;
    assert!(text(&dead[0].json()["data"]["reason"]).contains("5.7.1"));
    assert_eq!(outside.hooks.seen("/events").len(), 3);
}

#[tokio::test]
async fn a_tenants_endpoint_hears_what_becomes_of_notifications() {
    let outside = Outside::start().await;
    outside
        .endpoint("/events", json!({"events": ["notification.*"]}))
        .await;
    let api = &outside.api;
    let ada = api.user("ada").await;
    let mut stream = ada.stream("").await;
    let id = api.ring("ada", "Read me").await;
    let entry = text(&stream.next_named("added").await.data["entry"]["id"]);
    let told = outside
        .hooks
        .wait_kind("/events", "notification.planned", 1)
        .await;
    assert_eq!(told[0].json()["data"]["notification_id"], id.as_str());
    ada.post("/v1/acks", &json!({"acks": [{"kind": "read", "entry": entry}]}))
        .await
        .expect(200);
    let told = outside
        .hooks
        .wait_kind("/events", "notification.acknowledged", 1)
        .await;
    let data = told[0].json()["data"].clone();
    assert_eq!(
        (&data["notification_id"], &data["user"]),
        (&json!(id), &json!("ada"))
    );
    assert!(!data.to_string().contains("usr_"), "{data}");
    let second = api.ring("ada", "Never mind").await;
    stream.next_named("added").await;
    api.post(&format!("/v1/notifications/{second}/cancel"), &json!({}))
        .await
        .expect(200);
    let told = outside
        .hooks
        .wait_kind("/events", "notification.cancelled", 1)
        .await;
    assert_eq!(told[0].json()["data"]["notification_id"], second.as_str());
}

#[tokio::test]
async fn a_users_own_endpoint_gets_his_notifications_and_nobody_elses() {
    let outside = Outside::start().await;
    let api = &outside.api;
    let request = json!({"url": outside.hooks.url("/ada"), "user": "ada"});
    let made = api.post("/v1/webhooks/endpoints", &request).await.expect(201);
    let (endpoint, key) = (text(&made["id"]), text(&made["secrets"][0]["secret"]));
    assert!(endpoint.starts_with("whe_"));
    let targets = json!([{"user": "ada"}, {"user": "bob"}]);
    let id = api.notify(over(&["webhook"], targets, "For both")).await;
    let hook = outside.hooks.wait("/ada", 1).await.remove(0);
    assert_eq!(hook.signatures("v1"), [hmac(&key, &hook)]);
    assert_eq!(hook.json()["type"], "notification.created");
    assert_eq!(hook.json()["data"]["notification_id"], id.as_str());
    assert_eq!(hook.json()["data"]["user"], "ada");
}
