use serde_json::{Value, json};

use super::outside::{Outside, deliveries, delivery_in, text};
use crate::harness::{Api, eventually};

/// A category whose alerts users may have together, a few seconds after the first.
async fn category(api: &Api) {
    let category = json!({
        "title": "Likes",
        "channels": ["in_app", "webhook"],
        "policy": {"digests": [{"name": "soon", "window": {"fixed": {"every": 8}}}]},
    });
    api.put("/v1/categories/likes", &category).await.expect(201);
}

fn like(title: &str) -> Value {
    json!({
        "category": "likes", "targets": [{"user": "ada"}],
        "content": {"title": title, "url": "https://photos.example.net/7"},
    })
}

async fn chosen(api: &Api) {
    let path = "/v1/users/ada/preferences/likes/webhook";
    let ada = api.user("ada").await;
    ada.put(path, &json!({"digest": "soon"})).await.expect(200);
}

async fn state(api: &Api, id: &str) -> Value {
    api.notification(id).await["recipients"]["data"][0]["state"].clone()
}

#[tokio::test]
async fn alerts_that_wait_together_come_as_one_and_what_was_answered_drops_out() {
    let outside = Outside::start().await;
    outside.reachable("ada").await;
    let api = &outside.api;
    category(api).await;
    chosen(api).await;
    let foreseen = api.post("/v1/notifications?dry_run=true", &like("Bob")).await;
    let foreseen = foreseen.expect(200)["recipients"][0]["deliveries"][1].clone();
    assert_eq!(
        (&foreseen["channel"], &foreseen["state"], &foreseen["digest"]),
        (&json!("webhook"), &json!("gathered"), &json!("soon")),
    );
    assert!(foreseen["until"].is_string(), "{foreseen}");

    let mut ids = Vec::new();
    for title in ["Bob", "Carol", "Dan", "Eve"] {
        ids.push(api.notify(like(title)).await);
    }
    for id in &ids {
        delivery_in(api, id, "webhook", "gathered").await;
    }
    let ada = api.user("ada").await;
    let answer = json!({"acks": [{"kind": "read", "notification": ids[1]}]});
    ada.post("/v1/acks", &answer).await.expect(200);

    let hook = outside.hooks.wait("/ada", 1).await.remove(0);
    let data = hook.json()["data"].clone();
    let digest = text(&data["notification_id"]);
    assert_eq!(data["content"]["title"], "3 notifications");
    let said = &data["content"]["data"]["digest"];
    let titles: Vec<&Value> = said["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| &member["title"])
        .collect();
    assert_eq!(titles, ["Bob", "Dan", "Eve"]);
    assert_eq!(
        (&said["name"], &said["count"], &said["more"]),
        (&json!("soon"), &json!(3), &json!(0))
    );
    assert_eq!(said["members"][0]["url"], "https://photos.example.net/7");

    delivery_in(api, &ids[1], "webhook", "cancelled").await;
    for id in [&ids[0], &ids[2], &ids[3]] {
        let member = delivery_in(api, id, "webhook", "digested").await;
        assert_eq!(member["digest"], digest);
    }
    delivery_in(api, &digest, "webhook", "delivered").await;
    let shown = api.notification(&digest).await;
    assert_eq!(shown["digest"], "soon");
    assert_eq!(
        deliveries(&shown, "in_app").len(),
        0,
        "its members are in the inbox"
    );
    let inbox = ada.inbox().await;
    assert_eq!(inbox["counts"]["total"], 4);

    // Who answers the digest answers what it holds.
    let answer = json!({"acks": [{"kind": "read", "notification": digest}]});
    let answered = ada.post("/v1/acks", &answer).await.expect(200);
    assert_eq!(answered["results"], json!([{"status": "ok"}]));
    for id in &ids {
        assert_eq!(state(api, id).await, "acknowledged");
    }
    assert_eq!(ada.inbox().await["counts"]["unread"], 0);
    assert_eq!(outside.hooks.seen("/ada").len(), 1, "one webhook in all");
}

#[tokio::test]
async fn a_tenant_says_its_digests_in_its_own_words() {
    let outside = Outside::start().await;
    let email = outside.reachable("ada").await;
    let api = &outside.api;
    let category = json!({
        "title": "Likes", "channels": ["email"],
        "policy": {"digests": [{"name": "soon", "window": {"fixed": {"every": 1}}}], "digest": "soon"},
    });
    api.put("/v1/categories/likes", &category).await.expect(201);
    let template = json!({
        "default_locale": "en",
        "locales": {"en": {
            "in_app": {"title": "{{ count }} likes"},
            "subject": "{{ count }} likes", "text": "{% for m in members %}{{ m.title }};{% endfor %}",
        }},
    });
    api.put("/v1/templates/carillon.digest", &template)
        .await
        .expect(200);
    let first = api.notify(like("Bob")).await;
    delivery_in(api, &first, "email", "digested").await;
    let mail = outside.relay.wait(&email, 1).await.remove(0);
    assert_eq!(mail.header("subject"), "1 likes");
    assert!(mail.raw.contains("Bob;"), "{}", mail.raw);
}

#[tokio::test]
async fn what_is_wrong_with_a_digest_is_pointed_at() {
    let outside = Outside::start().await;
    let api = &outside.api;
    for (policy, pointer) in [
        (
            json!({"digests": [{"name": "soon", "window": {"fixed": {"every": 0}}}]}),
            "/policy/digests/0/window/fixed/every",
        ),
        (
            json!({"digests": [{"name": "soon", "window": {"sliding": {"idle": 60, "max": 30}}}]}),
            "/policy/digests/0/window/sliding/max",
        ),
        (
            json!({"digests": [{"name": "soon", "window": {"cron": "0 25 * * *"}}]}),
            "/policy/digests/0/window/cron",
        ),
        (json!({"digest": "weekly"}), "/policy/digest"),
    ] {
        let refused = api
            .put(
                "/v1/categories/likes",
                &json!({"channels": ["email"], "policy": policy}),
            )
            .await;
        refused.problem(422, "invalid_request");
        assert_eq!(refused.pointers(), [pointer]);
    }
    let shown = eventually("the categories", || async {
        Some(api.get("/v1/categories").await)
    })
    .await;
    assert_eq!(shown.expect(200)["data"], json!([]));
}
