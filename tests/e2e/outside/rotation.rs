use serde_json::json;

use super::{Outside, fits_ed25519, hmac, text};

#[tokio::test]
async fn while_a_secret_rotates_both_sign_and_one_that_is_removed_no_longer_does() {
    let outside = Outside::start().await;
    let (endpoint, first) = outside.endpoint("/hook", json!({})).await;
    let api = &outside.api;
    let path = format!("/v1/webhooks/endpoints/{endpoint}");
    outside.test(&endpoint).await;
    let hook = outside.hooks.wait("/hook", 1).await.remove(0);
    assert_eq!(hook.json()["type"], "webhook.test");
    assert_eq!(hook.signatures("v1"), [hmac(&first, &hook)]);

    let rotated = api.post(&format!("{path}/secrets"), &json!({})).await.expect(201);
    let second = text(&rotated["secret"]);
    outside.test(&endpoint).await;
    let hook = outside.hooks.wait("/hook", 2).await.remove(1);
    let signatures = hook.signatures("v1");
    assert_eq!(signatures.len(), 2, "{hook:?}");
    for secret in [&first, &second] {
        assert!(signatures.contains(&hmac(secret, &hook).as_str()), "{hook:?}");
    }

    let shown = api.get(&path).await.expect(200);
    let old = &shown["secrets"][1];
    assert!(old["expires_at"].is_string(), "{shown}");
    assert!(!shown.to_string().contains("whsec_"), "{shown}");
    let removed = api.delete(&format!("{path}/secrets/{}", text(&old["id"]))).await;
    removed.expect(204);
    outside.test(&endpoint).await;
    let hook = outside.hooks.wait("/hook", 3).await.remove(2);
    assert_eq!(hook.signatures("v1"), [hmac(&second, &hook)]);

    // To another kind of key, at once.
    let rotation = json!({"secret_kind": "ed25519", "grace": 0});
    let rotated = api.post(&format!("{path}/secrets"), &rotation).await.expect(201);
    outside.test(&endpoint).await;
    let hook = outside.hooks.wait("/hook", 4).await.remove(3);
    assert!(hook.signatures("v1").is_empty(), "{hook:?}");
    assert!(fits_ed25519(&text(&rotated["public_key"]), &hook), "{hook:?}");
}
