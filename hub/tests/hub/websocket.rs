//! Centrifugo's client protocol, as docs/protocol.md section 6 says it.

use std::time::Duration;

use carillon_domain::{Clock as _, Revocation, SystemClock};
use carillon_runtime::config::Span;
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::{
    client::{Got, Ws, within},
    world::{Server, eventually},
};

#[tokio::test]
async fn a_session_connects_receives_its_mailbox_and_calls() {
    let server = Server::start();
    let (mut ws, connected) = Ws::connect(server.address, &server.world.token("ada")).await;
    assert_eq!(
        (&connected["ping"], &connected["pong"]),
        (&json!(25), &json!(true))
    );
    let inbox = &connected["subs"]["carillon:inbox"];
    assert_eq!(
        (&inbox["recoverable"], &inbox["offset"]),
        (&json!(true), &json!(0))
    );
    server.world.ring("ada", "one");
    let push = ws.push().await;
    assert_eq!(push["channel"], "carillon:inbox");
    assert_eq!(
        push["pub"],
        json!({"data": {"type": "added", "text": "one"}, "offset": 1})
    );
    let echo = ws
        .command("rpc", json!({"method": "echo", "data": {"a": [1, "x"]}}))
        .await;
    assert_eq!(echo["rpc"]["data"], json!({"a": [1, "x"]}));
    assert_eq!(
        ws.command("rpc", json!({"method": "fail"})).await["error"],
        json!({"code": 107, "message": "bad"})
    );
    assert_eq!(
        ws.command("rpc", json!({"method": "none"})).await["error"]["code"],
        104
    );
}

#[tokio::test]
async fn the_mailbox_comes_when_asked_for_and_stays_away_when_not() {
    let server = Server::start();
    let foreign = server.world.token_with("ada", |caller| caller.own_token = false);
    let (mut ws, connected) = Ws::connect(server.address, &foreign).await;
    assert!(connected.get("subs").is_none(), "{connected}");
    let subscribed = ws
        .command("subscribe", json!({"channel": "carillon:inbox"}))
        .await;
    assert_eq!(subscribed["subscribe"]["recoverable"], true);
    server.world.ring("ada", "one");
    assert_eq!(ws.push().await["pub"]["offset"], 1);
    let asked = json!({"token": foreign, "data": {"inbox": true, "device": "phone", "mine": 1}});
    let (_, connected) = Ws::connect_with(server.address, asked).await;
    assert!(connected["subs"]["carillon:inbox"].is_object());
    let unasked = json!({"token": server.world.token("ada"), "data": {"inbox": false}});
    let (_, connected) = Ws::connect_with(server.address, unasked).await;
    assert!(connected.get("subs").is_none());
}

#[tokio::test]
async fn topics_are_subscribed_published_and_left_as_granted() {
    let server = Server::start();
    let token = server
        .world
        .token_with("ada", |caller| caller.channels = vec!["team.1".parse().unwrap()]);
    let (mut ada, connected) = Ws::connect(server.address, &token).await;
    assert!(
        connected["subs"]["team.1"].is_object(),
        "the token's own channels"
    );
    let (mut bob, _) = Ws::connect(server.address, &server.world.token("bob")).await;
    let code = |reply: Value| reply["error"]["code"].clone();
    assert_eq!(
        code(ada.command("subscribe", json!({"channel": "secret.1"})).await),
        103
    );
    assert_eq!(
        code(ada.command("subscribe", json!({"channel": "a b"})).await),
        107
    );
    assert_eq!(
        code(
            ada.command("subscribe", json!({"channel": "carillon:other"}))
                .await
        ),
        107
    );
    assert_eq!(
        code(
            ada.command("subscribe", json!({"channel": "room.1", "type": 1}))
                .await
        ),
        108
    );
    ada.command("subscribe", json!({"channel": "room.1"})).await;
    assert_eq!(
        code(ada.command("subscribe", json!({"channel": "room.1"})).await),
        105
    );
    assert_eq!(
        code(
            ada.command("publish", json!({"channel": "secret.1", "data": 1}))
                .await
        ),
        103
    );
    assert_eq!(
        code(
            ada.command("publish", json!({"channel": "carillon:inbox", "data": 1}))
                .await
        ),
        103
    );
    assert_eq!(
        code(ada.command("publish", json!({"channel": "room.1"})).await),
        107
    );
    assert_eq!(
        bob.command("publish", json!({"channel": "room.1", "data": {"hi": 1}}))
            .await["publish"],
        json!({})
    );
    let push = ada.push().await;
    assert_eq!(
        (&push["channel"], &push["pub"]["data"]),
        (&json!("room.1"), &json!({"hi": 1}))
    );
    assert_eq!(push["pub"]["info"]["user"], "bob");
    assert!(push["pub"]["info"]["client"].is_string());
    assert_eq!(
        ada.command("unsubscribe", json!({"channel": "room.1"})).await["unsubscribe"],
        json!({})
    );
    server.world.publish("room.1", "2");
    server.world.publish("team.1", "3");
    assert_eq!(ada.push().await["pub"]["data"], 3, "room.1 was left");
    for method in ["presence", "presence_stats", "history"] {
        assert_eq!(code(ada.command(method, json!({"channel": "room.1"})).await), 108);
    }
}

