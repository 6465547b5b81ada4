use std::time::Duration;

use bytes::Bytes;
use carillon_domain::{DeviceName, Position, TenantId};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, eventually, key};

async fn send(node: &Node, user: &str, title: &str) -> String {
    node.send(json!({"targets": [{"user": user}], "content": {"title": title}}))
        .await
}

async fn send_with_retry(node: &Node, user: &str) -> String {
    let actions = json!([{"id": "retry", "title": "Retry"}, {"id": "skip", "title": "Skip"}]);
    node.send(json!({"targets": [{"user": user}], "content": {"title": "t", "actions": actions}}))
        .await
}

async fn first_read(node: &Node) -> Value {
    node.inbox("ada").await["data"][0]["read_at"].clone()
}

async fn first(node: &Node, user: &str) -> String {
    node.inbox(user).await["data"][0]["id"]
        .as_str()
        .expect("an entry")
        .to_owned()
}

#[tokio::test]
async fn the_inbox_pages_filters_and_tells_its_position() {
    let node = Node::sqlite().await;
    for n in 0..5 {
        send(&node, "ada", &n.to_string()).await;
    }
    let page = node
        .user("ada", Method::GET, "/v1/inbox?limit=2", None)
        .await
        .body;
    let titles = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().expect("a list");
        data.iter()
            .map(|entry| entry["content"]["title"].as_str().expect("a title").to_owned())
            .collect()
    };
    assert_eq!(titles(&page), ["4", "3"]);
    assert!(page["position"].as_str().expect("a position").ends_with("-5"));
    assert_eq!(page["counts"], json!({"total": 5, "unread": 5, "unseen": 5}));
    let next = page["next"].as_str().expect("a cursor");
    let page = node
        .user(
            "ada",
            Method::GET,
            &format!("/v1/inbox?limit=2&cursor={next}"),
            None,
        )
        .await
        .body;
    assert_eq!(titles(&page), ["2", "1"]);
    let next = page["next"].as_str().expect("a cursor");
    let page = node
        .user(
            "ada",
            Method::GET,
            &format!("/v1/inbox?limit=2&cursor={next}"),
            None,
        )
        .await
        .body;
    assert_eq!(
        (titles(&page), &page["next"]),
        (vec!["0".to_owned()], &Value::Null)
    );
    for bad in [
        "limit=201",
        "view=nothing",
        "unread=maybe",
        "offset=1",
        "cursor=x",
    ] {
        let answer = node
            .user("ada", Method::GET, &format!("/v1/inbox?{bad}"), None)
            .await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    let entry = first(&node, "ada").await;
    let shown = node
        .user("ada", Method::GET, &format!("/v1/inbox/{entry}"), None)
        .await
        .body;
    assert_eq!(
        (&shown["id"], &shown["content"]["title"]),
        (&json!(entry), &json!("4"))
    );
    assert!(shown.get("seen_at").is_none(), "absent means not");
    let counts = node.user("ada", Method::GET, "/v1/inbox/counts", None).await.body;
    assert_eq!(counts["counts"]["total"], 5);
}

