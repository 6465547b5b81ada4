use std::{collections::HashSet, time::Duration};

use carillon_domain::{UserId, ports::Audience};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually};

/// Users of one page.
const PAGE: usize = 500;

fn topic() -> Audience {
    Audience::Topic("news".parse().expect("a topic"))
}

fn segment() -> Audience {
    Audience::Segment("berlin".parse().expect("a segment"))
}

/// A node that plans small pages, and so many users in the segment `berlin`.
async fn crowd(count: usize) -> (Node, Vec<UserId>) {
    let node = Node::with(Setup {
        config: Some(|config| config.planner.batch_recipients = PAGE),
        ..Setup::default()
    })
    .await;
    let users: Vec<UserId> = (0..count).map(|_| UserId::at(node.now())).collect();
    node.names.join(&segment(), &users, node.now());
    (node, users)
}

async fn accepted(node: &Node, body: Value) -> String {
    let answer = node.key(Method::POST, "/v1/notifications", body).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    answer.body["id"].as_str().expect("an id").to_owned()
}

fn to_berlin() -> Value {
    json!({"targets": [{"segment": "berlin"}], "content": {"title": "Road closed"}})
}

/// Everybody who got it; nobody twice.
async fn reached(node: &Node, id: &str) -> HashSet<UserId> {
    let tenant = carillon_domain::TenantId::default();
    let id = id.parse().expect("an id");
    let found = node.dispatcher.store.recipients(&tenant, id, None, 20_000).await;
    let found = found.expect("reads");
    let users: HashSet<UserId> = found.iter().map(|detail| detail.user).collect();
    assert_eq!(users.len(), found.len());
    users
}

