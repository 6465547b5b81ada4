use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Capabilities, DeviceId, DeviceKind, Fault, Outcome, Scope, TenantId, Timestamp,
    ports::{Profile, ProfileDevice},
};
use carillon_testkit::{RecordingChannel, TestDatabase};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually, key};

const HOLD: Duration = Duration::from_secs(30);

fn email() -> Arc<RecordingChannel> {
    Arc::new(RecordingChannel::new("email", Capabilities::default()))
}

fn over(email: &Arc<RecordingChannel>) -> Setup {
    Setup {
        channels: vec![email.clone()],
        ..Setup::default()
    }
}

/// Reached by email; somebody is in front of a device until then.
fn reached(address: &str, active_until: Option<Timestamp>) -> Profile {
    Profile {
        devices: vec![ProfileDevice {
            id: DeviceId::at(Timestamp::from_seconds(1_767_323_045)),
            channel: "email".parse().expect("a channel"),
            address: address.parse().expect("an address"),
            verified: true,
            kind: DeviceKind::Email,
            platform: None,
            locale: None,
            active_until: None,
        }],
        active_until,
        ..Profile::default()
    }
}

fn there(node: &Node, user: &str) {
    let until = node.now().after(Duration::from_secs(3_600));
    let address = format!("{user}@example.org");
    node.names.describe(user, reached(&address, Some(until)));
}

fn hello(user: &str) -> Value {
    json!({"targets": [{"user": user}], "channels": ["in_app", "email"], "content": {"title": "hello"}})
}

fn first(shown: &Value) -> &Value {
    &shown["recipients"]["data"][0]
}