#[tokio::test]
async fn what_one_device_does_the_log_tells_the_others() {
    let node = Node::sqlite().await;
    for n in 0..4 {
        send(&node, "ada", &n.to_string()).await;
    }
    let act = async |method: Method, path: String, body: Option<Value>| {
        let answer = node.user("ada", method, &path, body).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        answer.body
    };
    let entry = first(&node, "ada").await;
    act(Method::POST, format!("/v1/inbox/{entry}/seen"), None).await;
    act(
        Method::POST,
        format!("/v1/inbox/{entry}/read?device=laptop"),
        None,
    )
    .await;
    act(Method::POST, format!("/v1/inbox/{entry}/unread"), None).await;
    let after = act(Method::POST, format!("/v1/inbox/{entry}/archive"), None).await;
    assert_eq!(
        act(Method::POST, format!("/v1/inbox/{entry}/archive"), None).await,
        after,
        "twice is once"
    );
    let conflict = node
        .user(
            "ada",
            Method::POST,
            &format!("/v1/inbox/{entry}/snooze"),
            Some(json!({"until": "2026-01-03T00:00:00Z"})),
        )
        .await;
    assert_eq!(
        (conflict.status.as_u16(), conflict.body["code"].as_str()),
        (409, Some("conflict"))
    );
    let archived = node
        .user("ada", Method::GET, "/v1/inbox?view=archived", None)
        .await
        .body;
    assert_eq!(archived["data"][0]["acknowledgement"]["kind"], "read");
    assert_eq!(archived["data"][0]["acknowledgement"]["device"], "laptop");
    let entry = first(&node, "ada").await;
    act(Method::DELETE, format!("/v1/inbox/{entry}"), None).await;
    assert_eq!(
        node.user("ada", Method::GET, &format!("/v1/inbox/{entry}"), None)
            .await
            .status,
        404
    );
    act(Method::DELETE, format!("/v1/inbox/{entry}"), None).await;
    act(
        Method::POST,
        "/v1/inbox/read-all".to_owned(),
        Some(json!({"category": "other"})),
    )
    .await;
    let read = act(Method::POST, "/v1/inbox/read-all".to_owned(), None).await;
    assert_eq!(read["counts"], json!({"total": 2, "unread": 0, "unseen": 0}));
    let foreign = json!({"before": "aaaaaaaa-1"});
    let answer = node
        .user("ada", Method::POST, "/v1/inbox/read-all", Some(foreign))
        .await;
    assert_eq!(answer.pointers(), ["/before"]);

    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    let changes = node.heard.changes(ada, 10).await;
    assert_eq!(
        changes.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    let words: Vec<_> = changes[4..].iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(
        words,
        [
            "state_changed",
            "state_changed",
            "state_changed",
            "state_changed",
            "deleted",
            "state_changed"
        ]
    );
    let inbox = node.dispatcher.inbox();
    let head = inbox.head(&TenantId::default(), ada).await.expect("reads");
    let since = inbox
        .since(&TenantId::default(), ada, &Position { seq: 0, ..head }, 100)
        .await
        .expect("reads");
    let heard: Vec<Bytes> = node
        .heard
        .all()
        .into_iter()
        .map(|envelope| envelope.body)
        .collect();
    assert_eq!(
        since.items.into_iter().map(|item| item.body).collect::<Vec<_>>(),
        heard,
        "the same bytes"
    );
}

#[tokio::test]
async fn a_snoozed_entry_comes_back_by_itself() {
    let node = Node::sqlite().await;
    send(&node, "ada", "later").await;
    let entry = first(&node, "ada").await;
    let snooze = async |until: &str| {
        let body = json!({"until": until});
        node.user(
            "ada",
            Method::POST,
            &format!("/v1/inbox/{entry}/snooze"),
            Some(body),
        )
        .await
    };
    for bad in ["2026-01-02T03:00:00Z", "2028-01-01T00:00:00Z"] {
        assert_eq!(snooze(bad).await.pointers(), ["/until"], "{bad}");
    }
    assert_eq!(snooze("2026-01-02T05:04:05+01:00").await.status, 200);
    assert_eq!(node.inbox("ada").await["data"], json!([]));
    let snoozed = node
        .user("ada", Method::GET, "/v1/inbox?view=snoozed", None)
        .await
        .body;
    assert_eq!(snoozed["data"][0]["snoozed_until"], "2026-01-02T04:04:05.000000Z");
    node.advance(Duration::from_secs(3_600));
    node.dispatcher.mailboxes.snoozed();
    eventually(async || node.inbox("ada").await["counts"]["total"] == 1).await;
}

#[tokio::test]
async fn acknowledgements_name_what_they_mean() {
    let node = Node::sqlite().await;
    let id = send_with_retry(&node, "ada").await;
    let position = node.inbox("ada").await["position"].clone();
    let acks = async |body: Value| node.user("ada", Method::POST, "/v1/acks", Some(body)).await;
    let answer = acks(json!({"acks": [
        {"kind": "delivered", "position": position},
        {"kind": "read"},
        {"kind": "seen", "notification": id, "entry": "ent_0190d6a5c0de70008000000000000000"},
        {"kind": "read", "notification": id, "position": position},
        {"kind": "read", "notification": id, "action": "x"},
        {"kind": "acted", "notification": id, "action": "a b"},
        {"kind": "delivered"},
    ]}))
    .await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.pointers(),
        [
            "/device",
            "/acks/1",
            "/acks/2",
            "/acks/3/position",
            "/acks/4/action",
            "/acks/5/action",
            "/acks/6/position"
        ]
    );
    assert_eq!(acks(json!({"acks": []})).await.pointers(), ["/acks"]);
    let answer = acks(json!({"acks": [
        {"kind": "opened", "notification": id},
        {"kind": "read", "notification": id},
        {"kind": "read", "entry": 7},
        ["read"],
        {"kind": "read"},
    ]}))
    .await;
    assert_eq!(
        answer.pointers(),
        ["/acks/0/kind", "/acks/2/entry", "/acks/3", "/acks/4"],
        "all of them at once"
    );
    assert_eq!(first_read(&node).await, json!(null), "nothing is done");
    let answer = acks(json!({"device": "phone", "acks": [
        {"kind": "delivered", "position": "zzzzzzzz-1"},
        {"kind": "delivered", "position": position},
        {"kind": "delivered", "position": position},
        {"kind": "acted", "notification": id, "action": "retry"},
        {"kind": "dismissed", "notification": id},
        {"kind": "dismissed", "notification": id},
        {"kind": "read", "entry": "ent_0190d6a5c0de70008000000000000000"},
    ]}))
    .await;
    let statuses: Vec<_> = answer.body["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|r| r["status"].as_str())
        .collect();
    let expected = [
        "not_found",
        "ok",
        "unchanged",
        "ok",
        "ok",
        "unchanged",
        "not_found",
    ];
    assert_eq!(statuses, expected.map(Some));
    let recipient = node.show(&id).await["recipients"]["data"][0].clone();
    assert_eq!(recipient["acknowledgement"]["action"], "retry");
    assert_eq!(recipient["deliveries"][0]["state"], "delivered");
    let phone: DeviceName = "phone".parse().expect("a device");
    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    let confirmed = node
        .dispatcher
        .inbox()
        .confirmed(&TenantId::default(), ada, &phone)
        .await
        .expect("reads");
    assert_eq!(json!(confirmed), position);
}

#[tokio::test]
async fn an_action_is_one_that_the_notification_offers() {
    let node = Node::sqlite().await;
    let with = send_with_retry(&node, "ada").await;
    let bobs = send(&node, "bob", "t").await;
    let without = send(&node, "ada", "t").await;
    let entry = first(&node, "ada").await;
    let acks = json!({"acks": [
        {"kind": "acted", "notification": with, "action": "skip"},
        {"kind": "acted", "notification": with, "action": "reboot"},
        {"kind": "acted", "entry": entry, "action": "retry"},
        {"kind": "acted", "notification": without, "action": "retry"},
        {"kind": "acted", "notification": bobs, "action": "retry"},
    ]});
    let answer = node
        .user("ada", Method::POST, "/v1/acks", Some(acks.clone()))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.pointers()),
        (422, vec!["/acks/1/action", "/acks/2/action", "/acks/3/action"])
    );
    assert_eq!(
        answer.body["errors"][0]["detail"],
        "the notification has no action with this id"
    );
    let called = node
        .dispatcher
        .rpc()
        .call(
            &node.principal("ada"),
            "carillon.ack",
            Bytes::from(acks.to_string()),
        )
        .await
        .expect("it is known")
        .expect_err("refused");
    assert_eq!(called.code, 107);
    assert!(
        called.message.starts_with("/acks/1/action: "),
        "{}",
        called.message
    );
    assert_eq!(node.inbox("ada").await["counts"]["unread"], 2, "nothing is done");
    let good = json!({"acks": [
        {"kind": "acted", "notification": with, "action": "skip"},
        {"kind": "acted", "entry": entry},
        {"kind": "acted", "notification": bobs, "action": "retry"},
    ]});
    let answer = node.user("ada", Method::POST, "/v1/acks", Some(good)).await;
    assert_eq!(
        answer.body["results"],
        json!([{"status": "ok"}, {"status": "ok"}, {"status": "not_found"}]),
        "another user's is not there"
    );
}

