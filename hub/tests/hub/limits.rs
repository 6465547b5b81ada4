//! What a connection may cost, and how it ends when it costs more.

use std::time::Duration;

use carillon_runtime::config::{ByteSize, Span};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::{
    client::{Got, Sse, Ws, bearer},
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
async fn a_burst_handed_over_at_once_cuts_off_who_does_not_read_and_is_complete_after_the_resume() {
    let server = Server::start();
    let token = server.world.token("ada");
    let mut stream = Sse::send(Box::new(narrow(&server).await), "/v1/stream", &bearer(&token)).await;
    let start = stream.position().await;
    let epoch = start.split_once('-').unwrap().0.to_owned();
    let mut ws = Ws::over(Box::new(narrow(&server).await)).await;
    ws.command("connect", json!({"token": token})).await;
    let mut healthy = Sse::open(server.address, &token, "").await;
    healthy.position().await;
    let body = "z".repeat(1_000);
    let burst = (0..400).map(|_| server.world.log("ada", &body)).collect();
    server.world.bus.send(burst);
    // Who reads all the time gets everything, if need be by coming back like its own client would.
    let mut seen = 0;
    while seen < 400 {
        match healthy.next_or_end().await {
            Some(event) if event.name == "added" => {
                seen += 1;
                assert_eq!(event.seq(), seen);
            }
            Some(event) => assert_eq!(event.data["reason"], "slow"),
            None => {
                healthy = Sse::resume(server.address, &token, "", &format!("{epoch}-{seen}")).await;
                healthy.position().await;
            }
        }
    }
    // The stalled ones were told so behind whole frames, and miss nothing once they are back.
    let mut seen = 0;
    loop {
        let event = stream.next().await;
        if event.name == "bye" {
            assert_eq!(event.data["reason"], "slow");
            break;
        }
        seen += 1;
        assert_eq!(event.seq(), seen);
    }
    assert!((1..400).contains(&seen), "{seen}");
    let mut back = Sse::resume(server.address, &token, "", &format!("{epoch}-{seen}")).await;
    back.position().await;
    for number in seen + 1..=400 {
        assert_eq!(back.next().await.seq(), number);
    }
    let mut seen = 0;
    let (code, _) = loop {
        match ws.got().await {
            Got::Line(line) => {
                seen += 1;
                assert_eq!(line["push"]["pub"]["offset"], seen);
            }
            Got::Closed(code, reason) => break (code, reason),
        }
    };
    assert_eq!(code, Some(3008));
    assert!((1..400).contains(&seen), "{seen}");
    let mut back = Sse::resume(server.address, &token, "", &format!("{epoch}-{seen}")).await;
    back.position().await;
    for number in seen + 1..=400 {
        assert_eq!(back.next().await.seq(), number);
    }
}

#[tokio::test]
async fn a_catch_up_waits_for_its_reader_however_far_behind_it_is() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = Sse::open(server.address, &token, "").await.position().await;
    let body = "z".repeat(3_000);
    for _ in 0..300 {
        server.world.ring("ada", &body);
    }
    let io = Box::new(narrow(&server).await);
    let headers = format!("{}Last-Event-ID: {start}\r\n", bearer(&token));
    let mut stream = Sse::send(io, "/v1/stream", &headers).await;
    assert_eq!(stream.position().await, start);
    // Live changes come meanwhile: first few enough to be held, at last too many.
    for number in 1..=500 {
        if number <= 200 {
            server.world.ring("ada", &body);
        }
        let event = stream.next().await;
        assert_eq!(event.name, "added", "{event:?} instead of {number}");
        assert_eq!(event.seq(), number);
    }
    server.world.ring("ada", "live again");
    assert_eq!(stream.next().await.seq(), 501);
}

