use axum::{
    Extension, Router,
    routing::{get, post},
};
use tokio::io::AsyncWriteExt as _;

use super::{Answer, Running, config, until_closed};
use crate::http::{ApiJson, BodyLimit};

fn router() -> Router {
    let json = || {
        post(|ApiJson(value): ApiJson<serde_json::Value>| async move { value.to_string().len().to_string() })
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/json", json())
        .route("/batch", json().layer(Extension(BodyLimit(8 << 20))))
}

fn post_json(path: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
}

#[tokio::test]
async fn too_large_heads_get_431_and_too_long_uris_414() {
    let edge = Running::start(&config(), router());
    let headers = |count: usize, size: usize| {
        let lines: String = (0..count)
            .map(|at| format!("x-{at}: {}\r\n", "v".repeat(size)))
            .collect();
        format!("GET / HTTP/1.1\r\nhost: x\r\n{lines}\r\n")
    };
    let uri = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "u".repeat(length));
    for (name, request, status, code) in [
        ("ninety headers", headers(90, 10), 200, ""),
        ("101 headers", headers(100, 1), 431, "headers_too_large"),
        ("1,000 headers", headers(1_000, 1), 431, "headers_too_large"),
        (
            "17 KiB in one header",
            headers(1, 17 << 10),
            431,
            "headers_too_large",
        ),
        (
            "100 KiB of headers",
            headers(10, 10 << 10),
            431,
            "headers_too_large",
        ),
        ("8,000 bytes of URI", uri(8_000), 404, "not_found"),
        ("9 KiB of URI", uri(9 << 10), 414, "uri_too_long"),
        ("40 KiB of URI", uri(40 << 10), 414, "uri_too_long"),
    ] {
        let answer = edge.ask(&request).await;
        assert_eq!(answer.status, status, "{name}");
        if !code.is_empty() {
            assert_eq!(answer.code(), code, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_gets_a_400_and_the_end() {
    let edge = Running::start(&config(), router());
    for bad in [
        "hello\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nno colon here\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nhost: x\n\n",
        "POST /json HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\r\n\r\n",
    ] {
        let mut client = edge.open().await;
        client.write_all(bad.as_bytes()).await.expect("sent");
        let answer = Answer::read(&mut client).await.expect(bad);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "malformed_request"),
            "{bad:?}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{bad:?}");
        client.shutdown().await.expect("still there");
        assert!(until_closed(&mut client).await.is_empty(), "{bad:?}");
    }
    let no_host = edge.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        (no_host.status, no_host.code().as_str()),
        (400, "malformed_request")
    );
    assert_eq!(
        edge.ask("GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n")
            .await
            .status,
        400
    );
    assert_eq!(edge.ask("GET / HTTP/1.0\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn an_answer_before_a_request_that_is_none_is_not_lost() {
    let edge = Running::start(&config(), router());
    let mut client = edge.open().await;
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n")
        .await
        .expect("sent");
    let first = Answer::read(&mut client).await.expect("an answer");
    assert_eq!((first.status, first.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(Answer::read(&mut client).await.expect("an answer").status, 400);
}

#[tokio::test]
async fn bodies_have_limits_by_route() {
    let edge = Running::start(&config(), router());
    let text = |size: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(size - 8));
    assert_eq!(
        edge.ask(&post_json("/json", "", &text(256 << 10))).await.status,
        200
    );
    let answer = edge.ask(&post_json("/json", "", &text((256 << 10) + 1))).await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("connection")),
        (413, "too_large", "close")
    );
    assert_eq!(
        edge.ask(&post_json("/batch", "", &text(8 << 20))).await.status,
        200
    );
    assert_eq!(
        edge.ask(&post_json("/batch", "", &text((8 << 20) + 1)))
            .await
            .status,
        413
    );
}

#[tokio::test]
async fn a_body_that_does_not_tell_its_size_is_cut_off_at_the_limit() {
    let edge = Running::start(&config(), router());
    let mut client = edge.open().await;
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("sent");
    let (mut read, mut write) = client.into_split();
    let chunk = format!("10000\r\n{}\r\n", "1".repeat(0x10000));
    // Without an end: the answer must come before it.
    let sending = tokio::spawn(async move { while write.write_all(chunk.as_bytes()).await.is_ok() {} });
    assert_eq!(Answer::read(&mut read).await.expect("an answer").status, 413);
    until_closed(&mut read).await;
    sending.await.expect("no panic");
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_still_gets_its_413() {
    let edge = Running::start(&config(), router());
    let mut client = edge.open().await;
    client
        .write_all(post_json("/json", "", &"9".repeat(6 << 20)).as_bytes())
        .await
        .expect("sent to the end");
    assert_eq!(Answer::read(&mut client).await.expect("an answer").status, 413);
}

#[tokio::test]
async fn a_body_that_waits_for_permission_is_refused_before_it_is_sent() {
    let edge = Running::start(&config(), router());
    let mut client = edge.open().await;
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999999\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("sent");
    assert_eq!(Answer::read(&mut client).await.expect("an answer").status, 413);
}

#[tokio::test]
async fn content_codings_and_other_types_get_415() {
    let edge = Running::start(&config(), router());
    for coding in ["gzip", "zstd", "br", "deflate", "gzip, gzip", "x-unknown"] {
        let answer = edge
            .ask(&post_json(
                "/json",
                &format!("content-encoding: {coding}\r\n"),
                "{}",
            ))
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (415, "unsupported_media_type"),
            "{coding}"
        );
    }
    for kind in ["text/plain", "application/xml", "application/jsonx", ""] {
        let request = post_json("/json", "", "{}").replace("application/json", kind);
        assert_eq!(edge.ask(&request).await.status, 415, "{kind}");
    }
    let with_charset =
        post_json("/json", "", "{}").replace("application/json", "Application/JSON; charset=utf-8");
    assert_eq!(edge.ask(&with_charset).await.status, 200);
}

#[tokio::test]
async fn a_connection_too_many_is_closed_without_a_word() {
    let mut config = config();
    config.limits.connections = 1;
    let edge = Running::start(&config, router());
    let mut first = edge.open().await;
    first
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    assert_eq!(Answer::read(&mut first).await.expect("an answer").status, 200);
    assert!(until_closed(&mut edge.open().await).await.is_empty());
    drop(first);
    edge.connections.none_open().await;
    assert_eq!(edge.get("/").await.status, 200);
}
