//! Whatever comes in, the answer is a problem that names the fault: never a 5xx, never a panic, nothing lost.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{shared, user_name};

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = json!({"targets": [{"user": "ada"}], "content": {"title": "x"}});
    change(&mut body);
    body.to_string().into_bytes()
}

fn set(pointer: &str, value: Value) -> Vec<u8> {
    with(|body| {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = body.pointer_mut(parent).expect("the parent exists");
        match parent {
            Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value,
            other => other[name] = value,
        }
    })
}

fn without(pointer: &str) -> Vec<u8> {
    with(|body| {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = body.pointer_mut(parent).expect("the parent exists");
        parent.as_object_mut().expect("an object").remove(name);
    })
}

#[tokio::test]
async fn well_formed_but_unfitting_input_is_422_with_a_pointer() {
    let api = shared().await.api().await;
    let user = json!({"user": "ada"});
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (set("/colour", json!("red")), "/colour"),
        (set("/content/colour", json!("red")), "/content/colour"),
        (set("/targets/0/colour", json!("red")), "/targets/0/colour"),
        (without("/targets"), "/targets"),
        (set("/targets", json!([])), "/targets"),
        (set("/targets", json!("ada")), "/targets"),
        (set("/targets", json!(vec![user.clone(); 2])), "/targets/1"),
        (
            set(
                "/targets",
                json!(
                    (0..1_001)
                        .map(|n| json!({"user": format!("u{n}")}))
                        .collect::<Vec<_>>()
                ),
            ),
            "/targets",
        ),
        (set("/targets/0", json!({})), "/targets/0"),
        (
            set("/targets/0", json!({"user": "ada", "topic": "room.1"})),
            "/targets/0",
        ),
        (set("/targets/0/user", json!("")), "/targets/0/user"),
        (set("/targets/0/user", json!("u".repeat(256))), "/targets/0/user"),
        (set("/targets/0/user", json!(7)), "/targets/0/user"),
        (set("/targets/0", json!({"topic": ""})), "/targets/0/topic"),
        (
            set("/targets/0", json!({"topic": "carillon:inbox"})),
            "/targets/0/topic",
        ),
        (without("/content"), "/content"),
        (without("/content/title"), "/content/title"),
        (set("/content/title", json!("")), "/content/title"),
        (set("/content/title", json!(7)), "/content/title"),
        (set("/content/title", Value::Null), "/content/title"),
        (set("/content/body", json!(["x"])), "/content/body"),
        (set("/content/url", json!("not a url")), "/content/url"),
        (set("/content/url", json!("javascript:alert(1)")), "/content/url"),
        (
            set("/content/actions", json!([{"title": "no id"}])),
            "/content/actions/0/id",
        ),
        (set("/priority", json!("urgent")), "/priority"),
        (set("/category", json!("")), "/category"),
        (set("/collapse_key", json!("")), "/collapse_key"),
        (set("/ttl", json!(0)), "/ttl"),
        (set("/ttl", json!(-1)), "/ttl"),
        (set("/ttl", json!(2_592_001)), "/ttl"),
        (set("/ttl", json!(1.5)), "/ttl"),
        (set("/ttl", json!("60")), "/ttl"),
        (set("/ttl", json!(1e300)), "/ttl"),
        (set("/send_at", json!("tomorrow")), "/send_at"),
        (set("/send_at", json!("2026-11-21T10:00:00")), "/send_at"),
        (set("/send_at", json!("2999-01-01T00:00:00Z")), "/send_at"),
        (set("/send_at", json!("-009999-01-01T00:00:00Z")), "/send_at"),
        (set("/send_at", json!(0)), "/send_at"),
    ];
    let mut wrong = Vec::new();
    for (body, pointer) in cases {
        let text = String::from_utf8_lossy(&body)
            .chars()
            .take(120)
            .collect::<String>();
        let request = api
            .request(Method::POST, "/v1/notifications")
            .header("content-type", "application/json")
            .body(body);
        let answer = api.send(request).await;
        let code = answer
            .headers
            .contains_key("content-type")
            .then(|| answer.json()["code"].clone());
        if pointer == "/send_at" && answer.status == 202 && text.contains("-009999") {
            continue; // the distant past means now
        }
        if answer.status != 422
            || code != Some(json!("invalid_request"))
            || !answer.pointers().contains(&pointer.to_owned())
        {
            wrong.push(format!(
                "{text}\n   expected 422 at {pointer}, got {} {}",
                answer.status, answer.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_not_json_is_400() {
    let api = shared().await.api().await;
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"nonsense".to_vec(),
        b"{\"targets\":".to_vec(),
        b"{} trailing".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"{\"content\":{\"title\":\"\xff\"}}".to_vec(),
        br#"{"targets":[{"user":"a"}],"content":{"title":"x"},"ttl":1,"ttl":2}"#.to_vec(),
        br#"{"targets":[{"user":"a"}],"content":{"title":"x","title":"y"}}"#.to_vec(),
        format!(r#"{{"targets":[{{"user":"a"}}],"content":{{"title":"x","data":{{"d":{deep}}}}}}}"#)
            .into_bytes(),
        br#"{"targets":[{"user":"a"}],"content":{"title":"x"},"ttl":NaN}"#.to_vec(),
    ];
    for body in bodies {
        let text = String::from_utf8_lossy(&body)
            .chars()
            .take(80)
            .collect::<String>();
        for path in ["/v1/notifications", "/v1/notifications/batch"] {
            let request = api
                .request(Method::POST, path)
                .header("content-type", "application/json")
                .body(body.clone());
            let answer = api.send(request).await;
            assert_eq!(answer.status, 400, "{text}: {answer:?}");
            answer.problem(400, "malformed_request");
        }
    }
}

#[tokio::test]
async fn content_type_and_coding_are_checked() {
    let api = shared().await.api().await;
    let body = || with(|_| ());
    let post = || api.request(Method::POST, "/v1/notifications").body(body());
    api.send(post()).await.problem(415, "unsupported_media_type");
    api.send(post().header("content-type", "text/plain"))
        .await
        .problem(415, "unsupported_media_type");
    let coded = post()
        .header("content-type", "application/json")
        .header("content-encoding", "gzip");
    api.send(coded).await.problem(415, "unsupported_media_type");
    let charset = post().header("content-type", "application/json; charset=utf-8");
    api.send(charset).await.expect(202);
}

#[tokio::test]
async fn wrong_paths_methods_and_queries_are_named() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    api.get("/v1/nothing").await.problem(404, "not_found");
    api.get("/nothing").await.problem(404, "not_found");
    api.get("/v1/notifications/nonsense")
        .await
        .problem(404, "not_found");
    api.get("/v1/notifications/usr_0190d6a5c0de70008000000000000000")
        .await
        .problem(404, "not_found");
    let answer = api.delete("/v1/notifications").await;
    answer.problem(405, "method_not_allowed");
    let allowed = answer.header("allow").unwrap_or_default();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{answer:?}");
    for query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "limit=1&limit=2",
        "cursor=nonsense",
        "state=nonsense",
    ] {
        let answer = api.get(&format!("/v1/notifications?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        answer.problem(400, "malformed_request");
        let answer = ada
            .get(&format!("/v1/inbox?{}", query.replace("state", "view")))
            .await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_413_and_a_batch_may_be_larger() {
    let api = shared().await.api().await;
    let large = set("/content/data", json!({"text": "x".repeat(300 * 1024)}));
    let request = api
        .request(Method::POST, "/v1/notifications")
        .header("content-type", "application/json")
        .body(large);
    api.send(request).await.problem(413, "too_large");

    let user = user_name("ada");
    let item = json!({"targets": [{"user": user}], "content": {"title": "x", "body": "y".repeat(3_000)}});
    let items: Vec<_> = (0..300).map(|_| item.clone()).collect();
    api.post("/v1/notifications/batch", &json!({"notifications": items}))
        .await
        .expect(202);
    let request = api
        .request(Method::POST, "/v1/notifications/batch")
        .header("content-type", "application/json")
        .body(format!("{{\"notifications\":[]}}{}", " ".repeat(9 * 1024 * 1024)));
    // The server may answer and close while the client still sends: then there is nothing to read.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
}

#[tokio::test]
async fn acknowledgements_are_checked() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let entry = "ent_0190d6a5c0de70008000000000000000";
    let many: Vec<_> = (0..501)
        .map(|_| json!({"kind": "read", "entry": entry}))
        .collect();
    for (body, pointer) in [
        (json!({}), "/acks"),
        (json!({"acks": []}), "/acks"),
        (json!({"acks": many}), "/acks"),
        (
            json!({"acks": [{"kind": "eaten", "entry": entry}]}),
            "/acks/0/kind",
        ),
        (json!({"acks": [{"kind": "read"}]}), "/acks/0"),
        (
            json!({"acks": [{"kind": "read", "entry": "nonsense"}]}),
            "/acks/0/entry",
        ),
        (
            json!({"device": "d", "acks": [{"kind": "delivered", "position": "nonsense"}]}),
            "/acks/0/position",
        ),
        (
            json!({"device": "", "acks": [{"kind": "read", "entry": entry}]}),
            "/device",
        ),
        (
            json!({"colour": 1, "acks": [{"kind": "read", "entry": entry}]}),
            "/colour",
        ),
    ] {
        let answer = ada.post("/v1/acks", &body).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        let pointers = answer.pointers();
        assert!(
            pointers.iter().any(|found| found == pointer),
            "{body}: expected {pointer}, got {pointers:?}"
        );
    }
}
