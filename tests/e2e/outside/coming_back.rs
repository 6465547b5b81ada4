//! What died, and is tried again.

use serde_json::json;

use super::{Outside, delivery_in, plain, settled, text};
use crate::harness::{Hooks, Reply};

#[tokio::test]
async fn a_webhook_says_the_same_after_a_redrive() {
    let outside = Outside::start().await;
    let hooks = Hooks::start().await;
    hooks.script("/late", [Reply::status(400)]);
    let api = &outside.api;
    let request =
        json!({"targets": plain("webhook", &hooks.url("/late")), "ttl": 1, "content": {"title": "x"}});
    let id = api.notify(request).await;
    let dead = delivery_in(api, &id, "webhook", "dead").await;
    let before = hooks.seen("/late");
    hooks.script("/late", [Reply::status(204)]);
    api.post("/v1/dead-letters/redrive", &json!({"all": true}))
        .await
        .expect(202);
    settled(api, &text(&dead["id"]), "delivered").await;
    let after = hooks.wait("/late", before.len() + 1).await;
    for hook in &after {
        let mut body = hook.json();
        // It is tried for longer than before, and says so.
        body["data"]["expires_at"] = after[0].json()["data"]["expires_at"].clone();
        assert_eq!((&hook.id, body), (&after[0].id, after[0].json()));
    }
}