#[tokio::test]
async fn a_subscription_token_grants_its_user_its_topic_until_it_expires() {
    let server = Server::configured(|config| config.expired_close_delay = Span::from_millis(250));
    let (mut ws, _) = Ws::connect(server.address, &server.world.token("ada")).await;
    let subscribe = |token: &str| json!({"channel": "secret.1", "token": token});
    assert_eq!(
        ws.command("subscribe", subscribe("sub/bob/secret.1")).await["error"]["code"],
        103
    );
    assert_eq!(
        ws.command("subscribe", subscribe("sub/ada/secret.2")).await["error"]["code"],
        103
    );
    assert_eq!(
        ws.command("subscribe", subscribe("nonsense")).await["error"]["code"],
        103
    );
    let reply = ws.command("subscribe", subscribe("sub/ada/secret.1/300")).await;
    assert_eq!(
        (&reply["subscribe"]["expires"], &reply["subscribe"]["ttl"]),
        (&json!(true), &json!(1))
    );
    let refresh = json!({"channel": "secret.1", "token": "sub/ada/secret.1/1000"});
    assert_eq!(
        ws.command("sub_refresh", refresh).await["sub_refresh"]["expires"],
        true
    );
    server.world.publish("secret.1", "1");
    assert_eq!(ws.push().await["pub"]["data"], 1);
    // The session is looked at with its first ping at the latest.
    let _ = server;
}

#[tokio::test]
async fn what_is_wrong_closes_with_centrifugos_codes() {
    let server = Server::configured(|config| config.stale_close_delay = Span::from_millis(300));
    let token = server.world.token("ada");
    for first in [
        "nonsense",
        "[]",
        "{\"id\":1}",
        "{}",
        "{\"id\":1,\"subscribe\":{\"channel\":\"x\"}}",
    ] {
        let mut ws = Ws::open(server.address).await;
        ws.text(first).await;
        assert_eq!(ws.closed().await, (Some(3501), "bad request".into()), "{first}");
    }
    for bad in ["", "nonsense"] {
        let mut ws = Ws::open(server.address).await;
        ws.text(json!({"id": 1, "connect": {"token": bad}}).to_string())
            .await;
        assert_eq!(ws.closed().await, (Some(3500), "invalid token".into()), "{bad}");
    }
    let expired = server.world.token("ada");
    server.world.spoil(&expired, "expired");
    let mut ws = Ws::open(server.address).await;
    assert_eq!(
        ws.command("connect", json!({"token": expired})).await["error"]["code"],
        109
    );
    let away = server.world.token("ada");
    server.world.spoil(&away, "away");
    let reply = ws.command("connect", json!({"token": away})).await;
    assert_eq!(
        (&reply["error"]["code"], &reply["error"]["temporary"]),
        (&json!(100), &json!(true))
    );
    assert!(
        ws.command("connect", json!({"token": token})).await["connect"].is_object(),
        "the third try"
    );
    ws.text(json!({"id": 9, "connect": {"token": token}}).to_string())
        .await;
    assert_eq!(ws.closed().await.0, Some(3501), "connected twice");
    let mut silent = Ws::open(server.address).await;
    assert_eq!(silent.closed().await, (Some(3502), "stale".into()));
}