async fn entries(node: &Node, user: UserId) -> u64 {
    let tenant = carillon_domain::TenantId::default();
    let (_, counts) = node.dispatcher.store.mailbox(&tenant, user).await.expect("reads");
    counts.total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_that_is_killed_in_the_middle_reaches_everybody_once_and_no_newcomer() {
    let (node, mut users) = crowd(10_000).await;
    node.names.pages(Some(3));
    let id = accepted(&node, to_berlin()).await;
    eventually(async || node.show(&id).await["broadcast"]["planned"] == 3 * PAGE).await;
    let shown = node.show(&id).await;
    assert_eq!(shown["state"], "accepted");
    assert_eq!(shown["broadcast"]["state"], "running");
    users.sort_unstable();
    assert_eq!(
        shown["broadcast"]["cursor"],
        users[3 * PAGE - 1].to_string(),
        "{shown}"
    );
    node.advance(Duration::from_secs(60));
    let late = UserId::at(node.now());
    node.names.join(&segment(), &[late], node.now());
    node.names.pages(Some(4));
    let node = node.crash_and_restart().await;
    eventually(async || node.show(&id).await["broadcast"]["planned"].as_u64() > Some(3 * PAGE as u64)).await;
    let node = node.crash_and_restart().await;
    node.names.pages(None);
    let node = node.crash_and_restart().await;
    node.until_state(&id, "planned").await;
    let shown = node.show(&id).await;
    assert_eq!(shown["broadcast"]["state"], "done");
    assert_eq!(shown["broadcast"]["planned"], 10_000);
    assert!(shown["broadcast"]["cursor"].is_string(), "{shown}");
    assert_eq!(reached(&node, &id).await, users.iter().copied().collect());
    for user in [users[0], users[3 * PAGE - 1], users[3 * PAGE], users[9_999]] {
        assert_eq!(entries(&node, user).await, 1);
    }
    assert_eq!(entries(&node, late).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_targets_make_one_recipient() {
    let node = Node::sqlite().await;
    let tenant = carillon_domain::TenantId::default();
    let of = |name: &str| node.names.of(&tenant, &name.parse().expect("a user"));
    let (ada, bob, eve) = (of("ada"), of("bob"), of("eve"));
    node.names.join(&topic(), &[ada, bob], node.now());
    node.names.join(&segment(), &[bob, eve], node.now());
    let body = json!({
        "targets": [{"topic": "news"}, {"segment": "berlin"}, {"user": "eve"}, {"user": "zoe"}],
        "content": {"title": "Road closed"}
    });
    let dry = node
        .key(Method::POST, "/v1/notifications?dry_run=true", body.clone())
        .await;
    assert_eq!(dry.status, 200, "{:?}", dry.body);
    assert_eq!(dry.body["audience"], json!({"listed": 3, "more": false}));
    let mut named: Vec<&str> = dry.body["recipients"]
        .as_array()
        .expect("recipients")
        .iter()
        .filter_map(|recipient| recipient["user"].as_str())
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["ada", "bob", "eve", "zoe"]);
    let id = node.send(body).await;
    let zoe = of("zoe");
    assert_eq!(reached(&node, &id).await, HashSet::from([ada, bob, eve, zoe]));
    let shown = node.show(&id).await;
    assert_eq!(
        (&shown["broadcast"]["state"], &shown["broadcast"]["planned"]),
        (&json!("done"), &json!(4))
    );
    let position = shown["topics"][0]["position"].as_str();
    assert!(position.is_some_and(|at| at.ends_with("-1")), "{shown}");
    // A topic without stored subscribers is a publication alone.
    let id = node
        .send(json!({"targets": [{"topic": "empty"}], "content": {"title": "t"}}))
        .await;
    assert_eq!(node.show(&id).await["broadcast"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_users_beside_many_are_reached_once() {
    let (node, users) = crowd(2 * PAGE).await;
    let tenant = carillon_domain::TenantId::default();
    let ada = node.names.of(&tenant, &"ada".parse().expect("a user"));
    node.names.join(&segment(), &[ada], node.now());
    let mut body = to_berlin();
    body["targets"] = json!([{"user": "ada"}, {"user": "zoe"}, {"segment": "berlin"}, {"topic": "news"}]);
    let id = node.send(body).await;
    let found = reached(&node, &id).await;
    assert_eq!(found.len(), users.len() + 2);
    assert!(found.contains(&ada));
    let shown = node.show(&id).await;
    assert_eq!(shown["broadcast"]["planned"], users.len() + 2);
    assert_eq!(
        shown["topics"].as_array().map(Vec::len),
        Some(1),
        "published once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_behind_a_broadcast() {
    let (node, users) = crowd(20 * PAGE).await;
    let id = accepted(&node, to_berlin()).await;
    eventually(async || !node.show(&id).await["broadcast"].is_null()).await;
    let other = node
        .send(json!({"targets": [{"user": "ada"}], "content": {"title": "t"}}))
        .await;
    assert_eq!(node.show(&other).await["state"], "planned");
    assert_eq!(
        node.show(&id).await["broadcast"]["state"],
        "running",
        "it gave way"
    );
    node.until_state(&id, "planned").await;
    assert_eq!(reached(&node, &id).await.len(), users.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_goes_on_by_itself_while_nothing_waits_behind_it() {
    let (node, users) = crowd(20 * PAGE).await;
    let handover = &node.dispatcher.handover;
    let before = handover.look();
    let id = accepted(&node, to_berlin()).await;
    node.until_state(&id, "planned").await;
    assert_eq!(reached(&node, &id).await.len(), users.len());
    // Each turn leaves the rest to the relay, which looks for it on disk; a turn for each page would be twenty.
    let turns = handover.look() - before;
    assert!(turns <= 10, "{turns}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_in_the_middle_stops_the_pages() {
    let (node, _) = crowd(10 * PAGE).await;
    node.names.pages(Some(3));
    let id = accepted(&node, to_berlin()).await;
    eventually(async || node.show(&id).await["broadcast"]["planned"] == 3 * PAGE).await;
    let cancelled = node
        .key(
            Method::POST,
            &format!("/v1/notifications/{id}/cancel"),
            Value::Null,
        )
        .await;
    assert_eq!(cancelled.status, 200, "{:?}", cancelled.body);
    node.names.pages(None);
    let node = node.crash_and_restart().await;
    node.send(json!({"targets": [{"user": "ada"}], "content": {"title": "t"}}))
        .await;
    let shown = node.show(&id).await;
    assert_eq!(shown["state"], "cancelled");
    assert_eq!(shown["broadcast"]["state"], "cancelled");
    assert_eq!(reached(&node, &id).await.len(), 3 * PAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_to_live_ends_the_pages() {
    let (node, _) = crowd(10 * PAGE).await;
    node.names.pages(Some(3));
    let mut body = to_berlin();
    body["ttl"] = json!(60);
    let id = accepted(&node, body).await;
    eventually(async || node.show(&id).await["broadcast"]["planned"] == 3 * PAGE).await;
    node.advance(Duration::from_secs(61));
    let node = node.crash_and_restart().await;
    node.until_state(&id, "planned").await;
    let shown = node.show(&id).await;
    assert_eq!(shown["broadcast"]["state"], "expired");
    assert_eq!(reached(&node, &id).await.len(), 3 * PAGE);
}

#[tokio::test]
async fn segments_that_there_are_not_are_refused() {
    let node = Node::with(Setup {
        idle: true,
        ..Setup::default()
    })
    .await;
    node.names.join(&segment(), &[], node.now());
    let refused = async |targets: Value| {
        let body = json!({"targets": targets, "content": {"title": "t"}});
        let answer = node.key(Method::POST, "/v1/notifications", body).await;
        assert_eq!(answer.status, 422, "{:?}", answer.body);
        answer
            .pointers()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let found = refused(json!([{"segment": "berlin"}, {"segment": "atlantis"}, {"segment": "A B"}])).await;
    assert_eq!(found, ["/targets/1/segment", "/targets/2/segment"]);
    let found = refused(json!([{"segment": "berlin", "user": "ada"}])).await;
    assert_eq!(found, ["/targets/0"]);
    let found = refused(json!([{"segment": "berlin"}, {"segment": "berlin"}])).await;
    assert_eq!(found, ["/targets/1"]);
}
