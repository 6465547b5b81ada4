//! What users say of themselves: devices, activity, subscriptions; and what backends make of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{shared, user_name};

#[tokio::test]
async fn a_socket_a_call_and_a_listening_page_say_who_looks() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let focused = json!({"device": "laptop", "focused": true});
    let answer = ada.post("/v1/activity", &focused).await.expect(200);
    assert!(answer["active_until"].is_string(), "{answer}");

    let mut socket = ada.connect(json!({})).await;
    let answer = socket
        .rpc("carillon.activity", json!({"device": "laptop", "focused": false}))
        .await;
    assert_eq!(answer, Ok(json!({"active_until": null})));
    let refused = socket
        .rpc("carillon.activity", json!({"focused": true}))
        .await
        .expect_err("no device");
    assert_eq!(refused["code"], 107, "{refused}");
    let read = socket
        .rpc("carillon.ack", json!({}))
        .await
        .expect_err("another room's");
    assert_eq!(read["code"], 107, "{read}");
    let unknown = socket
        .rpc("carillon.nothing", json!({}))
        .await
        .expect_err("nobody's");
    assert_eq!(unknown["code"], 104, "{unknown}");

    let issued = ada.post("/v1/stream/tickets", &json!({"mode": "cookie"})).await;
    issued.expect(204);
    let cookie = issued
        .header("set-cookie")
        .expect("a cookie")
        .split(';')
        .next()
        .expect("a pair")
        .to_owned();
    let by_cookie = |origin: Option<&str>, body: &Value| {
        let request = api
            .bare(Method::POST, "/v1/stream/activity")
            .header("cookie", &cookie)
            .json(body);
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        }
    };
    let answer = api.send(by_cookie(None, &focused)).await.expect(200);
    assert!(answer["active_until"].is_string(), "{answer}");
    let foreign = api.send(by_cookie(Some("https://evil.example"), &focused)).await;
    foreign.problem(403, "forbidden");
    api.send(by_cookie(None, &json!({"device": "laptop"})))
        .await
        .problem(422, "invalid_request");
    api.send(api.bare(Method::POST, "/v1/stream/activity").json(&focused))
        .await
        .problem(401, "invalid_token");
}

#[tokio::test]
async fn a_user_keeps_his_devices_and_subscriptions_and_a_backend_sees_them() {
    let api = shared().await.api().await;
    let (user, topic) = (user_name("ada"), user_name("room."));
    let ada = api
        .user_with(json!({"user": user, "topics": {"subscribe": ["room.*"]}}))
        .await;
    let phone = json!({"kind": "app", "name": "phone", "channel": "fcm", "address": user_name("token")});
    let made = ada
        .post(&format!("/v1/users/{user}/devices"), &phone)
        .await
        .expect(201);
    ada.post(&format!("/v1/users/{user}/devices"), &phone)
        .await
        .expect(200);
    let listed = api.get(&format!("/v1/users/{user}/devices")).await.expect(200);
    assert_eq!(listed, json!({"data": [made], "next": null}));

    ada.put(&format!("/v1/topics/{topic}/subscriptions/{user}"), &json!({}))
        .await
        .expect(204);
    ada.put(&format!("/v1/topics/other/subscriptions/{user}"), &json!({}))
        .await
        .problem(403, "forbidden");
    let own = ada
        .get(&format!("/v1/users/{user}/subscriptions"))
        .await
        .expect(200);
    assert_eq!(own["data"][0]["topic"], topic);
    let subscribers = api
        .get(&format!("/v1/topics/{topic}/subscriptions"))
        .await
        .expect(200);
    assert_eq!(subscribers["data"][0]["user"], user);

    ada.put(
        &format!("/v1/users/{user}"),
        &json!({"timezone": "Europe/Vienna"}),
    )
    .await
    .expect(200);
    let mark = user_name("mark");
    api.put(
        &format!("/v1/users/{user}"),
        &json!({"attributes": {"mark": mark}}),
    )
    .await
    .expect(200);
    let segment = format!("/v1/segments/{mark}");
    let filter =
        json!({"all": [{"attribute": "mark", "is": mark}, {"field": "timezone", "starts_with": "Europe/"}]});
    api.put(&segment, &json!({"filter": filter})).await.expect(201);
    let preview = api.get(&format!("{segment}/preview")).await.expect(200);
    assert_eq!(preview["users"], json!([user]));

    api.delete(&format!("/v1/users/{user}")).await.expect(202);
    let subscribers = api
        .get(&format!("/v1/topics/{topic}/subscriptions"))
        .await
        .expect(200);
    assert_eq!(subscribers["data"], json!([]));
    let count = api.get(&format!("{segment}/count")).await.expect(200);
    assert_eq!(count["count"], 0);
}
