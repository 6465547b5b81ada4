use std::{sync::Arc, time::Duration};

use carillon_domain::{Scope, TenantId};
use carillon_testkit::TestDatabase;
use http::Method;
use serde_json::{Value, json};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::node::{Answer, Node, Setup, eventually, key};

fn hello(user: &str) -> Value {
    json!({"targets": [{"user": user}], "content": {"title": "hello"}})
}

async fn post(node: &Node, path: &str, idempotency: &str, body: Value) -> Answer {
    let principal = key(&TenantId::default(), &Scope::ALL);
    node.request(
        principal,
        Method::POST,
        path,
        &[("idempotency-key", idempotency)],
        Some(body),
    )
    .await
}

async fn total(node: &Node) -> usize {
    let answer = node
        .key(Method::GET, "/v1/notifications?limit=200", Value::Null)
        .await;
    answer.body["data"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_notification_tells_its_whole_story() {
    let node = Node::sqlite().await;
    let id = node
        .send(json!({
            "targets": [{"user": "ada"}, {"topic": "room.1"}, {"topic": "live.1"}],
            "category": "ci",
            "content": {"title": "Build failed", "data": {"build": 1}},
            "priority": "high",
            "collapse_key": "build-main",
            "ttl": 60
        }))
        .await;
    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    assert_eq!(node.heard.changes(ada, 1).await, [("added".to_owned(), 1)]);
    let entry = node.inbox("ada").await["data"][0].clone();
    let position = node.inbox("ada").await["position"].clone();
    assert_eq!(entry["content"]["data"]["build"], 1);
    let acks = json!({"device": "laptop", "acks": [
        {"kind": "delivered", "position": position},
        {"kind": "seen", "entry": entry["id"]},
        {"kind": "read", "notification": id},
    ]});
    let answer = node.user("ada", Method::POST, "/v1/acks", Some(acks)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body["results"],
        json!([{"status": "ok"}, {"status": "ok"}, {"status": "ok"}])
    );
    assert_eq!(
        answer.body["counts"],
        json!({"total": 1, "unread": 0, "unseen": 0})
    );

    let shown = node.show(&id).await;
    assert_eq!(shown["state"], "planned");
    assert_eq!(
        (&shown["category"], &shown["priority"]),
        (&json!("ci"), &json!("high"))
    );
    assert_eq!(
        shown["targets"],
        json!([{"user": "ada"}, {"topic": "room.1"}, {"topic": "live.1"}])
    );
    assert_eq!(shown["topics"][0]["topic"], "room.1");
    assert!(
        shown["topics"][0]["position"]
            .as_str()
            .expect("a position")
            .ends_with("-1")
    );
    assert!(
        shown["topics"][0]["note"]
            .as_str()
            .expect("a note")
            .contains("stored subscribers are among the recipients")
    );
    let recipient = &shown["recipients"]["data"][0];
    assert_eq!(
        (&recipient["user"], &recipient["state"]),
        (&json!("ada"), &json!("acknowledged"))
    );
    assert_eq!(recipient["entry_id"], entry["id"]);
    assert_eq!(recipient["position"], position);
    assert_eq!(recipient["acknowledgement"]["kind"], "read");
    assert_eq!(recipient["acknowledgement"]["device"], "laptop");
    let delivery = &recipient["deliveries"][0];
    assert_eq!(
        (&delivery["channel"], &delivery["address"]),
        (&json!("in_app"), &json!("inbox"))
    );
    assert_eq!(delivery["state"], "delivered");
    assert_eq!(delivery["attempts"][0]["outcome"], "accepted");
    let kinds: Vec<_> = recipient["receipts"]
        .as_array()
        .expect("receipts")
        .iter()
        .map(|r| &r["kind"])
        .collect();
    assert_eq!(
        kinds,
        ["delivered", "read", "seen"]
            .map(Value::from)
            .iter()
            .collect::<Vec<_>>()
    );
    let listed = node
        .key(
            Method::GET,
            "/v1/notifications?user=ada&state=planned",
            Value::Null,
        )
        .await
        .body;
    assert_eq!(listed["data"][0]["id"], id.as_str());
    assert!(listed["data"][0].get("recipients").is_none());
}

#[tokio::test]
async fn every_fault_has_its_pointer_and_nothing_is_accepted() {
    let node = Node::sqlite().await;
    let answer = node
        .key(
            Method::POST,
            "/v1/notifications",
            json!({"targets": [], "content": {"title": ""}, "ttl": -1}),
        )
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.body["code"].as_str()),
        (422, Some("invalid_request"))
    );
    assert_eq!(answer.pointers(), ["/targets", "/content/title", "/ttl"]);
    let unknown = json!({"targets": [{"user": "a"}], "content": {"title": "t"}, "tenant": "x"});
    assert_eq!(
        node.key(Method::POST, "/v1/notifications", unknown)
            .await
            .pointers(),
        ["/tenant"]
    );
    let batch = json!({"notifications": [hello("ada"), {"targets": [{"user": "b"}], "content": {"title": ""}}, hello("c"),
        {"targets": [{"topic": "carillon:inbox"}], "content": {"title": "t"}}]});
    let answer = node.key(Method::POST, "/v1/notifications/batch", batch).await;
    assert_eq!(
        answer.pointers(),
        [
            "/notifications/1/content/title",
            "/notifications/3/targets/0/topic"
        ]
    );
    let none = node
        .key(
            Method::POST,
            "/v1/notifications/batch",
            json!({"notifications": []}),
        )
        .await;
    assert_eq!(none.pointers(), ["/notifications"]);
    let many = json!({"notifications": (0..1_001).map(|_| hello("ada")).collect::<Vec<_>>()});
    assert_eq!(
        node.key(Method::POST, "/v1/notifications/batch", many)
            .await
            .status,
        422
    );
    assert_eq!(total(&node).await, 0);
    let large = json!({"targets": [{"user": "a"}], "content": {"title": "t", "body": "x".repeat(300_000)}});
    assert_eq!(
        node.key(Method::POST, "/v1/notifications", large).await.status,
        413
    );
}

