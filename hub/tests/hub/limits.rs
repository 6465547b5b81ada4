//! What a connection may cost, and how it ends when it costs more.

use std::time::Duration;

use carillon_runtime::config::{ByteSize, Span};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::{
    client::{Sse, Ws, bearer},
    world::{Server, eventually},
};

/// A socket whose kernel takes little in advance.
async fn narrow(server: &Server) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_the_others_are_not() {
    let server = Server::configured(|config| config.close_timeout = Span::from_millis(500));
    let token = server.world.token("ada");
    let mut slow_stream = Sse::send(Box::new(narrow(&server).await), "/v1/stream", &bearer(&token)).await;
    let start = slow_stream.position().await;
    let mut slow_ws = Ws::over(Box::new(narrow(&server).await)).await;
    slow_ws.command("connect", json!({"token": token})).await;
    let mut healthy = Sse::open(server.address, &token, "").await;
    healthy.position().await;
    let body = "z".repeat(3_000);
    for number in 1..=400 {
        server.world.ring("ada", &body);
        assert_eq!(healthy.next().await.seq(), number);
    }
    eventually("the slow ones are gone", || server.hub.connections() == 1).await;
    // What they got before is whole and without a hole.
    let mut seen = 0;
    while let Some(event) = slow_stream.next_or_end().await {
        match event.name.as_str() {
            "added" => {
                seen += 1;
                assert_eq!(event.seq(), seen);
            }
            "bye" => assert_eq!(event.data["reason"], "slow"),
            other => panic!("{other}"),
        }
    }
    assert!((1..400).contains(&seen), "{seen}");
    let (code, _) = slow_ws.closed().await;
    assert!(matches!(code, None | Some(3008)), "{code:?}");
    let position = format!("{}-{seen}", start.split_once('-').unwrap().0);
    let mut back = Sse::resume(server.address, &token, "", &position).await;
    back.position().await;
    for number in seen + 1..=400 {
        assert_eq!(back.next().await.seq(), number);
    }
}

#[tokio::test]
async fn a_websocket_that_reads_again_in_time_sees_why_it_was_cut_off() {
    let server = Server::configured(|config| config.max_queued = ByteSize::kib(4));
    let token = server.world.token("ada");
    let mut ws = Ws::over(Box::new(narrow(&server).await)).await;
    ws.command("connect", json!({"token": token})).await;
    let body = "z".repeat(3_000);
    for _ in 0..200 {
        server.world.ring("ada", &body);
    }
    assert_eq!(ws.closed().await, (Some(3008), "slow".into()));
}

#[tokio::test]
async fn a_peer_that_reads_nothing_at_all_is_dropped_in_time() {
    let server = Server::configured(|config| config.write_timeout = Span::from_millis(700));
    let token = server.world.token("ada");
    let mut stream = Sse::send(Box::new(narrow(&server).await), "/v1/stream", &bearer(&token)).await;
    stream.position().await;
    // More than the kernel takes, less than the queue's limit.
    let body = "z".repeat(3_000);
    while server.world.ring("ada", &body).seq < 60 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    eventually("the silent one is gone", || server.hub.connections() == 0).await;
    while stream.next_or_end().await.is_some() {}
}

#[tokio::test]
async fn channels_connections_and_commands_are_limited_when_configured() {
    let server = Server::configured(|config| {
        config.channel_limit = 3;
        config.connections_per_user = 2;
        config.messages_per_second = 5;
    });
    let token = server.world.token("ada");
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    for room in ["room.1", "room.2"] {
        assert!(ws.command("subscribe", json!({"channel": room})).await["subscribe"].is_object());
    }
    assert_eq!(
        ws.command("subscribe", json!({"channel": "room.3"})).await["error"]["code"],
        106
    );
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(ws.command("rpc", json!({"method": "echo"})).await["error"]["code"] == 111);
    }
    assert!(refused > 0);
    let mut second = Sse::open(server.address, &token, "").await;
    second.position().await;
    assert_eq!(
        Sse::get(server.address, "/v1/stream", &bearer(&token))
            .await
            .status,
        429
    );
    let mut third = Ws::open(server.address).await;
    third
        .text(json!({"id": 1, "connect": {"token": token}}).to_string())
        .await;
    assert_eq!(third.closed().await, (Some(3504), "connection limit".into()));
    drop(second);
    eventually("there is room again", || server.hub.connections() == 1).await;
    Ws::connect(server.address, &token).await;
    let many = server.world.token_with("bob", |caller| {
        caller.channels = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
    });
    let mut over = Ws::open(server.address).await;
    over.text(json!({"id": 1, "connect": {"token": many}}).to_string())
        .await;
    assert_eq!(over.closed().await.0, Some(3505));
}

#[tokio::test]
async fn a_drain_spreads_its_closes_and_says_when_to_come_back() {
    let server = Server::start();
    let token = server.world.token("ada");
    let mut sockets = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..20 {
        sockets.push(Ws::connect(server.address, &token).await.0);
        let mut stream = Sse::open(server.address, &token, "").await;
        stream.position().await;
        streams.push(stream);
    }
    assert_eq!(server.hub.connections(), 40);
    let began = tokio::time::Instant::now();
    let ends: Vec<_> = sockets
        .into_iter()
        .map(|mut ws| {
            tokio::spawn(async move {
                assert_eq!(ws.closed().await, (Some(3001), "shutdown".into()));
                began.elapsed()
            })
        })
        .chain(streams.into_iter().map(|mut stream| {
            tokio::spawn(async move {
                let bye = stream.next().await;
                assert_eq!(
                    (bye.name.as_str(), &bye.data["reason"]),
                    ("bye", &json!("shutdown"))
                );
                assert_eq!(stream.retries.len(), 2);
                assert_eq!(stream.next_or_end().await, None);
                began.elapsed()
            })
        }))
        .collect();
    let hub = std::sync::Arc::clone(&server.hub);
    let drain = tokio::spawn(async move { hub.drain(Duration::from_secs(2)).await });
    // New ones are sent away, natively for EventSource.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut late = Sse::open(server.address, &token, "").await;
    let bye = late.next().await;
    assert_eq!(
        (bye.name.as_str(), &bye.data["reason"]),
        ("bye", &json!("shutdown"))
    );
    assert!(late.retries[0] >= 5_000);
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.unwrap());
    }
    times.sort();
    assert!(
        times[10] < Duration::from_secs(1) && times[30] > Duration::from_millis(500),
        "spread: {times:?}"
    );
    drain.await.unwrap();
    assert!(
        began.elapsed() <= Duration::from_millis(2_500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.hub.connections(), 0);
}
