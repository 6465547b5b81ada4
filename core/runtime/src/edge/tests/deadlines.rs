use std::time::{Duration, Instant};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::io::AsyncWriteExt as _;

use super::{Answer, Running, config, until_closed};
use crate::{config::Span, edge::EdgeConfig, http::ApiJson};

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/large", get(|| async { "x".repeat(32 << 20) }))
        .route(
            "/json",
            post(|ApiJson(value): ApiJson<serde_json::Value>| async move { value.to_string() }),
        )
}

/// Everything generous but what a test shortens.
fn limits(set: impl FnOnce(&mut crate::edge::LimitsConfig)) -> EdgeConfig {
    let mut config = config();
    set(&mut config.limits);
    config
}

const SHORT: Span = Span::from_millis(150);

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let edge = Running::start(&limits(|limits| limits.first_byte = SHORT), router());
    let mut client = edge.open().await;
    let began = Instant::now();
    assert!(until_closed(&mut client).await.is_empty());
    assert!(began.elapsed() >= SHORT.duration() && began.elapsed() < Duration::from_secs(2));
    edge.connections.none_open().await;
}

#[tokio::test]
async fn a_slow_head_is_answered_with_408_once_there_is_a_request_line() {
    let edge = Running::start(&limits(|limits| limits.header = SHORT), router());
    let (with_line, mut without) = (edge.open().await, edge.open().await);
    without.write_all(b"GET / HTT").await.expect("sent");
    let (mut read, mut write) = with_line.into_split();
    let dribble = tokio::spawn(async move {
        let _ = write.write_all(b"GET / HTTP/1.1\r\n").await;
        for byte in format!("host: x\r\nx-slow: {}", "y".repeat(10_000)).bytes() {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let answer = Answer::read(&mut read).await.expect("an answer");
    assert!(until_closed(&mut without).await.is_empty());
    dribble.abort();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn the_second_head_has_the_same_deadline_and_the_pause_before_it_another() {
    let edge = Running::start(
        &limits(|limits| (limits.header, limits.idle) = (SHORT, Span::from_secs(1))),
        router(),
    );
    let (mut slow, mut idle) = (edge.open().await, edge.open().await);
    for client in [&mut slow, &mut idle] {
        client.write_all(GET.as_bytes()).await.expect("sent");
        assert_eq!(Answer::read(client).await.expect("an answer").status, 200);
    }
    let began = Instant::now();
    slow.write_all(b"GET / HTTP/1.1\r\nhost").await.expect("sent");
    assert_eq!(Answer::read(&mut slow).await.expect("an answer").status, 408);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(until_closed(&mut idle).await.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn a_dribbled_body_is_answered_with_408() {
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for (name, config) in [
        ("in all", limits(|limits| limits.body_total = SHORT)),
        (
            "by its rate",
            limits(|limits| (limits.body_grace, limits.body_rate) = (SHORT, "1KiB".parse().expect("a size"))),
        ),
    ] {
        let edge = Running::start(&config, router());
        let mut client = edge.open().await;
        client
            .write_all(format!("{head}content-length: 100000\r\n\r\n[1").as_bytes())
            .await
            .expect("sent");
        let (mut read, mut write) = client.into_split();
        let dribble = tokio::spawn(async move {
            while write.write_all(b",1").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let began = Instant::now();
        let answer = Answer::read(&mut read).await.expect(name);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "request_timeout"),
            "{name}"
        );
        assert_eq!(answer.header("connection"), "close", "{name}");
        assert!(began.elapsed() < Duration::from_secs(3), "{name}");
        until_closed(&mut read).await;
        dribble.await.expect("no panic");
        edge.connections.none_open().await;
    }
}

#[tokio::test]
async fn a_body_that_keeps_its_pace_may_take_its_time() {
    let config =
        limits(|limits| (limits.body_grace, limits.body_rate) = (SHORT, "1KiB".parse().expect("a size")));
    let edge = Running::start(&config, router());
    let mut client = edge.open().await;
    let body = format!("{{\"all\": [{}0]}}", "0,".repeat(1_000));
    let head = format!(
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.expect("sent");
    for part in body.as_bytes().chunks(100) {
        client.write_all(part).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(Answer::read(&mut client).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let edge = Running::start(&limits(|limits| limits.write = SHORT), router());
    let mut client = edge.open().await;
    client
        .write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    client.readable().await.expect("the answer began");
    edge.connections.none_open().await;
}

#[tokio::test]
async fn half_an_http2_preface_is_no_way_to_stay() {
    let edge = Running::start(
        &limits(|limits| (limits.first_byte, limits.header) = (SHORT, SHORT)),
        router(),
    );
    let (mut half, mut whole) = (edge.open().await, edge.open().await);
    half.write_all(b"PRI * HTTP/2.0\r\n").await.expect("sent");
    whole
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("sent");
    assert!(until_closed(&mut half).await.is_empty());
    until_closed(&mut whole).await;
    edge.connections.none_open().await;
}
