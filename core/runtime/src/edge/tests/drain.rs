use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{Answer, PATIENCE, Running, config, until_closed};

/// A route that tells when it was called and answers when it is let.
fn slow() -> (Router, Arc<Semaphore>, Arc<Notify>) {
    let (called, go) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&called), Arc::clone(&go));
    let handler = move || async move {
        tell.add_permits(1);
        wait.notified().await;
        "done"
    };
    (
        Router::new()
            .route("/slow", get(handler))
            .route("/", get(|| async { "hello" })),
        called,
        go,
    )
}

const SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn what_is_in_progress_ends_and_nothing_new_begins() {
    let (router, called, go) = slow();
    let mut edge = Running::start(&config(), router);
    let (mut idle, mut silent, mut busy) = (edge.open().await, edge.open().await, edge.open().await);
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    assert_eq!(
        Answer::read(&mut idle)
            .await
            .expect("an answer")
            .header("connection"),
        ""
    );
    busy.write_all(SLOW).await.expect("sent");
    called.acquire().await.expect("called").forget();
    edge.stop.finish();
    assert!(until_closed(&mut idle).await.is_empty());
    assert!(until_closed(&mut silent).await.is_empty());
    while TcpStream::connect(edge.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!edge.serving.is_finished());
    go.notify_one();
    let answer = Answer::read(&mut busy).await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    assert!(until_closed(&mut busy).await.is_empty());
    timeout(PATIENCE, &mut edge.serving)
        .await
        .expect("in time")
        .expect("no panic");
    assert_eq!(edge.connections.open(), 0);
}

#[tokio::test]
async fn the_second_stage_drops_what_is_still_in_progress() {
    let (router, called, _go) = slow();
    let mut edge = Running::start(&config(), router);
    let mut busy = edge.open().await;
    busy.write_all(SLOW).await.expect("sent");
    called.acquire().await.expect("called").forget();
    edge.stop.finish();
    assert!(
        timeout(Duration::from_millis(50), &mut edge.serving)
            .await
            .is_err(),
        "it waits"
    );
    edge.stop.abort();
    timeout(PATIENCE, &mut edge.serving)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(until_closed(&mut busy).await.is_empty());
}

#[tokio::test]
async fn http2_requests_in_progress_end_too() {
    let (router, called, go) = slow();
    let mut edge = Running::start(&config(), router);
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .expect("a client");
    let url = format!("http://{}/slow", edge.address);
    let asked = tokio::spawn(client.get(url).send());
    called.acquire().await.expect("called").forget();
    edge.stop.finish();
    assert!(
        timeout(Duration::from_millis(50), &mut edge.serving)
            .await
            .is_err(),
        "it waits"
    );
    go.notify_one();
    let answer = asked.await.expect("no panic").expect("an answer");
    assert_eq!(
        (answer.version(), answer.text().await.expect("text").as_str()),
        (http::Version::HTTP_2, "done")
    );
    drop(client);
    timeout(PATIENCE, &mut edge.serving)
        .await
        .expect("in time")
        .expect("no panic");
}
