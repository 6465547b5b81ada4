//! The corners of Centrifugo's client protocol that its SDKs rarely show.

use serde_json::{Value, json};

use crate::harness::{Received, Start, shared, user_name};

#[tokio::test]
async fn the_connect_reply_tells_what_an_sdk_needs() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let socket = ada.connect(json!({"device": "phone"})).await;
    let connected = &socket.connected;
    for name in ["client", "version", "session"] {
        assert!(connected[name].is_string(), "{name}: {connected}");
    }
    assert_eq!(
        (&connected["ping"], &connected["pong"]),
        (&json!(25), &json!(true))
    );
    let inbox = &connected["subs"]["carillon:inbox"];
    assert_eq!(
        (&inbox["recoverable"], &inbox["positioned"]),
        (&json!(true), &json!(true)),
        "{connected}"
    );
    assert!(inbox["epoch"].is_string(), "{connected}");
}

#[tokio::test]
async fn a_bad_token_closes_for_good() {
    let api = shared().await.api().await;
    let mut socket = api.socket().await;
    socket
        .text(json!({"id": 1, "connect": {"token": "nonsense"}}).to_string())
        .await;
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (3500, "invalid token"));
}

#[tokio::test]
async fn what_is_not_the_protocol_closes_with_bad_request() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    for first in [
        "nonsense",
        "[]",
        "{\"id\":1,\"subscribe\":{\"channel\":\"x\"}}",
        "{\"id\":1}",
    ] {
        let mut socket = ada.socket().await;
        socket.text(first).await;
        let (code, _) = socket.closed().await;
        assert_eq!(code, 3501, "{first}");
    }
    let mut socket = ada.connect(json!({})).await;
    socket.text("nonsense").await;
    assert_eq!(socket.closed().await.0, 3501);
    let mut twice = ada.connect(json!({})).await;
    twice
        .text(json!({"id": 9, "connect": {"token": ada.credential()}}).to_string())
        .await;
    assert_eq!(twice.closed().await.0, 3501);
}

#[tokio::test]
async fn commands_in_one_frame_are_answered_in_order() {
    let api = shared().await.api().await;
    let ada = api
        .user_with(json!({"user": user_name("ada"), "topics": {"subscribe": ["room.*"], "publish": []}}))
        .await;
    let mut socket = ada.socket().await;
    let frame = [
        json!({"id": 1, "connect": {"token": ada.credential()}}),
        json!({"id": 2, "subscribe": {"channel": "room.1"}}),
        json!({"id": 3, "presence": {"channel": "room.1"}}),
        json!({"id": 4, "presence_stats": {"channel": "room.1"}}),
        json!({"id": 5, "history": {"channel": "room.1"}}),
        json!({"id": 6, "ping": {}}),
        json!({"id": 7, "rpc": {"method": "nothing", "data": {}}}),
        json!({"id": 8, "unsubscribe": {"channel": "room.1"}}),
    ];
    let frame: Vec<_> = frame.iter().map(Value::to_string).collect();
    socket.text(frame.join("\n")).await;
    let mut replies = Vec::new();
    while replies.len() < 8 {
        match socket.receive().await {
            Received::Json(reply) if reply.get("id").is_some() => replies.push(reply),
            Received::Json(_) => {}
            Received::Closed(code, reason) => panic!("closed: {code} {reason}, after {replies:?}"),
        }
    }
    replies.sort_by_key(|reply| reply["id"].as_u64());
    assert!(replies[0].get("connect").is_some(), "{replies:?}");
    assert!(replies[1].get("subscribe").is_some(), "{replies:?}");
    for reply in &replies[2..5] {
        assert_eq!(reply["error"]["code"], 108, "{reply}");
    }
    assert_eq!(replies[6]["error"]["code"], 104, "{:?}", replies[6]);
    assert!(replies[7].get("unsubscribe").is_some(), "{replies:?}");
}