#[tokio::test]
async fn every_invalid_item_of_a_batch_is_named() {
    let node = Node::sqlite().await;
    let batch = json!({"notifications": [
        hello("ada"),
        {"targets": [{"user": "b"}]},
        {"targets": [{"user": "b"}], "content": ["t"]},
        {"targets": [["b"]], "content": {"title": "t"}},
        {"targets": [{"user": "b"}], "content": {"title": "t"}, "tll": 1},
        {"targets": [{"user": "b"}], "content": {"title": "t"}, "ttl": "1"},
        {"targets": [{"user": "b"}], "content": {"title": "", "actions": []}, "ttl": 0},
        {"targets": [{"user": "b"}], "content": {"title": "t", "actions": [["id", "title"]]}},
        7,
        hello("bob"),
    ]});
    let answer = node.key(Method::POST, "/v1/notifications/batch", batch).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.pointers(),
        [
            "/notifications/1/content",
            "/notifications/2/content",
            "/notifications/3/targets/0",
            "/notifications/4/tll",
            "/notifications/5/ttl",
            "/notifications/6/content/title",
            "/notifications/6/ttl",
            "/notifications/7/content/actions/0",
            "/notifications/8",
        ]
    );
    for (body, pointer) in [
        (json!({"notifications": {}}), "/notifications"),
        (json!({"notifications": [], "x": 1}), "/notifications"),
        (
            json!({"notifications": (0..1_001).map(|_| json!(1)).collect::<Vec<_>>()}),
            "/notifications",
        ),
    ] {
        let answer = node.key(Method::POST, "/v1/notifications/batch", body).await;
        assert_eq!((answer.status.as_u16(), answer.pointers()), (422, vec![pointer]));
    }
    assert_eq!(total(&node).await, 0);
}

#[tokio::test]
async fn acknowledgements_are_objects() {
    let node = Node::sqlite().await;
    let answer = node
        .user("ada", Method::POST, "/v1/acks", Some(json!({"acks": [["x"]]})))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.pointers()),
        (422, vec!["/acks/0"])
    );
}

