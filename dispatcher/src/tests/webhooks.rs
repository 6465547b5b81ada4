use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_domain::{
    Capabilities, ChannelKind, Invalid, Outcome, Scope, TenantId,
    ports::{Channel, CheckedAddress, Message, Report, Work},
};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::node::{Answer, Node, Setup, eventually, key};

/// What arrived: the address, the delivery, the signing keys, and the body's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) address: String,
    pub(super) id: String,
    pub(super) keys: Vec<String>,
    pub(super) kind: String,
    pub(super) body: Value,
}

/// A far end of URLs that the tests answer for: what a host does stands in its name.
#[derive(Default)]
pub(super) struct Hooks {
    told: Mutex<Vec<Told>>,
    /// Whether what is ill answers well.
    pub(super) mended: Mutex<bool>,
}

impl Hooks {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().clone()
    }

    /// Everything of a kind, once there are so many.
    pub(super) async fn of(&self, kind: &str, count: usize) -> Vec<Told> {
        let found = || {
            let told = self.told();
            told.into_iter()
                .filter(|told| told.kind == kind)
                .collect::<Vec<_>>()
        };
        eventually(async || found().len() >= count).await;
        found()
    }
}

#[async_trait]
impl Channel for Hooks {
    fn kind(&self) -> ChannelKind {
        ChannelKind::webhook()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        let rest = address
            .strip_prefix("https://")
            .ok_or(Invalid("expected an https URL"))?;
        let host = rest.split('/').next().unwrap_or(rest);
        Ok(CheckedAddress {
            address: address.parse()?,
            lane: Arc::from(format!("{host}:443")),
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        let (kind, body) = match &work.message {
            Message::Event { kind, body } => (kind.to_string(), serde_json::from_str(body).expect("JSON")),
            Message::Notification(message) => (
                "notification.created".to_owned(),
                json!({ "title": message.content.title }),
            ),
        };
        self.told.lock().push(Told {
            address: work.address.to_string(),
            id: work.delivery.to_string(),
            keys: work.keys.iter().map(|key| key.expose().to_owned()).collect(),
            kind,
            body,
        });
        let address = work.address.as_str();
        let outcome = if address.contains("gone.") {
            Outcome::Gone {
                reason: "the endpoint answered 410".to_owned(),
            }
        } else if address.contains("ill.") && !*self.mended.lock() {
            Outcome::Retry {
                after: None,
                reason: "it is ill".to_owned(),
                fault: carillon_domain::Fault::Address,
            }
        } else {
            Outcome::Delivered { provider_id: None }
        };
        Report {
            outcome,
            status: Some(200),
            excerpt: Some("thanks".to_owned()),
            acknowledged: address
                .contains("reader.")
                .then_some(carillon_domain::ports::Answer {
                    kind: carillon_domain::AckKind::Read,
                    action: None,
                }),
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

const ENDPOINTS: &str = "/v1/webhooks/endpoints";

async fn node() -> (Node, Arc<Hooks>) {
    let hooks = Hooks::new();
    let setup = Setup {
        channels: vec![hooks.clone()],
        ..Setup::default()
    };
    (Node::with(setup).await, hooks)
}

async fn registered(node: &Node, body: Value) -> Value {
    let answer = node.key(Method::POST, ENDPOINTS, body).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    // What is made next is newer.
    node.advance(Duration::from_millis(1));
    answer.body
}

fn path(endpoint: &Value, rest: &str) -> String {
    format!("{ENDPOINTS}/{}{rest}", endpoint["id"].as_str().expect("an id"))
}

async fn get(node: &Node, path: &str) -> Answer {
    node.key(Method::GET, path, Value::Null).await
}

async fn delivery(node: &Node, id: &Value) -> Value {
    let path = format!("/v1/deliveries/{}", id.as_str().expect("an id"));
    get(node, &path).await.body
}

#[tokio::test]
async fn an_endpoint_is_registered_shown_changed_and_deleted() {
    let (node, _) = node().await;
    let made = registered(
        &node,
        json!({"url": "https://a.example/hook", "events": ["delivery.*"], "description": "ours"}),
    )
    .await;
    assert_eq!(made["state"], "enabled");
    assert_eq!(made["user"], Value::Null);
    assert_eq!(made["secrets"][0]["secret"], "whsec_1");
    let shown = get(&node, &path(&made, "")).await.body;
    assert_eq!(shown["description"], "ours");
    assert_eq!(shown["secrets"][0]["kind"], "hmac");
    assert!(shown["secrets"][0].get("secret").is_none(), "{shown}");

    let patch = json!({"url": "https://b.example/", "fifo": true, "description": null});
    let changed = node.key(Method::PATCH, &path(&made, ""), patch).await;
    assert_eq!(changed.status, 200, "{:?}", changed.body);
    assert_eq!(changed.body["url"], "https://b.example/");
    assert_eq!(changed.body["description"], Value::Null);
    assert_eq!(changed.body["events"], json!(["delivery.*"]));

    let off = node
        .key(Method::PATCH, &path(&made, ""), json!({"disabled": true}))
        .await;
    assert_eq!(off.body["state"], "disabled");
    assert_eq!(
        node.key(Method::POST, &path(&made, "/test"), Value::Null)
            .await
            .status,
        409
    );
    let on = node.key(Method::POST, &path(&made, "/enable"), Value::Null).await;
    assert_eq!(on.body["state"], "enabled");
    assert_eq!(on.body["reason"], Value::Null);

    assert_eq!(
        node.key(Method::DELETE, &path(&made, ""), Value::Null)
            .await
            .status,
        204
    );
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(node.key(method, &path(&made, ""), Value::Null).await.status, 404);
    }
    assert_eq!(get(&node, ENDPOINTS).await.body["data"], json!([]));
}

#[tokio::test]
async fn endpoints_are_listed_by_page_and_by_user() {
    let (node, _) = node().await;
    for host in ["a", "b", "c"] {
        let url = format!("https://{host}.example/");
        registered(&node, json!({"url": url, "events": ["*"]})).await;
    }
    let of_ada = registered(&node, json!({"url": "https://ada.example/", "user": "ada"})).await;
    assert_eq!(of_ada["events"], json!(["notification.created"]));
    assert_eq!(of_ada["user"], "ada");
    let first = get(&node, &format!("{ENDPOINTS}?limit=3")).await.body;
    assert_eq!(first["data"][0]["user"], "ada");
    assert_eq!(first["data"][1]["url"], "https://c.example/");
    assert_eq!(first["data"][1]["user"], Value::Null);
    let next = first["next"].as_str().expect("a next page");
    let second = get(&node, &format!("{ENDPOINTS}?limit=3&cursor={next}"))
        .await
        .body;
    assert_eq!(second["data"].as_array().map(Vec::len), Some(1));
    let hers = get(&node, &format!("{ENDPOINTS}?user=ada")).await.body;
    assert_eq!(hers["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        get(&node, &format!("{ENDPOINTS}?user=nobody")).await.body["data"],
        json!([])
    );
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let (node, _) = node().await;
    for (body, pointers) in [
        (json!({"url": "http://a.example/", "events": ["*"]}), vec!["/url"]),
        (json!({"url": "https://a.example/"}), vec!["/events"]),
        (
            json!({"url": "ftp://a", "events": ["x", "*", "*"]}),
            vec!["/url", "/events/0", "/events/2"],
        ),
        (
            json!({"url": "https://a.example/", "user": "ada", "events": ["*"]}),
            vec!["/events"],
        ),
        (
            json!({"url": "https://a.example/", "events": ["*"], "description": "x".repeat(1025)}),
            vec!["/description"],
        ),
    ] {
        let answer = node.key(Method::POST, ENDPOINTS, body.clone()).await;
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!(answer.pointers(), pointers, "{body}");
    }
}

#[tokio::test]
async fn another_tenant_or_scope_finds_nothing() {
    let (node, _) = node().await;
    let made = registered(&node, json!({"url": "https://a.example/", "events": ["*"]})).await;
    let other: TenantId = "acme".parse().expect("a tenant");
    let theirs = key(&other, &Scope::ALL);
    for (method, rest) in [
        (Method::GET, ""),
        (Method::DELETE, ""),
        (Method::POST, "/enable"),
        (Method::POST, "/test"),
        (Method::GET, "/attempts"),
    ] {
        let answer = node
            .request(theirs.clone(), method, &path(&made, rest), &[], None)
            .await;
        assert_eq!(answer.status, 404, "{rest}");
    }
    let narrow = key(&TenantId::default(), &[Scope::NotificationsRead]);
    let answer = node.request(narrow, Method::GET, ENDPOINTS, &[], None).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_new_one_for_a_while() {
    let (node, hooks) = node().await;
    let made = registered(&node, json!({"url": "https://a.example/", "events": ["*"]})).await;
    let rotated = node
        .key(
            Method::POST,
            &path(&made, "/secrets"),
            json!({"grace": 60, "secret_kind": "ed25519"}),
        )
        .await;
    assert_eq!(rotated.status, 201, "{:?}", rotated.body);
    assert_eq!(rotated.body["secret"], "whsk_2");
    assert_eq!(rotated.body["public_key"], "whpk_2");
    node.key(Method::POST, &path(&made, "/test"), Value::Null).await;
    assert_eq!(hooks.of("webhook.test", 1).await[0].keys, ["whsk_2", "whsec_1"]);
    node.advance(Duration::from_secs(61));
    node.key(Method::POST, &path(&made, "/test"), Value::Null).await;
    assert_eq!(hooks.of("webhook.test", 2).await[1].keys, ["whsk_2"]);

    let last = path(
        &made,
        &format!("/secrets/{}", rotated.body["id"].as_str().expect("an id")),
    );
    assert_eq!(node.key(Method::DELETE, &last, Value::Null).await.status, 409);
    let third = node
        .key(Method::POST, &path(&made, "/secrets"), json!({}))
        .await
        .body;
    assert_eq!(third["kind"], "ed25519", "as the newest one");
    assert_eq!(node.key(Method::DELETE, &last, Value::Null).await.status, 204);
    assert_eq!(node.key(Method::DELETE, &last, Value::Null).await.status, 404);
    let wrong = node
        .key(Method::POST, &path(&made, "/secrets"), json!({"grace": -1}))
        .await;
    assert_eq!(wrong.pointers(), ["/grace"]);
}

#[tokio::test]
async fn a_test_is_delivered_logged_and_sent_again_under_the_same_id() {
    let (node, hooks) = node().await;
    let made = registered(&node, json!({"url": "https://a.example/", "events": ["*"]})).await;
    let sent = node.key(Method::POST, &path(&made, "/test"), Value::Null).await;
    assert_eq!(sent.status, 202, "{:?}", sent.body);
    let id = &sent.body["delivery_id"];
    eventually(async || delivery(&node, id).await["state"] == "delivered").await;
    let told = hooks.told();
    assert_eq!(told[0].address, "https://a.example/");
    assert_eq!(told[0].id, id.as_str().expect("an id"));
    assert_eq!(told[0].body["data"]["endpoint_id"], made["id"]);

    let again = format!("/v1/deliveries/{}/resend", id.as_str().expect("an id"));
    assert_eq!(node.key(Method::POST, &again, Value::Null).await.status, 202);
    eventually(async || {
        let shown = delivery(&node, id).await;
        shown["state"] == "delivered" && shown["attempt_count"] == 2
    })
    .await;
    assert_eq!(hooks.told()[1].id, told[0].id);
    let log = get(&node, &path(&made, "/attempts?limit=1")).await.body;
    assert_eq!(log["data"][0]["number"], 2);
    assert_eq!(log["data"][0]["event"], "webhook.test");
    assert_eq!(log["data"][0]["excerpt"], "thanks");
    let next = log["next"].as_str().expect("a next page");
    let rest = get(&node, &path(&made, &format!("/attempts?cursor={next}")))
        .await
        .body;
    assert_eq!(rest["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest["data"][0]["number"], 1);
}

#[tokio::test]
async fn the_tenant_s_own_key_is_made_once() {
    let (node, _) = node().await;
    let first = get(&node, "/v1/webhooks/key").await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    assert_eq!(first.body["public_key"], "whpk_1");
    assert_eq!(get(&node, "/v1/webhooks/key").await.body["public_key"], "whpk_1");
}

#[tokio::test]
async fn endpoints_are_told_what_they_asked_for() {
    let (node, hooks) = node().await;
    registered(&node, json!({"url": "https://all.example/", "events": ["*"]})).await;
    registered(
        &node,
        json!({"url": "https://acks.example/", "events": ["notification.acknowledged"]}),
    )
    .await;
    let request = json!({"targets": [{"user": "ada"}], "content": {"title": "hello"}});
    let id = node.send(request.clone()).await;
    let planned = hooks.of("notification.planned", 1).await;
    assert_eq!(planned[0].address, "https://all.example/");
    assert_eq!(planned[0].body["type"], "notification.planned");
    assert_eq!(planned[0].body["data"]["notification_id"], json!(id));
    let entry = node.inbox("ada").await["data"][0]["id"].clone();
    let read = format!("/v1/inbox/{}/read", entry.as_str().expect("an id"));
    node.user("ada", Method::POST, &read, None).await;
    let acknowledged = hooks.of("notification.acknowledged", 2).await;
    assert_eq!(acknowledged[0].body["data"]["acknowledgement"]["kind"], "read");
    assert_ne!(
        acknowledged[0].id, acknowledged[1].id,
        "each has a delivery of its own"
    );
    let second = node.send(request).await;
    node.key(
        Method::POST,
        &format!("/v1/notifications/{second}/cancel"),
        Value::Null,
    )
    .await;
    let cancelled = hooks.of("notification.cancelled", 1).await;
    assert_eq!(cancelled[0].body["data"]["notification_id"], json!(second));
    assert_eq!(hooks.of("notification.planned", 2).await.len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_and_the_others_are_told() {
    let (node, hooks) = node().await;
    let gone = registered(
        &node,
        json!({"url": "https://gone.example/", "events": ["delivery.*"]}),
    )
    .await;
    registered(
        &node,
        json!({"url": "https://a.example/", "events": ["endpoint.disabled"]}),
    )
    .await;
    node.key(Method::POST, &path(&gone, "/test"), Value::Null).await;
    let told = hooks.of("endpoint.disabled", 1).await;
    assert_eq!(told[0].address, "https://a.example/");
    assert_eq!(told[0].body["data"]["endpoint_id"], gone["id"]);
    let shown = get(&node, &path(&gone, "")).await.body;
    assert_eq!(shown["state"], "disabled");
    assert_eq!(shown["reason"], "the endpoint answered 410");
}

#[tokio::test]
async fn disabling_makes_dead_letters_of_what_waits() {
    let (node, hooks) = node().await;
    let ill = registered(&node, json!({"url": "https://ill.example/", "events": ["*"]})).await;
    let sent = node
        .key(Method::POST, &path(&ill, "/test"), Value::Null)
        .await
        .body;
    let id = &sent["delivery_id"];
    eventually(async || delivery(&node, id).await["outcome"] == "retry").await;
    assert_eq!(hooks.told().len(), 1);
    node.key(Method::PATCH, &path(&ill, ""), json!({"disabled": true}))
        .await;
    eventually(async || delivery(&node, id).await["state"] == "dead").await;
    assert_eq!(delivery(&node, id).await["reason"], "the endpoint is disabled");
}

#[tokio::test]
async fn a_user_s_endpoints_are_addresses_of_hers() {
    let (node, hooks) = node().await;
    let url = json!({"url": "https://ada.example/", "user": "ada", "fifo": true});
    let hers = registered(&node, url).await;
    let closed = registered(&node, json!({"url": "https://closed.example/", "user": "ada"})).await;
    node.key(Method::PATCH, &path(&closed, ""), json!({"disabled": true}))
        .await;
    let message = |title: &str| {
        json!({"targets": [{"user": "ada"}, {"user": "bob"}], "channels": ["webhook"],
            "content": {"title": title}})
    };
    let dry = node
        .key(Method::POST, "/v1/notifications?dry_run=true", message("dry"))
        .await
        .body;
    let expected = json!([{"channel": "webhook", "address": hers["id"], "state": "pending", "reason": null}]);
    assert_eq!(dry["recipients"][0]["deliveries"], expected);
    assert_eq!(dry["recipients"][1]["deliveries"][0]["reason"], "no address");
    let first = node.send(message("first")).await;
    node.send(message("second")).await;
    let told = hooks.of("notification.created", 2).await;
    assert_eq!(told.len(), 2, "neither to the closed one nor to anybody else");
    assert_eq!(told[0].address, "https://ada.example/");
    assert_eq!(told[0].body["title"], "first");
    assert_eq!(told[0].keys, ["whsec_1"]);
    let shown = node.show(&first).await;
    let ada = shown["recipients"]["data"].as_array().expect("recipients");
    let ada = ada.iter().find(|one| one["user"] == "ada").expect("ada");
    assert_eq!(ada["deliveries"][0]["address"], hers["id"]);
    assert_eq!(ada["deliveries"][0]["id"], told[0].id);
}