#[tokio::test]
async fn what_came_during_a_catch_up_does_not_count_against_a_reader_that_is_still_busy_with_it() {
    let server = Server::start();
    let body = "z".repeat(3_000);
    // How much of it the kernel takes differs: at one of these the last page still waits when the live ones come.
    for behind in [30, 45, 60, 75, 90, 105, 120] {
        let name = format!("user{behind}");
        let token = server.world.token(&name);
        let start = Sse::open(server.address, &token, "").await.position().await;
        for _ in 0..behind {
            server.world.ring(&name, &body);
        }
        let io = Box::new(narrow(&server).await);
        let headers = format!("{}Last-Event-ID: {start}\r\n", bearer(&token));
        let mut stream = Sse::send(io, "/v1/stream", &headers).await;
        stream.position().await;
        for _ in 0..18 {
            server.world.ring(&name, &body);
            tokio::task::yield_now().await;
        }
        for number in 1..=behind + 18 {
            let event = stream.next().await;
            assert_eq!(event.name, "added", "{event:?} instead of {number} of {behind}");
            assert_eq!(event.seq(), number);
        }
    }
}

#[tokio::test]
async fn a_live_only_topic_goes_on_behind_a_long_catch_up_and_says_what_was_lost() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = Sse::open(server.address, &token, "").await.position().await;
    let body = "z".repeat(3_000);
    for _ in 0..200 {
        server.world.ring("ada", &body);
    }
    let io = Box::new(narrow(&server).await);
    let headers = format!("{}Last-Event-ID: {start}\r\n", bearer(&token));
    let mut stream = Sse::send(io, "/v1/stream?topic=live.1", &headers).await;
    stream.position().await;
    // More than is held while the inbox catches up.
    for _ in 0..100 {
        server.world.publish("live.1", &format!("{body:?}"));
    }
    let mut gaps = 0;
    for _ in 0..200 + 2 {
        let event = stream.next().await;
        gaps += usize::from(event.name == "gap" && event.data["topic"] == "live.1");
    }
    assert_eq!(gaps, 2, "one of the reconnect, one of what was too much");
    server.world.publish("live.1", "7");
    assert_eq!(stream.next().await.data["data"], 7);
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

/// As many as a node of a small installation holds: the closes do not come in one wave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_a_thousand_sockets_spreads_its_closes_over_most_of_its_time() {
    const SOCKETS: usize = 1_000;
    let deadline = Duration::from_secs(4);
    let server = Server::start();
    let token = server.world.token("ada");
    let mut ends = tokio::task::JoinSet::new();
    let (told, began) = tokio::sync::watch::channel(None::<tokio::time::Instant>);
    for _ in 0..SOCKETS {
        let mut ws = Ws::connect(server.address, &token).await.0;
        let began = began.clone();
        ends.spawn(async move {
            assert_eq!(ws.closed().await, (Some(3001), "shutdown".into()));
            let began = (*began.borrow()).expect("nobody is sent away before the drain");
            began.elapsed()
        });
    }
    assert_eq!(server.hub.connections(), SOCKETS);
    told.send(Some(tokio::time::Instant::now())).unwrap();
    server.hub.drain(deadline).await;
    assert_eq!(server.hub.connections(), 0, "all answered in time");
    let mut times = ends.join_all().await;
    times.sort();
    assert!(times[SOCKETS - 1] < deadline, "{:?}", times[SOCKETS - 1]);
    // Evenly over seven tenths of the time: in no quarter of it more than half of them.
    let spread = deadline.mul_f64(0.7);
    for quarter in 0..4 {
        let from = spread * quarter / 4;
        let to = if quarter == 3 {
            deadline
        } else {
            spread * (quarter + 1) / 4
        };
        let count = times.iter().filter(|time| (from..to).contains(*time)).count();
        assert!(
            (SOCKETS / 20..SOCKETS / 2).contains(&count),
            "{count} between {from:?} and {to:?}"
        );
    }
}

#[tokio::test]
async fn who_does_not_answer_its_close_holds_up_no_drain() {
    let server = Server::configured(|config| config.close_timeout = Span::from_millis(500));
    let token = server.world.token("ada");
    // Opened, and never read again.
    let (_deaf, _) = Ws::connect(server.address, &token).await;
    let began = tokio::time::Instant::now();
    server.hub.drain(Duration::from_secs(9)).await;
    // It is dropped after its half second, by the same wheel that keeps the heartbeats.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(server.hub.connections(), 0);
}