#[tokio::test]
async fn subscribing_twice_is_an_error_and_keeps_the_subscription() {
    let api = shared().await.api().await;
    let ada = api
        .user_with(json!({"user": user_name("ada"), "topics": {"subscribe": ["*"], "publish": []}}))
        .await;
    let mut socket = ada.connect(json!({})).await;
    let topic = user_name("room.");
    socket.command("subscribe", json!({"channel": topic})).await;
    assert_eq!(
        socket.command("subscribe", json!({"channel": topic})).await["error"]["code"],
        105
    );
    api.post(
        &format!("/v1/topics/{topic}/publish"),
        &json!({"publications": [{"data": 1}]}),
    )
    .await
    .expect(200);
    assert_eq!(socket.publication(&topic).await["data"], 1);
}

#[tokio::test]
async fn a_frame_over_its_limit_closes_with_1009() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let mut socket = ada.connect(json!({})).await;
    socket
        .text(json!({"id": 2, "rpc": {"method": "x", "data": "y".repeat(70_000)}}).to_string())
        .await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test]
async fn pings_come_and_a_silent_client_is_let_go_to_come_back() {
    let server = Start::default()
        .env("CARILLON_HUB__PING_INTERVAL", "1s")
        .env("CARILLON_HUB__PONG_TIMEOUT", "500ms")
        .env("CARILLON_HUB__STALE_CLOSE_DELAY", "700ms")
        .serve()
        .await;
    let api = server.api().await;
    let ada = api.user("ada").await;
    let mut answering = ada.connect(json!({})).await;
    // The answering client's pongs are sent while it waits for something that comes late.
    let later = super::schedule::in_millis(3_500);
    api.notify(json!({"targets": [{"user": "ada"}], "content": {"title": "late"}, "send_at": later}))
        .await;
    answering.change().await;
    assert!(answering.pings >= 2, "{}", answering.pings);

    let mut silent = ada.connect(json!({})).await;
    silent.answers_pings = false;
    assert_eq!(silent.closed().await.0, 3012);
    let mut stale = ada.socket().await;
    assert_eq!(stale.closed().await.0, 3502);

    // The same heartbeat on a silent stream is a comment.
    let mut stream = ada.stream("").await;
    let before = stream.comments;
    let later = super::schedule::in_millis(2_500);
    api.notify(json!({"targets": [{"user": "ada"}], "content": {"title": "late"}, "send_at": later}))
        .await;
    stream.next().await;
    assert!(stream.comments > before);
}

#[tokio::test]
async fn an_acknowledgement_with_a_fault_is_an_rpc_error_and_not_the_end() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let mut socket = ada.connect(json!({})).await;
    for data in [
        json!({}),
        json!({"acks": [{"kind": "eaten"}]}),
        json!(null),
        json!("x"),
    ] {
        let error = socket
            .rpc("carillon.ack", data.clone())
            .await
            .expect_err("a fault");
        assert!(
            error["code"].as_u64().is_some_and(|code| code >= 100),
            "{data}: {error}"
        );
    }
    assert!(
        socket
            .rpc(
                "carillon.ack",
                json!({"acks": [{"kind": "read", "entry": "ent_0190d6a5c0de70008000000000000000"}]})
            )
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_token_is_refreshed_on_a_live_connection() {
    let server = Start::default()
        .env("CARILLON_AUTH__LEEWAY", "0s")
        .env("CARILLON_HUB__EXPIRED_CLOSE_DELAY", "300ms")
        .serve()
        .await;
    let api = server.api().await;
    let short = api.user_with(json!({"user": "ada", "ttl": 2})).await;
    let mut refreshed = short.connect(json!({})).await;
    assert_eq!(refreshed.connected["expires"], true, "{}", refreshed.connected);
    let mut left = short.connect(json!({})).await;
    let long = api.user("ada").await;
    let reply = refreshed
        .command("refresh", json!({"token": long.credential()}))
        .await;
    assert!(reply.get("error").is_none(), "{reply}");
    assert_eq!(left.closed().await.0, 3005);
    api.ring("ada", "still here").await;
    refreshed.change().await;
}
