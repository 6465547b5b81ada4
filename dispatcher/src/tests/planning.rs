use std::sync::Arc;

use carillon_domain::{
    Capabilities, DeviceId, DeviceKind, Outcome, Timestamp,
    ports::{Message, Profile, ProfileDevice},
};
use carillon_testkit::RecordingChannel;
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually};

async fn node(capabilities: Capabilities) -> (Node, Arc<RecordingChannel>) {
    let email = Arc::new(RecordingChannel::new("email", capabilities));
    let node = Node::with(Setup {
        channels: vec![email.clone()],
        ..Setup::default()
    })
    .await;
    (node, email)
}

fn reached(locale: Option<&str>, addresses: &[(&str, bool)]) -> Profile {
    let device = |(address, verified): &(&str, bool)| ProfileDevice {
        id: DeviceId::at(Timestamp::from_seconds(1_767_323_045)),
        channel: "email".parse().expect("a channel"),
        address: address.parse().expect("an address"),
        verified: *verified,
        kind: DeviceKind::Email,
        platform: None,
        locale: None,
        active_until: None,
    };
    Profile {
        locale: locale.map(Arc::from),
        devices: addresses.iter().map(device).collect(),
        ..Profile::default()
    }
}

fn deliveries(shown: &Value, recipient: usize) -> Vec<String> {
    shown["recipients"]["data"][recipient]["deliveries"]
        .as_array()
        .expect("deliveries")
        .iter()
        .map(|delivery| {
            let text = |name: &str| delivery[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}",
                text("channel"),
                text("address"),
                text("state"),
                text("reason")
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_goes_over_its_channels_to_every_address() {
    let (node, email) = node(Capabilities::default()).await;
    node.names.describe(
        "ada",
        reached(None, &[("ada@example.org", true), ("a@example.net", false)]),
    );
    let id = node
        .send(json!({
            "targets": [{"user": "ada"}], "channels": ["in_app", "email"], "content": {"title": "hello"},
        }))
        .await;
    let works = email.until(2).await;
    let mut addresses: Vec<_> = works.iter().map(|work| work.address.to_string()).collect();
    addresses.sort();
    assert_eq!(addresses, ["a@example.net", "ada@example.org"]);
    let Message::Notification(message) = &works[0].message else {
        panic!("a notification");
    };
    assert_eq!(message.content.title, "hello");
    assert_eq!(message.user.as_ref().map(|user| user.as_str()), Some("ada"));
    eventually(async || {
        deliveries(&node.show(&id).await, 0)
            == [
                "in_app inbox accepted -",
                "email a@example.net delivered -",
                "email ada@example.org delivered -",
            ]
    })
    .await;
    let shown = node.show(&id).await;
    let delivery = &shown["recipients"]["data"][0]["deliveries"][1];
    assert_eq!(delivery["attempts"][0]["outcome"], "delivered");
    assert_eq!(delivery["next_at"], Value::Null);
    assert_eq!(node.inbox("ada").await["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_category_decides_where_the_request_does_not() {
    let (node, email) = node(Capabilities::default()).await;
    node.names
        .describe("ada", reached(None, &[("ada@example.org", true)]));
    node.key(
        Method::PUT,
        "/v1/categories/billing",
        json!({"channels": ["email"]}),
    )
    .await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "category": "billing", "content": {"title": "t"}}))
        .await;
    email.until(1).await;
    assert_eq!(deliveries(&node.show(&id).await, 0).len(), 1);
    assert_eq!(node.inbox("ada").await["data"], json!([]));
    node.key(Method::DELETE, "/v1/categories/billing", Value::Null)
        .await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "category": "billing", "content": {"title": "t"}}))
        .await;
    assert_eq!(deliveries(&node.show(&id).await, 0), ["in_app inbox accepted -"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_told_why() {
    let (node, _) = node(Capabilities {
        verified: true,
        ..Capabilities::default()
    })
    .await;
    node.names
        .describe("ada", reached(None, &[("ada@example.org", false)]));
    let id = node
        .send(json!({
            "targets": [{"user": "ada"}, {"user": "bob"}], "channels": ["email"], "content": {"title": "t"},
        }))
        .await;
    let shown = node.show(&id).await;
    let mut told: Vec<_> = (0..2).flat_map(|index| deliveries(&shown, index)).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "email - skipped no address",
            "email ada@example.org skipped unverified"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_the_template_in_his_language() {
    let (node, email) = node(Capabilities::default()).await;
    node.names
        .describe("ada", reached(Some("de-AT"), &[("ada@example.org", true)]));
    node.names
        .describe("bob", reached(Some("fr"), &[("bob@example.org", true)]));
    let template = json!({"default_locale": "en", "locales": {
        "en": {"subject": "Subject {{ name }}", "in_app": {"title": "Hello {{ name }}"}},
        "de": {"subject": "Betreff {{ name }}", "in_app": {"title": "Hallo {{ name }}"}},
    }});
    node.key(Method::PUT, "/v1/templates/welcome", template).await;
    let request = json!({
        "targets": [{"user": "ada"}, {"user": "bob"}, {"address": {"channel": "email", "to": "c@example.org"}}],
        "channels": ["in_app", "email"], "template": {"name": "welcome"}, "data": {"name": "you"},
    });
    let dry = node
        .key(Method::POST, "/v1/notifications?dry_run=true", request.clone())
        .await;
    assert_eq!(dry.status, 200, "{:?}", dry.body);
    let texts: Vec<_> = dry.body["texts"]
        .as_array()
        .expect("texts")
        .iter()
        .map(|text| (text["locale"].as_str(), text["forms"]["subject"].as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (Some("de"), Some("Betreff you")),
            (Some("en"), Some("Subject you"))
        ]
    );
    assert_eq!(dry.body["recipients"][0]["user"], "ada");
    assert_eq!(
        dry.body["recipients"][0]["deliveries"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(dry.body["recipients"][2]["address"]["to"], "c@example.org");
    let listed = node.key(Method::GET, "/v1/notifications", Value::Null).await;
    assert_eq!(listed.body["data"], json!([]), "nothing was written");
    let id = node.send(request).await;
    let mut said: Vec<_> = email
        .until(3)
        .await
        .into_iter()
        .map(|work| match work.message {
            Message::Notification(message) => (work.address.to_string(), message.forms.subject.clone()),
            Message::Event { .. } => panic!("no event"),
        })
        .collect();
    said.sort();
    let subject = |text: &str| Some(text.to_owned());
    assert_eq!(
        said,
        [
            ("ada@example.org".to_owned(), subject("Betreff you")),
            ("bob@example.org".to_owned(), subject("Subject you")),
            ("c@example.org".to_owned(), subject("Subject you")),
        ]
    );
    for (user, title) in [("ada", "Hallo you"), ("bob", "Hello you")] {
        let inbox = node.inbox(user).await;
        assert_eq!(inbox["data"][0]["content"]["title"], title);
    }
    let shown = node.show(&id).await;
    let plain: Vec<_> = shown["recipients"]["data"]
        .as_array()
        .expect("recipients")
        .iter()
        .filter(|recipient| recipient["user"].is_null())
        .collect();
    assert_eq!(plain.len(), 1);
    assert_eq!(
        plain[0]["address"],
        json!({"channel": "email", "to": "c@example.org"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_click_turns_a_category_off_on_one_channel() {
    let (node, email) = node(Capabilities::default()).await;
    node.names
        .describe("ada", reached(None, &[("ada@example.org", true)]));
    let category = json!({"title": "Bills & <more>", "channels": ["in_app", "email"]});
    node.key(Method::PUT, "/v1/categories/billing", category).await;
    let request = json!({"targets": [{"user": "ada"}], "category": "billing", "content": {"title": "t"}});
    node.send(request.clone()).await;
    let works = email.until(1).await;
    let Message::Notification(message) = &works[0].message else {
        panic!("a notification");
    };
    let link = message.unsubscribe.as_deref().expect("a link");
    let path = link
        .strip_prefix("https://bell.example.org")
        .expect("below the public URL");
    let page = async |method: Method, path: &str| {
        let answer = node.click(method, path, "List-Unsubscribe=One-Click").await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        String::from_utf8(answer.bytes.to_vec()).expect("text")
    };
    let choose = message.preferences.as_deref().expect("a link");
    let (_, token) = choose.rsplit_once('/').expect("a path");
    let before = page(Method::GET, path).await;
    assert!(
        before.contains(&format!("href=\"../preferences/{token}\"")),
        "{before}"
    );
    assert!(before.contains("Bills &amp; &lt;more&gt; by email"), "{before}");
    assert!(before.contains("You get these messages here."), "{before}");
    assert!(
        page(Method::GET, path).await.contains("You get these"),
        "looking changes nothing"
    );
    assert!(page(Method::POST, path).await.contains("You no longer get"));
    assert!(
        page(Method::POST, path).await.contains("You no longer get"),
        "twice is once"
    );
    let off = node.send(request.clone()).await;
    assert_eq!(
        deliveries(&node.show(&off).await, 0),
        [
            "in_app inbox accepted -",
            "email ada@example.org skipped unsubscribed"
        ]
    );
    assert!(
        page(Method::POST, &format!("{path}?on=true"))
            .await
            .contains("You get these")
    );
    node.send(request.clone()).await;
    email.until(2).await;
    let mandatory = json!({"channels": ["email"], "policy": {"may_turn_off": false}});
    node.key(Method::PUT, "/v1/categories/billing", mandatory).await;
    assert!(
        page(Method::POST, path)
            .await
            .contains("too important to be turned off")
    );
    node.send(request).await;
    email.until(3).await;
    let forged = path.replace("~email~", "~webhook~");
    for method in [Method::GET, Method::POST] {
        assert_eq!(node.click(method, &forged, "").await.status, 404);
    }
    let stranger = node.click(Method::POST, &format!("{path}?on=maybe"), "").await;
    assert_eq!(stranger.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_takes_back_what_a_channel_can() {
    let (node, email) = node(Capabilities {
        recall: true,
        ..Capabilities::default()
    })
    .await;
    node.names
        .describe("ada", reached(None, &[("ada@example.org", true)]));
    email.answer([Outcome::Delivered {
        provider_id: Some("far".to_owned()),
    }]);
    let id = node
        .send(json!({"targets": [{"user": "ada"}], "channels": ["email"], "content": {"title": "t"}}))
        .await;
    eventually(async || deliveries(&node.show(&id).await, 0) == ["email ada@example.org delivered -"]).await;
    let path = format!("/v1/notifications/{id}/cancel");
    let cancelled = node.key(Method::POST, &path, json!({})).await;
    assert_eq!(cancelled.status, 200, "{:?}", cancelled.body);
    let works = email.until(2).await;
    assert_eq!(works[1].operation.as_str(), "recall");
    assert_eq!(works[1].provider_id.as_deref(), Some("far"));
    assert_eq!(works[1].delivery, works[0].delivery);
    eventually(async || deliveries(&node.show(&id).await, 0) == ["email ada@example.org recalled -"]).await;
}
