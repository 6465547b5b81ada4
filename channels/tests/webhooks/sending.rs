//! What the channel sends, and what it makes of the answer.

use std::{sync::Arc, time::Duration};

use carillon_channels::webhook::{WebhookChannel, sign};
use carillon_domain::{
    Content, Fault, Outcome, Priority, Timestamp,
    ports::{Channel as _, Forms, Message, NotificationMessage, Operation, SigningKey, Work},
};
use carillon_testkit::FixedClock;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

use crate::receiver::{Receiver, SECRET, channel, config, request, work};

/// A receiver that hands on what it got.
async fn recording() -> (Receiver, mpsc::Receiver<String>) {
    let (sender, requests) = mpsc::channel(8);
    let receiver = Receiver::start(move |mut socket| {
        let sender = sender.clone();
        async move {
            while let Some(got) = request(&mut socket).await {
                sender.send(got).await.unwrap();
                socket
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    (receiver, requests)
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    request
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {request}"))
}

fn notification(url: &str) -> Work {
    let content = json!({"title": "Build failed", "body": "main is red", "url": "/builds/7"});
    Work {
        message: Message::Notification(Box::new(NotificationMessage {
            notification: "ntf_019e3f6a5c0070008000000000000001".parse().unwrap(),
            category: "ci".parse().unwrap(),
            priority: Priority::High,
            collapse_key: Some("main".parse().unwrap()),
            content: Arc::new(serde_json::from_value::<Content>(content).unwrap()),
            forms: Forms::default(),
            locale: None,
            user: Some("ada".parse().unwrap()),
            unsubscribe: None,
            preferences: None,
        })),
        ..work(url)
    }
}

#[tokio::test]
async fn an_event_goes_out_as_it_was_given_signed_by_every_key() {
    let (receiver, mut requests) = recording().await;
    let clock = FixedClock::default();
    let at = 1_767_323_045;
    let outbound = carillon_channels::outbound::Outbound::open(&config(), []).unwrap();
    let channel = WebhookChannel::new(outbound, Arc::new(clock));
    let mut work = work(&receiver.url());
    let ed25519 = carillon_channels::webhook::generate_ed25519().unwrap();
    work.keys = vec![SigningKey::new(SECRET), ed25519.secret];
    for _ in 0..2 {
        let report = channel.attempt(&work).await;
        assert_eq!(report.outcome, Outcome::Delivered { provider_id: None });
        assert_eq!((report.status, report.excerpt), (Some(204), None));
        let got = requests.recv().await.unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        let Message::Event { body: given, .. } = &work.message else {
            unreachable!()
        };
        assert_eq!(body, &**given);
        assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(head, "content-type"), "application/json");
        assert_eq!(
            header(head, "user-agent"),
            concat!("Carillon/", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(header(head, "host"), receiver.address.to_string());
        assert_eq!(header(head, "webhook-id"), work.delivery.to_string());
        assert_eq!(header(head, "webhook-timestamp"), at.to_string());
        let expected = sign(&work.keys, &work.delivery.to_string(), at, given.as_bytes()).unwrap();
        assert_eq!(header(head, "webhook-signature"), expected);
        assert!(expected.starts_with("v1,") && expected.contains(" v1a,"));
    }
    assert_eq!(receiver.connections(), 1, "connections serve again");
}

#[tokio::test]
async fn a_notification_is_written_the_same_in_every_attempt() {
    let (receiver, mut requests) = recording().await;
    let channel = channel(&config());
    let mut work = notification(&receiver.url());
    let mut bodies = Vec::new();
    for attempt in 1..=2 {
        work.attempt = attempt;
        channel.attempt(&work).await;
        let got = requests.recv().await.unwrap();
        bodies.push(got.split_once("\r\n\r\n").unwrap().1.to_owned());
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(
        serde_json::from_str::<Value>(&bodies[0]).unwrap(),
        json!({
            "type": "notification.created",
            "timestamp": "2026-11-21T08:00:00.000000Z",
            "data": {
                "notification_id": "ntf_019e3f6a5c0070008000000000000001",
                "delivery_id": work.delivery,
                "user": "ada",
                "category": "ci",
                "priority": "high",
                "collapse_key": "main",
                "content": {"title": "Build failed", "body": "main is red", "url": "/builds/7"},
                "created_at": "2026-11-21T08:00:00.000000Z",
                "expires_at": "2026-11-22T08:00:00.000000Z",
            }
        })
    );
}

#[tokio::test]
async fn answers_are_classified_with_what_they_asked_for() {
    for (answer, expected) in [
        ("202 Accepted", Outcome::Delivered { provider_id: None }),
        (
            "410 Gone",
            Outcome::Gone {
                reason: "answered 410".to_owned(),
            },
        ),
        ("404 Not Found", retry(404, None, Fault::Address)),
        (
            "429 Too Many Requests\r\nretry-after: 7",
            retry(429, Some(7), Fault::Provider),
        ),
        (
            "502 Bad Gateway\r\nretry-after: 9",
            retry(502, Some(9), Fault::Provider),
        ),
        ("503 Service Unavailable", retry(503, None, Fault::Provider)),
        (
            "504 Gateway Timeout\r\nRetry-After: Fri, 02 Jan 2026 03:05:05 GMT",
            retry(504, Some(60), Fault::Provider),
        ),
    ] {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 {answer}\r\ncontent-length: 5\r\n\r\nwhy\x07!")).await;
        let outbound = carillon_channels::outbound::Outbound::open(&config(), []).unwrap();
        let channel = WebhookChannel::new(outbound, Arc::new(FixedClock::default()));
        let report = channel.attempt(&work(&receiver.url())).await;
        assert_eq!(report.outcome, expected, "{answer}");
        assert_eq!(report.status, answer[..3].parse().ok());
        assert_eq!(report.excerpt.as_deref(), Some("why !"));
    }
}

fn retry(status: u16, after: Option<u64>, fault: Fault) -> Outcome {
    Outcome::Retry {
        after: after.map(Duration::from_secs),
        reason: format!("answered {status}"),
        fault,
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_rejected_before_anything_is() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let channel = channel(&config());
    let good = work(&receiver.url());
    for (bad, why) in [
        (
            Work {
                keys: Vec::new(),
                ..good.clone()
            },
            "no key signs for this address",
        ),
        (
            Work {
                keys: vec![SigningKey::new("whsec_short")],
                ..good.clone()
            },
            "a signing key of this address cannot be read",
        ),
        (
            Work {
                operation: Operation::Recall,
                ..good.clone()
            },
            "a webhook can be neither replaced nor recalled",
        ),
        (
            Work {
                address: "not a url".parse().unwrap(),
                ..good.clone()
            },
            "the address is no URL that can be called",
        ),
    ] {
        let report = channel.attempt(&bad).await;
        assert_eq!(
            report.outcome,
            Outcome::Rejected {
                reason: why.to_owned()
            }
        );
    }
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn addresses_get_their_canonical_spelling_and_lane() {
    let channel = channel(&config());
    let checked = channel.check("https://Example.COM:8443/a/../b?c").unwrap();
    assert_eq!(checked.address.as_str(), "https://example.com:8443/b?c");
    assert_eq!(&*checked.lane, "example.com:8443");
    assert!(channel.check("https://192.168.0.1/").is_err());
}

#[test]
fn neither_kind_of_key_is_ever_printed() {
    let work = Work {
        created_at: Timestamp::default(),
        ..work("https://example.com/")
    };
    assert!(!format!("{work:?}").contains("MfKQ9r8"), "{work:?}");
}
