use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Capabilities, ChannelKind, DeviceId, DeviceKind, TenantId, Timestamp,
    ports::{Profile, ProfileDevice},
};
use carillon_testkit::RecordingChannel;
use http::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::node::{Node, Setup, eventually};
use crate::{
    remote::{Receipt, ReceiptKind},
    store::outside::About,
};

fn fcm() -> ChannelKind {
    "fcm".parse().expect("a channel")
}

fn phone(token: &str) -> ProfileDevice {
    ProfileDevice {
        id: DeviceId::at(Timestamp::from_seconds(1_767_323_045)),
        channel: fcm(),
        address: token.parse().expect("an address"),
        verified: true,
        kind: DeviceKind::Phone,
        platform: None,
        locale: None,
        active_until: None,
    }
}

/// What became of a notification's pushes: state and reason, by address; once each has ended.
async fn pushed(node: &Node, critical: bool) -> Vec<(String, Value)> {
    let body = json!({"targets": [{"user": "ada"}], "channels": ["fcm"], "critical": critical, "content": {"title": "hello"}});
    let id = node.send(body).await;
    let deliveries = async || node.show(&id).await["recipients"]["data"][0]["deliveries"].clone();
    eventually(async || {
        let all = deliveries().await;
        all.as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["state"] != "pending"))
    })
    .await;
    let all = deliveries().await;
    let all = all.as_array().expect("a list").iter();
    all.map(|one| {
        (
            one["address"].as_str().expect("an address").to_owned(),
            one.clone(),
        )
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_never_answers_is_skipped_until_its_silence_has_faded() {
    let channel = Arc::new(RecordingChannel::new("fcm", Capabilities::default()));
    let node = Node::with(Setup {
        channels: vec![channel],
        ..Setup::default()
    })
    .await;
    let profile = Profile {
        devices: vec![phone("good@phone"), phone("silent@phone")],
        ..Profile::default()
    };
    node.names.describe("ada", profile);
    for _ in 0..4 {
        for (address, delivery) in pushed(&node, false).await {
            assert_eq!(delivery["state"], "delivered", "{delivery}");
            if address == "good@phone" {
                let receipt = Receipt {
                    tenant: TenantId::default(),
                    about: About::Delivery(delivery["id"].as_str().expect("an id").parse().expect("an id")),
                    kind: ReceiptKind::Delivered,
                };
                let known = node
                    .dispatcher
                    .remote
                    .receive(&fcm(), vec![receipt])
                    .await
                    .expect("is taken");
                assert_eq!(known, [true]);
            }
        }
        node.advance(Duration::from_millis(5));
    }
    node.advance(Duration::from_secs(601));
    let stop = CancellationToken::new();
    node.dispatcher
        .new_reachability()
        .turn(&stop)
        .await
        .expect("counts");
    let shown = node
        .user("ada", Method::GET, "/v1/users/ada/reachability", None)
        .await
        .body;
    let scores: Vec<(&Value, &Value)> = shown["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (&one["address"], &one["score"]))
        .collect();
    assert_eq!(
        scores,
        [
            (&json!("good@phone"), &json!(100)),
            (&json!("silent@phone"), &json!(0))
        ],
        "{shown}"
    );
    assert_eq!(
        node.user("bob", Method::GET, "/v1/users/ada/reachability", None)
            .await
            .status,
        403
    );

    let states = |pushed: Vec<(String, Value)>| -> Vec<String> {
        pushed
            .iter()
            .map(|(address, one)| {
                format!(
                    "{address} {} {}",
                    one["state"].as_str().unwrap_or("-"),
                    one["reason"].as_str().unwrap_or("-")
                )
            })
            .collect()
    };
    assert_eq!(
        states(pushed(&node, false).await),
        ["good@phone delivered -", "silent@phone skipped unreachable"]
    );
    assert_eq!(
        states(pushed(&node, true).await),
        ["good@phone delivered -", "silent@phone delivered -"],
        "critical ones go to everybody"
    );
    node.advance(Duration::from_secs(7 * 86_400));
    assert_eq!(
        states(pushed(&node, false).await),
        ["good@phone delivered -", "silent@phone delivered -"],
        "its silence has faded"
    );
}
