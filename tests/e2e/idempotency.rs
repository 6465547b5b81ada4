//! `Idempotency-Key`: sent twice is sent once.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{listed, shared, user_name};

const ROUTE: &str = "/v1/notifications";

#[tokio::test]
async fn the_first_answer_is_given_again() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let body = json!({"targets": [{"user": user}], "content": {"title": "once"}});
    let first = api.post_once(ROUTE, "key-1", &body).await;
    let id = first.expect(202)["id"].clone();
    assert_eq!(first.header("idempotent-replayed"), None);
    // The structured-field spelling is the same key.
    for key in ["key-1", "\"key-1\""] {
        let again = api.post_once(ROUTE, key, &body).await;
        assert_eq!(again.expect(202)["id"], id, "{key}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{key}");
    }
    api.ring(&user, "marker").await;
    assert_eq!(listed(&api, &user, 2).await.len(), 2);
}

#[tokio::test]
async fn another_payload_under_the_same_key_is_refused() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let key = user_name("key");
    api.post_once(
        ROUTE,
        &key,
        &json!({"targets": [{"user": user}], "content": {"title": "one"}}),
    )
    .await
    .expect(202);
    let other = api
        .post_once(
            ROUTE,
            &key,
            &json!({"targets": [{"user": user}], "content": {"title": "two"}}),
        )
        .await;
    other.problem(422, "idempotency_mismatch");
}

#[tokio::test]
async fn a_malformed_key_is_refused_and_an_absent_one_is_fine() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let body = json!({"targets": [{"user": user}], "content": {"title": "x"}});
    let long = "k".repeat(256);
    for key in ["", "\"\"", "\"open", long.as_str(), "naïve"] {
        let request = api
            .request(reqwest::Method::POST, ROUTE)
            .header(
                "idempotency-key",
                reqwest::header::HeaderValue::from_bytes(key.as_bytes()).expect("a header"),
            )
            .json(&body);
        api.send(request).await.problem(400, "malformed_request");
    }
    let longest = "k".repeat(255);
    api.post_once(ROUTE, &longest, &body).await.expect(202);
    api.post(ROUTE, &body).await.expect(202);
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let key = user_name("key");
    api.post_once(ROUTE, &key, &json!({"targets": [{"user": user}], "content": {}}))
        .await
        .problem(422, "invalid_request");
    api.post_once(
        ROUTE,
        &key,
        &json!({"targets": [{"user": user}], "content": {"title": "mended"}}),
    )
    .await
    .expect(202);
}

#[tokio::test]
async fn keys_are_scoped_to_route_and_tenant() {
    let server = shared().await;
    let api = server.api().await;
    let other = server.tenant("keys-are-scoped").await;
    let user = user_name("ada");
    let key = user_name("key");
    let item = json!({"targets": [{"user": user}], "content": {"title": "x"}});
    let one = api.post_once(ROUTE, &key, &item).await.expect(202)["id"].clone();
    let batch = api
        .post_once("/v1/notifications/batch", &key, &json!({"notifications": [item]}))
        .await;
    assert_ne!(batch.expect(202)["data"][0]["id"], one);
    let foreign = other.post_once(ROUTE, &key, &item).await;
    assert_eq!(foreign.header("idempotent-replayed"), None);
    assert_ne!(foreign.expect(202)["id"], one);
}

#[tokio::test]
async fn at_once_with_one_key_makes_one_notification() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let key = user_name("key");
    let body = json!({"targets": [{"user": user}], "content": {"title": "once"}});
    let answers = join_all((0..20).map(|_| api.post_once(ROUTE, &key, &body))).await;
    let mut ids = Vec::new();
    for answer in &answers {
        if answer.status == 409 {
            answer.problem(409, "idempotency_in_flight");
        } else {
            ids.push(answer.expect(202)["id"].as_str().expect("an id").to_owned());
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{answers:?}");
    api.ring(&user, "marker").await;
    assert_eq!(listed(&api, &user, 2).await.len(), 2);
}

#[tokio::test]
async fn a_batch_is_replayed_as_a_whole() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let key = user_name("key");
    let items: Vec<_> = (0..3)
        .map(|number| json!({"targets": [{"user": user}], "content": {"title": format!("{number}")}}))
        .collect();
    let body = json!({"notifications": items});
    let first = api
        .post_once("/v1/notifications/batch", &key, &body)
        .await
        .expect(202);
    let again = api.post_once("/v1/notifications/batch", &key, &body).await;
    assert_eq!(again.expect(202), first);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}
