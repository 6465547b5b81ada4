use serde_json::{Value, json};

use super::{Outside, delivery_in, outcomes, plain, settled, text};
use crate::harness::{Api, MailReply, Reply, eventually};

async fn dead(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/v1/dead-letters{query}")).await.expect(200);
    page["data"].as_array().expect("a list").clone()
}

/// Begins a redrive and waits for its end.
async fn redriven(api: &Api, request: Value) -> Value {
    let begun = api.post("/v1/dead-letters/redrive", &request).await.expect(202);
    let path = format!("/v1/redrives/{}", text(&begun["id"]));
    eventually("the redrive's end", || async {
        let shown = api.get(&path).await.expect(200);
        (shown["state"] == "done").then_some(shown)
    })
    .await
}

#[tokio::test]
async fn dead_letters_are_listed_with_their_reason_and_redriven_one_some_and_all() {
    let outside = Outside::start().await;
    let api = &outside.api;
    let refusal = "550 5.7.1 not by our policy";
    let mut ids = Vec::new();
    for (name, category) in [
        ("a", "news"),
        ("b", "orders"),
        ("c", "orders"),
        ("d", "alarms"),
        ("e", "alarms"),
    ] {
        let to = format!("{name}@example.net");
        outside.relay.script(&to, [MailReply::Refuse(refusal)]);
        let request =
            json!({"targets": plain("email", &to), "category": category, "content": {"title": "Refused"}});
        let id = api.notify(request).await;
        let found = delivery_in(api, &id, "email", "dead").await;
        assert!(text(&found["reason"]).contains(refusal), "{found}");
        ids.push(text(&found["id"]));
    }
    let listed = dead(api, "").await;
    let newest: Vec<String> = listed.iter().map(|one| text(&one["id"])).collect();
    let expected: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(newest, expected);
    assert_eq!(dead(api, "?category=orders").await.len(), 2);
    assert_eq!(dead(api, "?channel=webhook").await.len(), 0);
    assert_eq!(dead(api, "?reason=5.7.1&limit=3").await.len(), 3);

    // Nothing changed: it dies again, with one attempt more.
    let again = redriven(api, json!({"ids": [ids[0]]})).await;
    assert_eq!((&again["total"], &again["done"]), (&json!(1), &json!(1)));
    let twice = eventually("another attempt", || async {
        let shown = settled(api, &ids[0], "dead").await;
        (outcomes(&shown).len() == 2).then_some(shown)
    })
    .await;
    assert_eq!(outcomes(&twice), ["rejected", "rejected"]);

    for name in ["a", "b", "c", "d", "e"] {
        let to = format!("{name}@example.net");
        outside.relay.script(&to, [MailReply::Take]);
    }
    redriven(api, json!({"ids": [ids[0]]})).await;
    let shown = settled(api, &ids[0], "accepted").await;
    assert_eq!(outcomes(&shown), ["rejected", "rejected", "accepted"]);
    let mail = outside.relay.seen("a@example.net").remove(0);
    assert_eq!(mail.delivery(), ids[0]);

    let some = redriven(api, json!({"filter": {"category": "orders"}})).await;
    assert_eq!((&some["total"], &some["done"]), (&json!(2), &json!(2)));
    for id in &ids[1..3] {
        settled(api, id, "accepted").await;
    }
    assert_eq!(dead(api, "").await.len(), 2);
    let all = redriven(api, json!({"all": true})).await;
    assert_eq!((&all["total"], &all["done"]), (&json!(2), &json!(2)));
    for id in &ids[3..] {
        settled(api, id, "accepted").await;
    }
    assert_eq!(dead(api, "").await, Vec::<Value>::new());
    let listed = api.get("/v1/redrives").await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(4), "{listed}");
}

#[tokio::test]
async fn what_never_works_is_dead_when_its_time_is_over_and_says_why() {
    let outside = Outside::start().await;
    let api = &outside.api;
    outside.hooks.script("/never", [Reply::status(400)]);
    let request = json!({
        "targets": plain("webhook", &outside.hooks.url("/never")), "ttl": 2, "content": {"title": "In vain"}
    });
    let id = api.notify(request).await;
    let found = delivery_in(api, &id, "webhook", "dead").await;
    assert!(text(&found["reason"]).contains("answered 400"), "{found}");
    let attempts = outside.hooks.seen("/never").len();
    let shown = settled(api, &text(&found["id"]), "dead").await;
    assert_eq!(outcomes(&shown), vec!["retry"; attempts]);
    assert!(attempts > 1, "{shown}");
    let listed = dead(api, "").await;
    assert_eq!(listed[0]["id"], found["id"]);
}
