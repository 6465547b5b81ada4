use axum::body::Body;
use carillon_domain::{Scope, TenantId};
use carillon_sql::Database;
use http::{Method, Request};
use serde_json::{Value, json};

use super::node::{Answer, Node, eventually, key};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// Hands something in with a key that may do nothing else.
async fn hand_in(node: &Node, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/v1/events")
        .extension(key(&TenantId::default(), &[Scope::EventsWrite]));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    node.ask(request.body(body.into()).expect("a request")).await
}

fn event(id: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.shipped", "data": data})
}

/// Hands one event in; answers its id.
async fn say(node: &Node, id: &str, data: Value) -> String {
    let event = event(id, data).to_string();
    let answer = hand_in(node, &[("content-type", STRUCTURED)], event).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    answer.body["id"].as_str().expect("an id").to_owned()
}

async fn put(node: &Node, name: &str, rule: Value) -> Answer {
    node.key(Method::PUT, &format!("/v1/rules/{name}"), rule).await
}

async fn get(node: &Node, path: &str) -> Value {
    let answer = node.key(Method::GET, path, Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
    answer.body
}

/// The event, once all rules saw it.
async fn done(node: &Node, id: &str) -> Value {
    let path = format!("/v1/events/{id}");
    eventually(async || get(node, &path).await["state"] == "done").await;
    get(node, &path).await
}

async fn titles(node: &Node, user: &str) -> Vec<String> {
    let inbox = node.inbox(user).await;
    let entries = inbox["data"].as_array().expect("a list");
    let title = |entry: &Value| entry["content"]["title"].as_str().expect("a title").to_owned();
    entries.iter().map(title).collect()
}

/// Tells the customer.
fn shipped() -> Value {
    json!({
        "type": "order.*",
        "notify": {
            "targets": [{"user": "{customer}"}], "category": "orders",
            "content": {"title": "Order {number} shipped"}, "collapse_key": "{number}"
        }
    })
}

#[tokio::test]
async fn an_event_becomes_a_notification_however_it_comes() {
    let node = Node::sqlite().await;
    let made = put(&node, "shipped", shipped()).await;
    assert_eq!(
        (made.status.as_u16(), &made.body["version"]),
        (201, &json!(1)),
        "{:?}",
        made.body
    );

    let structured = say(&node, "1", json!({"customer": "ada", "number": 1})).await;
    let shown = done(&node, &structured).await;
    assert_eq!(
        shown["event"],
        event("1", json!({"customer": "ada", "number": 1}))
    );
    let result = &shown["rules"][0];
    assert_eq!(
        (&result["rule"], &result["version"], &result["outcome"]),
        (&json!("shipped"), &json!(1), &json!("notified"))
    );
    let id = result["notification_id"].as_str().expect("an id");
    node.until_state(id, "planned").await;
    assert_eq!(node.show(id).await["category"], "orders");

    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/shop"),
        ("ce-type", "order.shipped"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let binary = hand_in(&node, &headers, r#"{"customer": "ada", "number": 2}"#).await;
    assert_eq!(binary.status, 202, "{:?}", binary.body);
    let shown = done(&node, binary.body["id"].as_str().expect("an id")).await;
    assert_eq!(shown["event"]["subject"], "Euro \u{20ac}");
    assert_eq!(shown["rules"][0]["outcome"], "notified");

    let batch = json!([
        event("3", json!({"customer": "ada", "number": 3})),
        {"specversion": "1.0", "id": "4", "source": "a b", "type": ""},
        event("3", json!({"customer": "ada", "number": 3})),
        event("5", json!({"large": "x".repeat(70_000)})),
    ]);
    let answer = hand_in(&node, &[("content-type", BATCH)], batch.to_string()).await;
    assert_eq!(answer.status, 207, "{:?}", answer.body);
    let items = answer.body["data"].as_array().expect("a list");
    let statuses: Vec<_> = items
        .iter()
        .map(|item| item["status"].as_u64().expect("a status"))
        .collect();
    assert_eq!(statuses, [202, 422, 202, 413]);
    assert_eq!(items[1]["errors"][0]["pointer"], "/1/type");
    assert_eq!(items[1]["errors"][1]["pointer"], "/1/source");
    assert_eq!(
        (&items[2]["id"], &items[2]["replayed"]),
        (&items[0]["id"], &json!(true))
    );
    let none = hand_in(&node, &[("content-type", BATCH)], "[]").await;
    assert_eq!((none.status.as_u16(), none.body), (202, json!({"data": []})));
    let all_wrong = hand_in(&node, &[("content-type", BATCH)], "[1]").await;
    assert_eq!(all_wrong.status, 422);

    eventually(async || titles(&node, "ada").await.len() == 3).await;
    let mut titles = titles(&node, "ada").await;
    titles.sort();
    assert_eq!(titles, ["Order 1 shipped", "Order 2 shipped", "Order 3 shipped"]);
    let listed = get(&node, "/v1/events?type=order.shipped&limit=2").await;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2));
    assert!(listed["next"].is_string());
}

#[tokio::test]
async fn what_is_no_event_is_refused() {
    let node = Node::sqlite().await;
    let structured = [("content-type", STRUCTURED)];
    for (headers, body, status) in [
        (&structured[..], "{", 400),
        (&structured[..], r#"{"id": "1", "id": "2"}"#, 400),
        (&structured[..], "[]", 422),
        (
            &structured[..],
            r#"{"specversion": "1.0", "id": "1", "type": "t"}"#,
            422,
        ),
        (&[("content-type", "application/json")][..], "{}", 415),
        (&[("content-type", "application/cloudevents+avro")][..], "{}", 415),
        (
            &[("ce-id", "1"), ("content-type", "application/json")][..],
            "{",
            400,
        ),
        (
            &[("ce-id", "1"), ("content-type", "application/json")][..],
            "{}",
            422,
        ),
        (&[("content-type", BATCH)][..], "{}", 422),
    ] {
        let answer = hand_in(&node, headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {body}: {:?}", answer.body);
    }
    let large = event("1", json!("x".repeat(65_536))).to_string();
    assert_eq!(hand_in(&node, &structured, large).await.status, 413);
    let many: Vec<Value> = (0..101).map(|id| event(&id.to_string(), Value::Null)).collect();
    let many = hand_in(&node, &[("content-type", BATCH)], json!(many).to_string()).await;
    assert_eq!(many.status, 422);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/events")
        .header("content-type", STRUCTURED)
        .extension(key(&TenantId::default(), &[Scope::NotificationsWrite]));
    let request = request.body(Body::from(event("1", Value::Null).to_string()));
    assert_eq!(node.ask(request.expect("a request")).await.status, 403);
}

#[tokio::test]
async fn an_event_that_is_repeated_gets_the_first_answer_and_rings_once() {
    let node = Node::sqlite().await;
    put(&node, "shipped", shipped()).await;
    let data = json!({"customer": "ada", "number": 1});
    let first = say(&node, "1", data.clone()).await;
    done(&node, &first).await;
    let again = hand_in(
        &node,
        &[("content-type", STRUCTURED)],
        event("1", data).to_string(),
    )
    .await;
    assert_eq!(again.status, 202);
    assert_eq!(again.body, json!({"id": first, "state": "done"}));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    eventually(async || titles(&node, "ada").await.len() == 1).await;
}

#[tokio::test]
async fn a_rule_that_fails_is_in_no_other_rule_s_way_and_its_errors_are_listed() {
    let node = Node::sqlite().await;
    let mut when = shipped();
    when["when"] = json!({"total": {"not": null}});
    when["order"] = json!(-1);
    put(&node, "when-dear", when).await;
    for (name, place, value) in [
        ("a-title", "/notify/content/title", json!("{absent}")),
        ("b-target", "/notify/targets/0/user", json!("{absent}")),
        ("c-user", "/notify/targets/0/user", json!("\u{7}{customer}")),
    ] {
        let mut rule = shipped();
        *rule.pointer_mut(place).expect("there") = value;
        let made = put(&node, name, rule).await;
        assert_eq!(made.status, 201, "{name}: {:?}", made.body);
    }
    let mut off = shipped();
    off["enabled"] = json!(false);
    put(&node, "off", off).await;
    put(&node, "shipped", shipped()).await;
    let mut other = shipped();
    other["source"] = json!("/elsewhere*");
    put(&node, "z-other", other).await;

    let id = say(&node, "1", json!({"customer": "ada", "number": 7})).await;
    let shown = done(&node, &id).await;
    let results: Vec<(&str, &str)> = shown["rules"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|result| {
            let word = |name: &str| result[name].as_str().expect("a word");
            (word("rule"), word("outcome"))
        })
        .collect();
    let expected = [
        ("when-dear", "unmatched"),
        ("a-title", "failed"),
        ("b-target", "failed"),
        ("c-user", "failed"),
        ("shipped", "notified"),
    ];
    assert_eq!(results, expected, "in their order; {shown}");
    // What later rules make goes out microseconds later, and the clock stands still.
    node.advance(std::time::Duration::from_millis(1));
    eventually(async || titles(&node, "ada").await == ["Order 7 shipped"]).await;
    for (name, word) in [
        ("a-title", "`absent`"),
        ("b-target", "no target"),
        ("c-user", "/targets/0/user"),
    ] {
        let errors = get(&node, &format!("/v1/rules/{name}/errors")).await;
        let error = &errors["data"][0];
        assert_eq!((&error["event_id"], &error["version"]), (&json!(id), &json!(1)));
        assert!(
            error["reason"].as_str().expect("a reason").contains(word),
            "{error}"
        );
    }
    assert_eq!(get(&node, "/v1/rules/shipped/errors").await["data"], json!([]));
}

#[tokio::test]
async fn a_rule_is_the_newest_version_and_the_last_ones_are_listed() {
    let node = Node::sqlite().await;
    put(&node, "shipped", shipped()).await;
    let same = put(&node, "shipped", shipped()).await;
    assert_eq!((same.status.as_u16(), &same.body["version"]), (200, &json!(1)));
    let mut changed = shipped();
    changed["notify"]["content"]["title"] = json!("{number} is on its way");
    let second = put(&node, "shipped", changed).await;
    assert_eq!(
        (second.status.as_u16(), &second.body["version"]),
        (200, &json!(2))
    );
    let id = say(&node, "1", json!({"customer": "ada", "number": 1})).await;
    assert_eq!(done(&node, &id).await["rules"][0]["version"], 2);
    eventually(async || titles(&node, "ada").await == ["1 is on its way"]).await;

    let versions = get(&node, "/v1/rules/shipped/versions").await;
    let titles_of: Vec<_> = versions["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|version| version["notify"]["content"]["title"].clone())
        .collect();
    assert_eq!(
        titles_of,
        [json!("{number} is on its way"), json!("Order {number} shipped")]
    );
    assert_eq!(get(&node, "/v1/rules").await["data"][0]["type"], "order.*");

    let deleted = node.key(Method::DELETE, "/v1/rules/shipped", Value::Null).await;
    assert_eq!(deleted.status, 204);
    let id = say(&node, "2", json!({"customer": "ada", "number": 2})).await;
    assert_eq!(done(&node, &id).await["rules"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_with_a_rule_is_told_when_it_is_saved() {
    let node = Node::sqlite().await;
    for (place, value, pointer) in [
        ("/type", json!("a*b"), "/type"),
        ("/order", json!("first"), "/order"),
        ("/when", json!({"a b": 1}), "/when/a b"),
        ("/notify/targets", json!([]), "/notify/targets"),
        (
            "/notify/targets",
            json!([{"user": "\u{7}"}]),
            "/notify/targets/0/user",
        ),
        ("/notify/targets", json!([{"user": "{a"}]), "/notify/targets/0"),
        (
            "/notify/targets",
            json!([{"user": "{a}"}, {"address": {"channel": "pigeon", "to": "{b}"}}]),
            "/notify/targets/1/address/channel",
        ),
        (
            "/notify/channels",
            json!(["in_app", "pigeon"]),
            "/notify/channels/1",
        ),
        ("/notify/category", json!("Big"), "/notify/category"),
        ("/notify/send_at", json!("tomorrow"), "/notify/send_at"),
        ("/notify/ttl", json!(0), "/notify/ttl"),
        ("/notify/template", json!({"name": "t"}), "/notify/template"),
        (
            "/notify/content/title",
            json!("{a | loud}"),
            "/notify/content/title",
        ),
        ("/notify/loud", json!(true), "/notify/loud"),
    ] {
        let mut rule = shipped();
        let (parent, name) = place.rsplit_once('/').expect("a place");
        rule.pointer_mut(parent).expect("there")[name] = value;
        let answer = put(&node, "wrong", rule.clone()).await;
        assert_eq!(answer.status, 422, "{rule}: {:?}", answer.body);
        assert_eq!(answer.pointers(), [pointer], "{rule}");
    }
    let mut gone = shipped();
    let notify = gone["notify"].as_object_mut().expect("an object");
    notify.remove("content");
    notify.insert("template".to_owned(), json!({"name": "absent"}));
    let answer = put(&node, "wrong", gone).await;
    assert_eq!(answer.pointers(), ["/notify/template/name"]);
}

#[tokio::test]
async fn a_template_that_is_gone_is_an_error_of_the_rule() {
    let node = Node::sqlite().await;
    let template = json!({"default_locale": "en", "locales": {"en": {"in_app": {"title": "Order {{ number }} shipped"}}}});
    let made = node.key(Method::PUT, "/v1/templates/order", template).await;
    assert_eq!(made.status, 200, "{:?}", made.body);
    let rule = json!({"type": "order.shipped", "notify": {
        "targets": [{"user": "{customer}"}], "template": {"name": "order"}, "data": {"number": "no. {number}"}
    }});
    assert_eq!(put(&node, "shipped", rule).await.status, 201);
    let id = say(&node, "1", json!({"customer": "ada", "number": 1})).await;
    assert_eq!(done(&node, &id).await["rules"][0]["outcome"], "notified");
    node.key(Method::DELETE, "/v1/templates/order", Value::Null).await;
    let id = say(&node, "2", json!({"customer": "ada", "number": 2})).await;
    let result = done(&node, &id).await["rules"][0].clone();
    assert_eq!(result["outcome"], "failed");
    assert!(
        result["reason"]
            .as_str()
            .expect("a reason")
            .contains("/template/name"),
        "{result}"
    );
}

#[tokio::test]
async fn a_dry_run_tells_who_would_get_what_and_sends_nothing() {
    let node = Node::sqlite().await;
    put(&node, "shipped", shipped()).await;
    let sample = event("1", json!({"customer": "ada", "number": 1}));
    let try_out = async |path: &str, body: Value| node.key(Method::POST, path, body).await;
    let tried = try_out("/v1/rules/shipped/dry-run", json!({"event": sample})).await;
    assert_eq!(tried.status, 200, "{:?}", tried.body);
    assert_eq!(tried.body["outcome"], "notified");
    assert_eq!(tried.body["request"]["targets"], json!([{"user": "ada"}]));
    assert!(tried.body["send_at"].is_string() && tried.body["expires_at"].is_string());
    let planned = &tried.body["notification"];
    assert_eq!(planned["recipients"][0]["user"], "ada");
    assert_eq!(planned["recipients"][0]["deliveries"][0]["channel"], "in_app");
    assert_eq!(planned["texts"][0]["content"]["title"], "Order 1 shipped");

    let id = say(&node, "1", json!({"customer": "eve", "number": 1})).await;
    done(&node, &id).await;
    let mut rule = shipped();
    rule["when"] = json!({"number": 2});
    let unmatched = json!({"rule": rule, "event_id": id});
    let tried = try_out("/v1/rules/dry-run", unmatched).await;
    assert_eq!(
        (tried.status.as_u16(), &tried.body["outcome"]),
        (200, &json!("unmatched"))
    );
    rule["when"] = json!({});
    rule["notify"]["targets"] = json!([{"user": "\u{7}{customer}"}]);
    let tried = try_out("/v1/rules/dry-run", json!({"rule": rule, "event_id": id})).await;
    assert_eq!(tried.body["outcome"], "failed");
    assert_eq!(tried.body["errors"][0]["pointer"], "/targets/0/user");
    rule["type"] = json!("other");
    rule["notify"]["targets"] = json!([{"user": "a"}]);
    let tried = try_out("/v1/rules/dry-run", json!({"rule": rule, "event_id": id})).await;
    assert_eq!(tried.body["outcome"], "unmatched");
    rule["notify"]["ttl"] = json!(0);
    let wrong = try_out("/v1/rules/dry-run", json!({"rule": rule, "event_id": id})).await;
    assert_eq!(wrong.pointers(), ["/rule/notify/ttl"]);
    let wrong = try_out("/v1/rules/shipped/dry-run", json!({"event": {"id": "1"}})).await;
    assert_eq!(
        wrong.pointers(),
        ["/event/specversion", "/event/type", "/event/source"]
    );
    let none = try_out("/v1/rules/shipped/dry-run", json!({})).await;
    assert_eq!(none.pointers(), ["/event"]);

    let sent = get(&node, "/v1/notifications").await;
    assert_eq!(sent["data"].as_array().map(Vec::len), Some(1), "eve's alone");
}

#[tokio::test]
async fn what_was_accepted_before_its_worker_ended_is_not_accepted_again() {
    let node = Node::sqlite().await;
    put(&node, "shipped", shipped()).await;
    let id = say(&node, "1", json!({"customer": "ada", "number": 1})).await;
    let first = done(&node, &id).await["rules"].clone();
    // As if the worker had ended between accepting and writing so, long ago.
    let Database::Sqlite(sqlite) = node.database() else {
        panic!("on SQLite");
    };
    let mut tx = sqlite
        .begin_system("a test turns time back")
        .await
        .expect("begins");
    for statement in [
        "DELETE FROM idempotency",
        "UPDATE domain_events SET state = 'waiting', results = '[]', done_at = NULL",
        "INSERT INTO domain_event_outbox (tenant, event, due_at, lease) SELECT tenant, id, received_at, 1 \
         FROM domain_events",
    ] {
        sqlx::query(statement).execute(&mut *tx).await.expect("runs");
    }
    tx.commit().await.expect("commits");
    assert_eq!(done(&node, &id).await["rules"], first);
    let sent = get(&node, "/v1/notifications").await;
    assert_eq!(sent["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_event_that_waits_survives_a_crash() {
    let node = Node::sqlite().await;
    put(&node, "shipped", shipped()).await;
    let id = say(&node, "1", json!({"customer": "ada", "number": 1})).await;
    let node = node.crash_and_restart().await;
    assert_eq!(done(&node, &id).await["rules"][0]["outcome"], "notified");
    eventually(async || titles(&node, "ada").await.len() == 1).await;
}