#[tokio::test]
async fn the_rpc_says_what_the_route_says() {
    let node = Node::sqlite().await;
    let id = send(&node, "ada", "t").await;
    let rpc = node.dispatcher.rpc();
    let call = async |principal, body: Value| {
        rpc.call(principal, "carillon.ack", Bytes::from(body.to_string()))
            .await
            .expect("it is known")
    };
    let ada = node.principal("ada");
    assert!(rpc.call(&ada, "carillon.nothing", Bytes::new()).await.is_none());
    let answer = call(&ada, json!({"acks": [{"kind": "read", "notification": id}]}))
        .await
        .expect("works");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(answer["results"], json!([{"status": "ok"}]));
    assert_eq!(answer["counts"]["unread"], 0);
    let bad = call(&ada, json!({"acks": [{"kind": "read"}]}))
        .await
        .expect_err("refused");
    assert_eq!((bad.code, bad.temporary), (107, false));
    assert!(bad.message.starts_with("/acks/0"));
    let whole = call(&ada, json!([])).await.expect_err("refused");
    assert_eq!(whole.message, "expected an object");
    let backend = key(&TenantId::default(), &[]);
    let forbidden = call(&backend, json!({"acks": [{"kind": "read", "notification": id}]})).await;
    assert_eq!(forbidden.expect_err("refused").code, 103);
    let garbage = rpc
        .call(&ada, "carillon.ack", Bytes::from_static(b"{"))
        .await
        .expect("known");
    assert_eq!(garbage.expect_err("refused").code, 107);
}