#[tokio::test]
async fn what_breaks_the_framing_closes_with_the_rfcs_codes() {
    let server = Server::start();
    let token = server.world.token("ada");
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    ws.socket.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(ws.closed().await.0, Some(1003));
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    ws.text("x".repeat(65 * 1024)).await;
    assert_eq!(ws.closed().await.0, Some(1009));
    for (bytes, code) in [
        (&[0x81, 0x02, b'{', b'}'][..], 1002_u16),
        (&[0x91, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], 1007),
    ] {
        let mut ws = Ws::open(server.address).await;
        ws.socket.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(ws.closed().await.0, Some(code), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_close_is_answered_and_who_does_not_answer_ours_is_dropped() {
    let server = Server::configured(|config| config.close_timeout = Span::from_millis(500));
    let (mut ws, _) = Ws::connect(server.address, &server.world.token("ada")).await;
    ws.socket
        .close(Some(CloseFrame {
            code: 4001.into(),
            reason: "bye".into(),
        }))
        .await
        .unwrap();
    assert_eq!(ws.closed().await.0, Some(4001), "echoed");
    eventually("the closed one is gone", || server.hub.connections() == 0).await;

    // A bare socket that never answers the close.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.write_all(&[0x82, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut text = Vec::new();
    within("the end of the connection", socket.read_to_end(&mut text))
        .await
        .unwrap();
    assert!(
        text.windows(4)
            .any(|bytes| matches!(bytes, [0x88, _, 0x03, 0xEB])),
        "1003"
    );
    eventually("the silent one is gone", || server.hub.connections() == 0).await;
}

#[tokio::test]
async fn handshakes_are_checked() {
    let server = Server::configured(|config| config.allowed_origins = vec!["https://app.example".into()]);
    let answer = |headers: &'static str| async move {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET /connection/websocket HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        within("a head", async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
        })
        .await;
        String::from_utf8(head).unwrap()
    };
    const GOOD: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let good = answer(GOOD).await;
    assert!(
        good.starts_with("HTTP/1.1 101 ") && good.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{good}"
    );
    assert!(!good.to_lowercase().contains("sec-websocket-protocol"));
    let with = |more: &str| -> &'static str { Box::leak(format!("{GOOD}{more}\r\n").into_boxed_str()) };
    let json = answer(with(
        "Sec-WebSocket-Protocol: centrifuge-protobuf, centrifuge-json",
    ))
    .await;
    assert!(json.contains("Sec-WebSocket-Protocol: centrifuge-json"), "{json}");
    assert!(
        answer(with("Sec-WebSocket-Protocol: centrifuge-protobuf"))
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(
        answer(with("Origin: https://app.example"))
            .await
            .starts_with("HTTP/1.1 101 ")
    );
    for evil in [
        "https://evil.example",
        "null",
        "https://app.example.evil",
        "http://app.example",
    ] {
        let origin = format!("Origin: {evil}");
        assert!(answer(with(&origin)).await.starts_with("HTTP/1.1 403 "), "{evil}");
    }
    let old = answer(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    )
    .await;
    assert!(
        old.starts_with("HTTP/1.1 426 ") && old.contains("sec-websocket-version: 13"),
        "{old}"
    );
    for bad in [
        "",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        assert!(answer(bad).await.starts_with("HTTP/1.1 400 "), "{bad}");
    }
}

#[tokio::test]
async fn commands_of_one_frame_are_answered_in_their_order() {
    let server = Server::start();
    let mut ws = Ws::open(server.address).await;
    let mut lines = vec![json!({"id": 1, "connect": {"token": server.world.token("ada")}}).to_string()];
    lines.push(json!({"id": 2, "subscribe": {"channel": "room.1"}}).to_string());
    for id in 3..23 {
        lines.push(json!({"id": id, "publish": {"channel": "room.1", "data": id}}).to_string());
    }
    ws.text(lines.join("\n")).await;
    let (mut replies, mut published) = (Vec::new(), Vec::new());
    while replies.len() < 22 || published.len() < 20 {
        match ws.got().await {
            Got::Line(line) if line.get("push").is_some() => {
                published.push(line["push"]["pub"]["data"].clone())
            }
            Got::Line(line) => replies.push(line["id"].clone()),
            Got::Closed(code, reason) => panic!("{code:?} {reason}"),
        }
    }
    assert_eq!(replies, (1..23).map(Value::from).collect::<Vec<_>>());
    assert_eq!(published, (3..23).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn pings_are_sent_and_who_does_not_answer_is_let_go() {
    let server = Server::configured(|config| {
        config.ping_interval = Span::from_secs(1);
        config.pong_timeout = Span::from_millis(500);
    });
    let token = server.world.token("ada");
    let (mut answering, connected) = Ws::connect(server.address, &token).await;
    assert_eq!(connected["ping"], 1);
    let (mut silent, _) = Ws::connect(server.address, &token).await;
    silent.answers_pings = false;
    // A call that takes longer than the pong's time does not make its caller look dead.
    let slow = answering.command("rpc", json!({"method": "slow", "data": 1}));
    let (closed, slow) = tokio::join!(silent.closed(), slow);
    assert_eq!(closed, (Some(3012), "no pong".into()));
    assert_eq!(silent.pings, 1);
    assert_eq!(slow["rpc"]["data"], 1);
    assert_eq!(
        answering
            .command("rpc", json!({"method": "echo", "data": 2}))
            .await["rpc"]["data"],
        2
    );
}

#[tokio::test]
async fn a_token_that_ends_is_refreshed_or_ends_the_connection() {
    let server = Server::configured(|config| {
        config.expired_close_delay = Span::from_millis(250);
    });
    let end = SystemClock.now().after(Duration::from_millis(1_500));
    let short = server
        .world
        .token_with("ada", |caller| caller.expires_at = Some(end));
    let (mut refreshed, connected) = Ws::connect(server.address, &short).await;
    assert_eq!(
        (&connected["expires"], &connected["ttl"]),
        (&json!(true), &json!(1))
    );
    let (mut left, _) = Ws::connect(server.address, &short).await;
    let (mut foreign, _) = Ws::connect(server.address, &short).await;
    let long = server.world.token("ada");
    assert_eq!(
        refreshed.command("refresh", json!({"token": long})).await["refresh"],
        json!({})
    );
    foreign
        .text(json!({"id": 2, "refresh": {"token": server.world.token("bob")}}).to_string())
        .await;
    assert_eq!(foreign.closed().await.0, Some(3500), "another person's token");
    assert_eq!(left.closed().await, (Some(3005), "connection expired".into()));
    server.world.ring("ada", "still here");
    assert_eq!(refreshed.push().await["pub"]["offset"], 1);
}

#[tokio::test]
async fn a_revoked_token_closes_for_good() {
    let server = Server::start();
    let (mut ws, _) = Ws::connect(server.address, &server.world.token("ada")).await;
    let refreshed = server
        .world
        .token_with("ada", |caller| caller.jti = Some("second".into()));
    ws.command("refresh", json!({"token": refreshed})).await;
    server.world.revoke(Revocation::Token("jti-ada".into()));
    assert_eq!(
        ws.command("rpc", json!({"method": "echo", "data": 1})).await["rpc"]["data"],
        1,
        "the old one"
    );
    server.world.revoke(Revocation::Token("second".into()));
    assert_eq!(ws.closed().await, (Some(3500), "invalid token".into()));
    let token = server.world.token("bob");
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    server.world.revoke(Revocation::User(server.world.user("bob")));
    assert_eq!(ws.closed().await.0, Some(3500));
    // The bus told us a moment ago; a token that is still found valid gets nobody in.
    let mut again = Ws::open(server.address).await;
    again
        .text(json!({"id": 1, "connect": {"token": token}}).to_string())
        .await;
    assert_eq!(again.closed().await.0, Some(3500));
}
