use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use carillon_domain::{
    Capabilities, ChannelKind, DeviceId, Invalid, Outcome, PlainAddress, TenantId,
    ports::{Channel, CheckedAddress, Message, Report, Verification, Work},
};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::node::{Node, Setup};

/// A postman who keeps what he brought.
#[derive(Default)]
struct Postman {
    brought: Mutex<Vec<(String, String, Option<String>)>>,
    came: Notify,
}

impl Postman {
    /// Title and body of the next letter, and whether it can be unsubscribed from.
    async fn next(&self, number: usize) -> (String, String, Option<String>) {
        loop {
            let came = self.came.notified();
            if let Some(letter) = self.brought.lock().get(number) {
                return letter.clone();
            }
            tokio::time::timeout(Duration::from_secs(20), came)
                .await
                .expect("a letter comes");
        }
    }
}

#[async_trait]
impl Channel for Postman {
    fn kind(&self) -> ChannelKind {
        "post".parse().expect("a channel")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            verified: true,
            ..Capabilities::default()
        }
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        Ok(CheckedAddress {
            address: address.parse()?,
            lane: Arc::from("post"),
        })
    }

    async fn attempt(&self, work: &Work) -> Report {
        if let Message::Notification(message) = &work.message {
            self.brought.lock().push((
                message.content.title.clone(),
                message.content.body.clone().unwrap_or_default(),
                message.unsubscribe.clone(),
            ));
        }
        self.came.notify_one();
        Report::new(Outcome::Delivered { provider_id: None })
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

fn verification(node: &Node, code: &str) -> Verification {
    Verification {
        tenant: TenantId::default(),
        user: "ada".parse().expect("a user"),
        locale: Some(Arc::from("de-AT")),
        device: DeviceId::at(node.now()),
        to: PlainAddress {
            channel: "post".parse().expect("a channel"),
            to: "Green Lane 1".parse().expect("an address"),
        },
        code: code.to_owned(),
        expires_at: node.now().after(Duration::from_secs(600)),
    }
}

#[tokio::test]
async fn a_code_reaches_its_address_and_nobody_else_sees_it() {
    let postman = Arc::<Postman>::default();
    let node = Node::with(Setup {
        channels: vec![postman.clone()],
        ..Setup::default()
    })
    .await;
    let verifier = node.dispatcher.verifier();
    verifier
        .send(verification(&node, "314159"))
        .await
        .expect("accepted");
    let (title, body, unsubscribe) = postman.next(0).await;
    assert_eq!(title, "314159 is your code");
    assert!(body.contains("Enter 314159"), "{body}");
    assert_eq!(unsubscribe, None);
    let listed = node.key(Method::GET, "/v1/notifications", Value::Null).await;
    let id = listed.body["data"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(listed.body["data"][0]["category"], "carillon.verification");
    let shown = node
        .key(Method::GET, &format!("/v1/notifications/{id}"), Value::Null)
        .await;
    for answer in [&listed.bytes, &shown.bytes] {
        let text = String::from_utf8_lossy(answer);
        assert!(!text.contains("314159") && !text.contains("sealed"), "{text}");
    }
    assert_eq!(
        shown.body["template"],
        json!({"name": "carillon.verification", "version": 0})
    );

    // A tenant's own words, in the reader's language.
    let own = json!({"default_locale": "en", "locales": {
        "en": {"in_app": {"title": "Your code: {{ code }}"}},
        "de": {"in_app": {"title": "Dein Code: {{ code }}"}},
    }});
    let put = node
        .key(Method::PUT, "/v1/templates/carillon.verification", own)
        .await;
    assert!(put.status.is_success(), "{:?}", put.body);
    node.advance(Duration::from_secs(60));
    verifier
        .send(verification(&node, "271828"))
        .await
        .expect("accepted");
    assert_eq!(postman.next(1).await.0, "Dein Code: 271828");
    // One that came too late is not sent.
    let late = Verification {
        expires_at: node.now(),
        ..verification(&node, "161803")
    };
    verifier.send(late).await.expect("accepted");
    verifier
        .send(verification(&node, "141421"))
        .await
        .expect("accepted");
    assert!(!postman.next(2).await.0.contains("161803"));
}
