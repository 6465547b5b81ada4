use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{Answer, Running, config, until_closed};
use crate::edge::{Socket, TakeOver, Taken};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n";

/// A route that hands its socket to the test, and a large plain one.
fn streaming() -> (Router, mpsc::UnboundedReceiver<Taken>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let stream = move |take_over: Option<TakeOver>| async move {
        let Some(take_over) = take_over else {
            return "stays on hyper".into_response();
        };
        // A handler waits for its backend before it knows that it may.
        tokio::task::yield_now().await;
        let owner = move |taken| {
            let _ = sender.send(taken);
        };
        let answer: Response = take_over
            .take(Bytes::from(format!("{HEAD}retry: 1\n\n")), owner)
            .await;
        answer
    };
    let router = Router::new()
        .route("/stream", get(stream))
        .route("/large", get(|| async { "x".repeat(4 << 20) }));
    (router, receiver)
}

const STREAM: &str = "GET /stream HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_stream_leaves_hyper_with_what_the_client_sent_ahead() {
    let (router, mut taken) = streaming();
    let edge = Running::start(&config(), router);
    let mut client = edge.open().await;
    client
        .write_all(format!("{STREAM}first frame").as_bytes())
        .await
        .expect("sent");
    let taken = taken.recv().await.expect("taken over");
    assert_eq!(&taken.read[..], b"first frame");
    assert_eq!(taken.peer, client.local_addr().expect("an address"));
    let Socket::Plain(mut socket) = taken.socket else {
        panic!("plain TCP")
    };
    socket.write_all(b"data: 1\n\n").await.expect("written");
    let answer = Answer::read(&mut client).await.expect("the head");
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/event-stream")
    );
    let mut got = [0; 19];
    client.read_exact(&mut got).await.expect("the first bytes");
    assert_eq!(&got, b"retry: 1\n\ndata: 1\n\n");
    client.write_all(b"more").await.expect("sent");
    let mut more = [0; 4];
    socket.read_exact(&mut more).await.expect("the socket is ours");
    assert_eq!(
        edge.connections.open(),
        1,
        "a stream counts as long as its guard lives"
    );
    drop((socket, taken.guard));
    edge.connections.none_open().await;
    assert!(until_closed(&mut client).await.is_empty());
}

#[tokio::test]
async fn answers_before_the_stream_are_not_lost() {
    let (router, mut taken) = streaming();
    let edge = Running::start(&config(), router);
    let mut client = edge.open().await;
    let large = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    client
        .write_all(format!("{large}{large}{STREAM}tail").as_bytes())
        .await
        .expect("sent");
    for _ in 0..2 {
        let answer = Answer::read(&mut client).await.expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (200, 4 << 20));
    }
    let taken = taken.recv().await.expect("taken over");
    assert_eq!(&taken.read[..], b"tail");
    drop(taken);
    assert_eq!(
        Answer::read(&mut client).await.expect("the stream's head").status,
        200
    );
    assert_eq!(until_closed(&mut client).await, b"retry: 1\n\n");
}

#[tokio::test]
async fn a_streams_head_carries_what_every_answer_does() {
    let (router, mut taken) = streaming();
    let mut config = config();
    config.cors.origins = vec!["https://app.example.com".to_owned()];
    let edge = Running::start(&config, router);
    let answer = edge
        .ask("GET /stream HTTP/1.1\r\nhost: x\r\norigin: https://app.example.com\r\n\r\n")
        .await;
    assert!(taken.recv().await.is_some());
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.com"
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("cache-control"), "no-cache", "the handler's own");
    assert_eq!(answer.header("x-trace-id").len(), 32);
}

#[tokio::test]
async fn a_request_with_a_body_or_of_http_1_0_stays_on_hyper() {
    let (router, _taken) = streaming();
    let edge = Running::start(&config(), router);
    let with_body = "GET /stream HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(edge.ask(with_body).await.body, b"stays on hyper");
    assert_eq!(
        edge.ask("GET /stream HTTP/1.0\r\n\r\n").await.body,
        b"stays on hyper"
    );
}

#[tokio::test]
async fn a_client_that_leaves_meanwhile_leaves_nothing_behind() {
    let (router, mut taken) = streaming();
    let edge = Running::start(&config(), router);
    for _ in 0..50 {
        let mut client = edge.open().await;
        client.write_all(STREAM.as_bytes()).await.expect("sent");
        drop(client);
    }
    while edge.connections.open() > 0 {
        tokio::select! {
            _ = taken.recv() => {}
            () = edge.connections.none_open() => {}
        }
    }
}
