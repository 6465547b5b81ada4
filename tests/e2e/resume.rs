//! Coming back: nothing is missed, and what cannot be given back is announced.

use serde_json::{Value, json};

use crate::harness::{Api, Start, shared, user_name};

/// Sends `count` notifications and waits until the last one is in the inbox.
async fn ring_many(api: &Api, ada: &Api, user: &str, count: usize) -> Vec<String> {
    let mut watcher = ada.stream("").await;
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(api.ring(user, &format!("number {number}")).await);
        watcher.next_named("added").await;
    }
    ids
}

fn notification(change: &Value) -> &str {
    change["entry"]["notification_id"].as_str().expect("an entry")
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_id_by_every_spelling() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut first = ada.stream("").await;
    api.ring(&user, "before").await;
    let position = first.next().await.id.expect("an id");
    drop(first);
    let ids = ring_many(&api, &ada, &user, 3).await;

    let mut streams = vec![ada.stream_from(&position, "").await];
    for spelling in ["last_event_id", "lastEventID", "lastEventId"] {
        streams.push(ada.stream(&format!("?{spelling}={position}")).await);
    }
    // The header beats the query.
    streams.push(ada.stream_from(&position, "?last_event_id=earliest").await);
    for mut stream in streams {
        assert_eq!(stream.position, position);
        for (number, id) in ids.iter().enumerate() {
            let event = stream.next().await;
            assert_eq!(event.event, "added");
            assert_eq!(event.seq(), 2 + number as u64);
            assert_eq!(notification(&event.data), id);
        }
        assert!(
            (2_000..=10_000).contains(&stream.retry.expect("retry")),
            "{:?}",
            stream.retry
        );
    }
}

#[tokio::test]
async fn earliest_replays_the_whole_log() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let ids = ring_many(&api, &ada, &user, 3).await;
    let mut stream = ada.stream("?last_event_id=earliest").await;
    for (number, id) in ids.iter().enumerate() {
        let event = stream.next().await;
        assert_eq!(event.seq(), 1 + number as u64);
        assert_eq!(notification(&event.data), id);
    }
}

#[tokio::test]
async fn a_stream_that_starts_at_the_inboxs_position_misses_nothing() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    ring_many(&api, &ada, &user, 2).await;
    let inbox = ada.inbox().await;
    assert_eq!(inbox["counts"]["total"], 2);
    let id = ring_many(&api, &ada, &user, 1).await.remove(0);
    let position = inbox["position"].as_str().expect("a position");
    let mut stream = ada.stream_from(position, "").await;
    let event = stream.next().await;
    assert_eq!(
        (event.event.as_str(), event.seq(), notification(&event.data)),
        ("added", 3, id.as_str())
    );
}

#[tokio::test]
async fn each_kind_of_gap_names_its_reason() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    ring_many(&api, &ada, &user, 1).await;
    let position = ada.inbox().await["position"]
        .as_str()
        .expect("a position")
        .to_owned();
    let epoch = position.rsplit_once('-').expect("epoch-seq").0.to_owned();
    for (presented, reason) in [
        ("otherepoch-1".to_owned(), "epoch"),
        (format!("{epoch}-999"), "future"),
        ("nonsense".to_owned(), "malformed"),
    ] {
        let gap = ada.stream_from(&presented, "").await.next().await;
        assert_eq!(
            (gap.event.as_str(), &gap.data["reason"]),
            ("gap", &json!(reason)),
            "{presented}"
        );
        assert_eq!(gap.data["position"], position, "{presented}");
    }
}

#[tokio::test]
async fn a_log_that_was_trimmed_says_so() {
    let server = Start::default()
        .env("CARILLON_DISPATCHER__RETENTION__LOG_COUNT", 5)
        .serve()
        .await;
    let api = server.api().await;
    let ada = api.user("ada").await;
    let early = ada.inbox().await["position"]
        .as_str()
        .expect("a position")
        .to_owned();
    let ids = ring_many(&api, &ada, "ada", 40).await;
    let mut stream = ada.stream_from(&early, "").await;
    let gap = stream.next().await;
    assert_eq!(
        (gap.event.as_str(), &gap.data["reason"]),
        ("gap", &json!("trimmed"))
    );
    // After the gap the client reloads, and the inbox has all of it.
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ada.get(&format!("/v1/inbox?limit=30{cursor}")).await.expect(200);
        found.extend(
            page["data"]
                .as_array()
                .expect("entries")
                .iter()
                .map(|entry| entry["notification_id"].clone()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    found.reverse();
    assert_eq!(found, ids);
}

#[tokio::test]
async fn what_a_device_has_not_confirmed_is_sent_again_when_it_resumes() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let mut phone = ada.stream("?device=phone").await;
    let mut positions = Vec::new();
    for number in 0..4 {
        api.ring(&user, &format!("number {number}")).await;
        positions.push(phone.next().await.id.expect("an id"));
    }
    ada.post(
        "/v1/acks",
        &json!({"device": "phone", "acks": [{"kind": "delivered", "position": positions[1]}]}),
    )
    .await
    .expect(200);
    drop(phone);

    // The client got all four and presents the fourth, but confirmed only two.
    let mut again = ada.stream_from(&positions[3], "?device=phone").await;
    assert_eq!(again.next().await.id.as_deref(), Some(positions[2].as_str()));
    assert_eq!(again.next().await.id.as_deref(), Some(positions[3].as_str()));

    // A device that never confirmed anything goes on from where it says.
    let mut other = ada.stream_from(&positions[3], "?device=tablet").await;
    api.ring(&user, "number 4").await;
    assert_eq!(other.next().await.seq(), 5);
}

#[tokio::test]
async fn a_websocket_recovers_its_mailbox_by_epoch_and_offset() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let app = ada.connect(json!({})).await;
    let start = app.connected["subs"]["carillon:inbox"].clone();
    app.cut();
    let ids = ring_many(&api, &ada, &user, 3).await;

    let mut back = ada.socket().await;
    let reply = back
        .command(
            "connect",
            json!({"token": ada.credential(), "subs": {"carillon:inbox": {
                "recover": true, "epoch": start["epoch"], "offset": start.get("offset").cloned().unwrap_or(json!(0))}}}),
        )
        .await;
    let inbox = &reply["connect"]["subs"]["carillon:inbox"];
    assert_eq!(inbox["recovered"], true, "{reply}");
    let publications = inbox["publications"].as_array().expect("publications");
    let recovered: Vec<_> = publications
        .iter()
        .map(|publication| notification(&publication["data"]))
        .collect();
    assert_eq!(recovered, ids);
    assert_eq!(publications[0]["offset"], 1);

    let mut lost = ada.socket().await;
    let reply = lost
        .command(
            "connect",
            json!({"token": ada.credential(), "subs": {"carillon:inbox": {"recover": true, "epoch": "other", "offset": 1}}}),
        )
        .await;
    let inbox = &reply["connect"]["subs"]["carillon:inbox"];
    assert_ne!(inbox["recovered"], true, "{reply}");
    assert_eq!(inbox["was_recovering"], true, "{reply}");
}