/// What was decided: kind and reason.
fn decided(recipient: &Value) -> Vec<String> {
    let decisions = recipient["decisions"].as_array().expect("a list");
    decisions
        .iter()
        .map(|decision| {
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            format!("{} {}", text(&decision["kind"]), text(&decision["why"]["reason"]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_waits_while_somebody_is_there_and_goes_when_nobody_answers() {
    let email = email();
    let node = Node::with(over(&email)).await;
    there(&node, "ada");
    let id = node.send(hello("ada")).await;
    let shown = node.show(&id).await;
    assert_eq!(shown["plan"]["steps"][0]["deadline"], 30);
    assert_eq!(
        shown["counts"],
        json!([{"state": "open", "phase": "held", "count": 1}])
    );
    let ada = first(&shown);
    assert_eq!((&ada["phase"], &ada["step"]), (&json!("held"), &json!(0)));
    assert_eq!(ada["next_at"], node.now().after(HOLD).to_string());
    assert_eq!(email.works().len(), 0);
    node.advance(HOLD);
    assert_eq!(email.until(1).await.len(), 1);
    eventually(async || first(&node.show(&id).await)["deliveries"][1]["state"] == "delivered").await;
    let shown = node.show(&id).await;
    assert_eq!(decided(first(&shown)), ["held active", "escalated deadline"]);
    assert_eq!(first(&shown)["deliveries"][1]["step"], 1);
    assert_eq!(
        shown["counts"],
        json!([{"state": "open", "phase": "climbing", "count": 1}])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_the_app_keeps_the_email_from_going() {
    let email = email();
    let node = Node::with(over(&email)).await;
    there(&node, "ada");
    there(&node, "bob");
    let id = node.send(hello("ada")).await;
    let other = node.send(hello("bob")).await;
    let entry = node.inbox("ada").await["data"][0]["id"].clone();
    let acks = json!({"device": "laptop", "acks": [{"kind": "read", "entry": entry}]});
    node.user("ada", Method::POST, "/v1/acks", Some(acks)).await;
    node.advance(HOLD);
    // Bob's goes, and Ada's was due before it.
    assert_eq!(email.until(1).await[0].address.as_str(), "bob@example.org");
    eventually(async || first(&node.show(&other).await)["step"] == 1).await;
    assert_eq!(first(&node.show(&id).await)["state"], "acknowledged");
    assert_eq!(email.works().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_outlives_its_process() {
    let email = email();
    let node = Node::with(over(&email)).await;
    there(&node, "ada");
    let id = node.send(hello("ada")).await;
    let node = node.crash_and_restart().await;
    assert_eq!(email.works().len(), 0);
    node.advance(Duration::from_secs(600));
    assert_eq!(email.until(1).await.len(), 1);
    eventually(async || first(&node.show(&id).await)["deliveries"][1]["state"] == "delivered").await;
    let node = node.crash_and_restart().await;
    node.advance(Duration::from_secs(600));
    let other = node.send(hello("bob")).await;
    eventually(async || first(&node.show(&other).await)["step"] == 0).await;
    assert_eq!(email.works().len(), 1, "once, however often somebody looks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dispatchers_on_one_database_start_each_step_once() {
    let email = email();
    let node = Node::on(Arc::new(TestDatabase::postgres("dispatcher").await), over(&email)).await;
    let beside = node.beside().await;
    let users: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
    for user in &users {
        there(&node, user);
    }
    let targets: Vec<Value> = users.iter().map(|user| json!({"user": user})).collect();
    let id = node
        .send(json!({"targets": targets, "channels": ["in_app", "email"], "content": {"title": "hello"}}))
        .await;
    node.advance(HOLD);
    email.until(users.len()).await;
    eventually(async || {
        let shown = beside.show(&id).await;
        shown["counts"] == json!([{"state": "open", "phase": "climbing", "count": users.len()}])
    })
    .await;
    let mut addresses: Vec<_> = email
        .works()
        .iter()
        .map(|work| work.address.to_string())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((addresses.len(), email.works().len()), (users.len(), users.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_condition_does_not_hold_is_passed_over() {
    let email = email();
    let node = Node::with(over(&email)).await;
    let plan = |condition: &str| {
        json!({"steps": [
            {"channels": ["in_app"], "deadline": 30},
            {"channels": ["email"], "when": [condition]},
        ]})
    };
    let send = async |user: &str, condition: &str| {
        let content = json!({"title": "hello"});
        let targets = json!([{"user": user}]);
        node.send(json!({"targets": targets, "plan": plan(condition), "content": content}))
            .await
    };
    for user in ["ada", "bob", "eve"] {
        there(&node, user);
    }
    let unseen = send("ada", "unseen").await;
    let inactive = send("bob", "inactive").await;
    let reachable = send("eve", "reachable").await;
    let entry = node.inbox("ada").await["data"][0]["id"].clone();
    let acks = json!({"device": "laptop", "acks": [{"kind": "seen", "entry": entry}]});
    node.user("ada", Method::POST, "/v1/acks", Some(acks)).await;
    node.advance(HOLD);
    assert_eq!(email.until(1).await[0].address.as_str(), "eve@example.org");
    for id in [unseen, inactive] {
        eventually(async || first(&node.show(&id).await)["state"] == "completed").await;
        let shown = node.show(&id).await;
        assert!(decided(first(&shown)).contains(&"passed condition".to_owned()));
    }
    assert_eq!(first(&node.show(&reachable).await)["state"], "open");
    assert_eq!(email.works().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_passed_over_does_not_start_when_an_earlier_delivery_arrives_late() {
    let email = email();
    let node = Node::with(over(&email)).await;
    there(&node, "ada");
    email.answer([Outcome::Retry {
        after: Some(Duration::from_secs(120)),
        reason: "busy".to_owned(),
        fault: Fault::Address,
    }]);
    let plan = json!({"steps": [
        {"channels": ["email"], "deadline": 30}, {"channels": ["in_app"], "deadline": 45, "when": ["inactive"]},
    ]});
    let body = json!({"targets": [{"user": "ada"}], "plan": plan, "content": {"title": "hello"}});
    let id = node.send(body).await;
    assert_eq!(email.until(1).await.len(), 1);
    eventually(async || first(&node.show(&id).await)["deliveries"][0]["attempts"][0]["outcome"] == "retry")
        .await;
    node.advance(HOLD);
    let passed = || async { decided(first(&node.show(&id).await)).contains(&"passed condition".to_owned()) };
    eventually(passed).await;
    // She goes, and then the email arrives: the step that was passed over is long over.
    node.names.describe("ada", reached("ada@example.org", None));
    node.advance(Duration::from_secs(120));
    eventually(async || first(&node.show(&id).await)["state"] == "completed").await;
    assert_eq!(email.works().len(), 2);
    assert_eq!(node.inbox("ada").await["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_good_ends_its_recipient() {
    let email = email();
    let node = Node::with(over(&email)).await;
    node.names.describe("ada", reached("ada@example.org", None));
    email.answer([Outcome::Rejected {
        reason: "no".to_owned(),
    }]);
    let body = json!({"targets": [{"user": "ada"}], "channels": ["email"], "content": {"title": "hello"}});
    let id = node.send(body).await;
    eventually(async || first(&node.show(&id).await)["state"] == "dead").await;
    let shown = node.show(&id).await;
    assert_eq!(
        shown["counts"],
        json!([{"state": "dead", "phase": null, "count": 1}])
    );
    assert_eq!(first(&shown)["decisions"][0]["kind"], "ended");

    let body = json!({"targets": [{"user": "nobody"}], "channels": ["email"], "content": {"title": "hello"}});
    let id = node.send(body).await;
    assert_eq!(first(&node.show(&id).await)["state"], "skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_to_live_ends_who_did_not_answer() {
    let email = email();
    let node = Node::with(over(&email)).await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}, "ttl": 60}))
        .await;
    assert_eq!(first(&node.show(&id).await)["state"], "open");
    node.advance(Duration::from_secs(60));
    eventually(async || first(&node.show(&id).await)["state"] == "completed").await;
    let shown = node.show(&id).await;
    assert_eq!(decided(first(&shown)), ["ended its time to live ended"]);
    let inbox = node.inbox("ada").await;
    assert_eq!(
        inbox["data"].as_array().map(Vec::len),
        Some(1),
        "it is still shown"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn critical_ones_wait_for_nobody_and_need_a_key_of_their_own() {
    let email = email();
    let node = Node::with(over(&email)).await;
    there(&node, "ada");
    let mut body = hello("ada");
    body["critical"] = json!(true);
    let principal = key(&TenantId::default(), &Scope::BACKEND);
    let refused = node
        .request(
            principal,
            Method::POST,
            "/v1/notifications",
            &[],
            Some(body.clone()),
        )
        .await;
    assert_eq!(refused.status, 403);
    let id = node.send(body).await;
    email.until(1).await;
    assert_eq!(node.show(&id).await["critical"], true);
}

#[tokio::test]
async fn a_plan_that_cannot_be_climbed_is_refused_where_it_is_wrong() {
    let email = email();
    let node = Node::with(over(&email)).await;
    let send = async |plan: Value| {
        let body = json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}, "plan": plan});
        node.key(Method::POST, "/v1/notifications", body).await
    };
    let answer = send(json!({"steps": [
        {"channels": ["in_app", "pigeon"], "deadline": 0},
        {"channels": ["in_app"]},
    ]}))
    .await;
    assert_eq!(answer.status, 422);
    let mut pointers = answer.pointers();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/plan/steps/0/channels/1",
            "/plan/steps/0/deadline",
            "/plan/steps/1/channels/0"
        ]
    );
    assert_eq!(send(json!({"steps": []})).await.pointers(), ["/plan/steps"]);
    let mut both = hello("ada");
    both["plan"] = json!({"steps": [{"channels": ["in_app"]}]});
    let answer = node.key(Method::POST, "/v1/notifications", both).await;
    assert_eq!(answer.pointers(), ["/plan"]);
}

#[tokio::test]
async fn a_dry_run_shows_which_steps_would_start() {
    let email = email();
    let node = Node::with(over(&email)).await;
    there(&node, "ada");
    let answer = node
        .key(Method::POST, "/v1/notifications?dry_run=true", hello("ada"))
        .await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let ada = &answer.body["recipients"][0];
    assert_eq!(ada["steps"][0]["state"], "starts");
    assert_eq!(ada["steps"][1]["state"], "held");
    assert_eq!(ada["steps"][1]["why"]["reason"], "active");
    assert_eq!(ada["deliveries"][0]["state"], "pending");
    assert_eq!(ada["deliveries"][1]["state"], "later");
    assert_eq!(answer.body["plan"]["steps"][1]["channels"], json!(["email"]));
}