#[tokio::test]
async fn every_invalid_publication_is_named() {
    let node = Node::sqlite().await;
    let long = "x".repeat(65_537);
    for (body, pointers) in [
        (json!({"publications": [["x"]]}), vec!["/publications/0"]),
        (
            json!({"publications": [{}, {"data": 1}, {"data": long}, {"data": 1, "tag": 2}, 7]}),
            vec![
                "/publications/0/data",
                "/publications/2/data",
                "/publications/3/tag",
                "/publications/4",
            ],
        ),
        (json!({"publications": []}), vec!["/publications"]),
        (
            json!({"publications": vec![json!({"data": 1}); 1_001]}),
            vec!["/publications"],
        ),
    ] {
        let answer = node.key(Method::POST, "/v1/topics/room.1/publish", body).await;
        assert_eq!((answer.status.as_u16(), answer.pointers()), (422, pointers));
    }
    assert!(node.heard.all().is_empty(), "none is published");
}

#[tokio::test]
async fn a_batch_is_accepted_in_order_and_whole() {
    let node = Node::sqlite().await;
    let users: Vec<String> = (0..1_000).map(|n| format!("user-{n}")).collect();
    let batch = json!({"notifications": users.iter().map(|user| hello(user)).collect::<Vec<_>>()});
    let answer = node.key(Method::POST, "/v1/notifications/batch", batch).await;
    assert_eq!(answer.status, 202);
    let data = answer.body["data"].as_array().expect("a list").clone();
    assert_eq!(data.len(), 1_000);
    for (accepted, user) in [(&data[0], &users[0]), (&data[999], &users[999])] {
        let id = accepted["id"].as_str().expect("an id");
        node.until_state(id, "planned").await;
        assert_eq!(
            node.show(id).await["recipients"]["data"][0]["user"],
            user.as_str()
        );
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_gets_the_first_answer() {
    let node = Node::sqlite().await;
    let first = post(&node, "/v1/notifications", "key-1", hello("ada")).await;
    assert_eq!(first.status, 202);
    assert!(first.headers.get("idempotent-replayed").is_none());
    let again = post(&node, "/v1/notifications", "\"key-1\"", hello("ada")).await;
    assert_eq!((again.status, &again.bytes), (first.status, &first.bytes));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = post(&node, "/v1/notifications", "key-1", hello("bob")).await;
    assert_eq!(
        (other.status.as_u16(), other.body["code"].as_str()),
        (422, Some("idempotency_mismatch"))
    );
    let batch = json!({"notifications": [hello("ada"), hello("bob")]});
    let whole = post(&node, "/v1/notifications/batch", "key-1", batch.clone()).await;
    assert_eq!(whole.status, 202, "another route, another key");
    let again = post(&node, "/v1/notifications/batch", "key-1", batch).await;
    assert_eq!((again.status, again.bytes), (whole.status, whole.bytes));
    let malformed = post(&node, "/v1/notifications", "\"key", hello("ada")).await;
    assert_eq!(
        (malformed.status.as_u16(), malformed.body["code"].as_str()),
        (400, Some("malformed_request"))
    );
    let acme: TenantId = "acme".parse().expect("a tenant");
    let foreign = node
        .request(
            key(&acme, &Scope::ALL),
            Method::POST,
            "/v1/notifications",
            &[("idempotency-key", "key-1")],
            Some(hello("ada")),
        )
        .await;
    assert_eq!(foreign.status, 202);
    assert_ne!(foreign.bytes, first.bytes);
    // A request that was refused did not use its key.
    let refused = post(
        &node,
        "/v1/notifications",
        "key-2",
        json!({"targets": [], "content": {"title": "t"}}),
    )
    .await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        post(&node, "/v1/notifications", "key-2", hello("ada"))
            .await
            .status,
        202
    );
    assert_eq!(total(&node).await, 4);
}

#[tokio::test]
async fn while_the_first_request_is_in_flight_the_second_is_refused() {
    let node = Arc::new(Node::sqlite().await);
    let carillon_sql::Database::Sqlite(sqlite) = node.database() else {
        panic!("SQLite")
    };
    // Whoever holds the writer holds up every commit.
    let busy = sqlite
        .begin_system("a test holds the writer")
        .await
        .expect("begins");
    let mut racers: JoinSet<Answer> = (0..2)
        .map(|_| {
            let node = Arc::clone(&node);
            async move { post(&node, "/v1/notifications", "key", hello("ada")).await }
        })
        .collect();
    let second = racers.join_next().await.expect("two").expect("no panic");
    assert_eq!(
        (second.status.as_u16(), second.body["code"].as_str()),
        (409, Some("idempotency_in_flight"))
    );
    drop(busy);
    assert_eq!(
        racers.join_next().await.expect("two").expect("no panic").status,
        202
    );
    let third = post(&node, "/v1/notifications", "key", hello("ada")).await;
    assert_eq!(third.headers["idempotent-replayed"], "true");
}

#[tokio::test]
async fn who_hangs_up_keeps_the_key_until_the_commit_is_known() {
    for keep in [
        TestDatabase::sqlite().await,
        TestDatabase::postgres("dispatcher").await,
    ] {
        let node = Node::on(
            Arc::new(keep),
            Setup {
                idle: true,
                ..Setup::default()
            },
        )
        .await;
        tokio::select! {
            biased;
            answer = post(&node, "/v1/notifications", "key-1", hello("ada")) => panic!("nobody commits: {:?}", answer.body),
            // One look is enough to be queued; then the caller goes.
            () = std::future::ready(()) => {}
        }
        let commits = tokio::spawn({
            let intake = node.dispatcher.intake.clone();
            async move { intake.run(CancellationToken::new()).await }
        });
        // Asked before the committing task has had its first turn.
        let retry = post(&node, "/v1/notifications", "key-1", hello("ada")).await;
        assert_eq!(
            (retry.status.as_u16(), retry.body["code"].as_str()),
            (409, Some("idempotency_in_flight"))
        );
        eventually(async || {
            let again = post(&node, "/v1/notifications", "key-1", hello("ada")).await;
            again.status == 202 && again.headers["idempotent-replayed"] == "true"
        })
        .await;
        assert_eq!(total(&node).await, 1, "accepted once");
        commits.abort();
    }
}

#[tokio::test]
async fn overload_is_answered_at_once() {
    let setup = Setup {
        config: Some(|config| config.intake.queue = 1),
        ..Setup::default()
    };
    let node = Arc::new(Node::with(setup).await);
    let carillon_sql::Database::Sqlite(sqlite) = node.database() else {
        panic!("SQLite")
    };
    let busy = sqlite
        .begin_system("a test holds the writer")
        .await
        .expect("begins");
    let mut requests: JoinSet<Answer> = (0..10)
        .map(|_| {
            let node = Arc::clone(&node);
            async move { node.key(Method::POST, "/v1/notifications", hello("ada")).await }
        })
        .collect();
    // One is being committed and one waits: the others are answered while nothing can be committed.
    for _ in 0..8 {
        let refused = requests.join_next().await.expect("ten").expect("no panic");
        assert_eq!(
            (refused.status.as_u16(), refused.body["code"].as_str()),
            (503, Some("unavailable"))
        );
        let retry: u32 = refused.headers["retry-after"]
            .to_str()
            .expect("text")
            .parse()
            .expect("seconds");
        assert!((1..=3).contains(&retry));
    }
    drop(busy);
    let mut accepted = 0;
    while let Some(answer) = requests.join_next().await {
        accepted += usize::from(answer.expect("no panic").status == 202);
    }
    assert!(accepted >= 1, "what was let in is accepted");
    assert_eq!(total(&node).await, accepted);
}

#[tokio::test]
async fn each_route_asks_for_its_credential() {
    let node = Node::sqlite().await;
    let id = node.send(hello("ada")).await;
    let default = TenantId::default();
    for (method, path, scope) in [
        (
            Method::POST,
            "/v1/notifications".to_owned(),
            Scope::NotificationsWrite,
        ),
        (
            Method::POST,
            format!("/v1/notifications/{id}/cancel"),
            Scope::NotificationsWrite,
        ),
        (
            Method::GET,
            "/v1/notifications".to_owned(),
            Scope::NotificationsRead,
        ),
        (
            Method::GET,
            format!("/v1/notifications/{id}"),
            Scope::NotificationsRead,
        ),
        (
            Method::POST,
            "/v1/topics/room/publish".to_owned(),
            Scope::TopicsPublish,
        ),
    ] {
        let body = (method == Method::POST && !path.ends_with("cancel")).then(|| {
            if path.contains("topics") {
                json!({"publications": [{"data": 1}]})
            } else {
                hello("ada")
            }
        });
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let without = node
            .request(key(&default, &others), method.clone(), &path, &[], body.clone())
            .await;
        assert_eq!(
            (without.status.as_u16(), without.body["code"].as_str()),
            (403, Some("forbidden")),
            "{path}"
        );
        let user = node.user("ada", method.clone(), &path, body.clone()).await;
        assert_eq!(user.status, 403, "{path}");
        let with = node
            .request(key(&default, &[scope]), method, &path, &[], body)
            .await;
        assert!(with.status.is_success(), "{path}: {:?}", with.body);
    }
    for (method, path) in [
        (Method::GET, "/v1/inbox"),
        (Method::GET, "/v1/inbox/counts"),
        (Method::POST, "/v1/inbox/read-all"),
    ] {
        assert_eq!(node.key(method, path, json!({})).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn another_tenants_ids_are_unknown_byte_for_byte() {
    let node = Node::sqlite().await;
    let id = node.send(hello("ada")).await;
    let entry = node.inbox("ada").await["data"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let random = carillon_domain::NotificationId::at(node.now()).to_string();
    let random_entry = carillon_domain::EntryId::at(node.now()).to_string();
    let acme: TenantId = "acme".parse().expect("a tenant");
    for (method, real, unknown) in [
        (
            Method::GET,
            format!("/v1/notifications/{id}"),
            format!("/v1/notifications/{random}"),
        ),
        (
            Method::GET,
            format!("/v1/notifications/{id}"),
            "/v1/notifications/nonsense".to_owned(),
        ),
        (
            Method::POST,
            format!("/v1/notifications/{id}/cancel"),
            format!("/v1/notifications/{random}/cancel"),
        ),
    ] {
        let foreign = node
            .request(key(&acme, &Scope::ALL), method.clone(), &real, &[], None)
            .await;
        let absent = node
            .request(key(&acme, &Scope::ALL), method, &unknown, &[], None)
            .await;
        assert_eq!(foreign.status, 404);
        assert_eq!((foreign.status, foreign.bytes), (absent.status, absent.bytes));
    }
    let mut foreign_user = node.principal("ada");
    foreign_user.tenant = acme;
    let show = async |id: &str| {
        node.request(
            foreign_user.clone(),
            Method::GET,
            &format!("/v1/inbox/{id}"),
            &[],
            None,
        )
        .await
    };
    let (foreign, absent) = (show(&entry).await, show(&random_entry).await);
    assert_eq!((foreign.status.as_u16(), foreign.bytes), (404, absent.bytes));
    for action in ["seen", "read", "unread", "archive"] {
        let of = async |user: &str, id: &str| {
            node.user(user, Method::POST, &format!("/v1/inbox/{id}/{action}"), None)
                .await
        };
        let (foreign, absent) = (of("bob", &entry).await, of("bob", &random_entry).await);
        assert_eq!((foreign.status.as_u16(), foreign.bytes), (404, absent.bytes));
    }
    assert_eq!(node.show(&id).await["state"], "planned");
}

#[tokio::test]
async fn cancelling_answers_what_it_did() {
    let node = Node::sqlite().await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}, {"user": "bob"}], "content": {"title": "t"}}))
        .await;
    let path = format!("/v1/notifications/{id}/cancel");
    let answer = node.key(Method::POST, &path, Value::Null).await;
    assert_eq!(
        answer.body,
        json!({"id": id, "state": "cancelled", "in_flight": 0, "recalled": 2})
    );
    assert_eq!(node.inbox("ada").await["data"], json!([]));
    let again = node.key(Method::POST, &path, Value::Null).await;
    assert_eq!((again.status.as_u16(), &again.body["recalled"]), (200, &json!(0)));
    let later =
        json!({"targets": [{"user": "ada"}], "content": {"title": "t"}, "send_at": "2026-01-02T04:00:00Z"});
    let later = node.key(Method::POST, "/v1/notifications", later).await.body["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let answer = node
        .key(
            Method::POST,
            &format!("/v1/notifications/{later}/cancel"),
            Value::Null,
        )
        .await;
    assert_eq!(answer.body["state"], "cancelled");
    node.advance(Duration::from_secs(7_200));
    let marker = node.send(hello("bob")).await;
    assert_eq!(node.show(&marker).await["state"], "planned");
    assert_eq!(node.inbox("ada").await["data"], json!([]), "cancelled in time");
}
