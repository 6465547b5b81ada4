//! The listener's manners: limits, deadlines, drain, health, metrics.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::harness::{Sse, Start, shared, within};

/// Sends `bytes` on a connection of its own and reads to its end.
async fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The server may answer and close before all is written.
    let _ = stream.write_all(bytes).await;
    read_to_end(stream).await
}

async fn read_to_end(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let server = shared().await;
    let address = server.address();
    let head = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n")
    };
    let many: String = (0..120).map(|number| format!("x-{number}: 1\r\n")).collect();
    let answer = exchange(&address, head("/health/live", &many).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let large = format!("x-large: {}\r\n", "y".repeat(17 * 1024));
    let answer = exchange(&address, head("/health/live", &large).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = format!("/health/live?{}", "z".repeat(9 * 1024));
    let answer = exchange(&address, head(&long, "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414"), "{answer}");
    let answer = exchange(&address, b"\x16\x03\x01 this is no HTTP\r\n\r\n").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    let answer = exchange(&address, head("/health/live", "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn slow_and_silent_connections_are_closed_and_the_rest_is_served() {
    let server = Start::default()
        .env("CARILLON_SERVER__LIMITS__FIRST_BYTE", "600ms")
        .env("CARILLON_SERVER__LIMITS__HEADER", "600ms")
        .env("CARILLON_SERVER__LIMITS__BODY_TOTAL", "900ms")
        .serve()
        .await;
    let api = server.api().await;
    let address = server.address();
    let begun = Instant::now();
    let silent = TcpStream::connect(&address).await.expect("a connection");
    let mut slow_head = TcpStream::connect(&address).await.expect("a connection");
    slow_head
        .write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nx-")
        .await
        .expect("written");
    let mut slow_body = TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "POST /v1/notifications HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        api.credential()
    );
    slow_body.write_all(head.as_bytes()).await.expect("written");
    api.ring("ada", "meanwhile").await;
    assert_eq!(read_to_end(silent).await, "");
    let answer = read_to_end(slow_head).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    let answer = read_to_end(slow_body).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"),
        "{answer}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn health_is_told_on_both_listeners_and_metrics_on_the_internal_one() {
    let server = shared().await;
    let api = server.api().await;
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(api.send(api.bare(Method::GET, path)).await.status, 200, "{path}");
        assert!(
            internal(server.data(), path).await.starts_with("HTTP/1.1 200"),
            "{path}"
        );
    }
    api.send(api.bare(Method::GET, "/metrics"))
        .await
        .problem(404, "not_found");
    api.ring("metrics", "x").await;
    let metrics = internal(server.data(), "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(
        metrics.lines().any(|line| line.starts_with("# TYPE carillon_")),
        "{metrics}"
    );
}

async fn internal(data: &std::path::Path, path: &str) -> String {
    let socket = data.join("carillon.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&socket).expect("the socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "only the owner may open the internal socket");
    let mut stream = UnixStream::connect(&socket).await.expect("the internal listener");
    let request = format!("GET {path} HTTP/1.1\r\nhost: internal\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    read_to_end(stream).await
}

#[tokio::test]
async fn the_api_describes_itself() {
    let api = shared().await.api().await;
    let description = api.send(api.bare(Method::GET, "/openapi.json")).await.expect(200);
    let paths = description["paths"].as_object().expect("paths");
    for path in [
        "/v1/notifications",
        "/v1/notifications/batch",
        "/v1/notifications/{id}",
        "/v1/notifications/{id}/cancel",
        "/v1/inbox",
        "/v1/inbox/counts",
        "/v1/inbox/read-all",
        "/v1/acks",
        "/v1/stream",
        "/v1/stream/tickets",
        "/v1/topics/{name}/publish",
        "/v1/tokens",
        "/v1/revocations",
        "/v1/users/{id}",
        "/v1/keys",
    ] {
        assert!(
            paths.contains_key(path),
            "{path} is missing from {:?}",
            paths.keys()
        );
    }
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            let name = operation["operationId"].as_str().expect("a name");
            assert!(names.insert(name), "{name} names {method} {path} and another one");
            let error = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"];
            assert_eq!(error["$ref"], "#/components/schemas/Problem", "{method} {path}");
        }
    }
    let problem = &description["components"]["schemas"]["Problem"]["properties"];
    for field in [
        "type", "title", "status", "detail", "instance", "code", "trace_id", "errors",
    ] {
        assert!(problem[field].is_object(), "{field} is missing from {problem}");
    }
    let page = api.send(api.bare(Method::GET, "/docs")).await;
    assert_eq!(page.status, 200, "{page:?}");
}

#[tokio::test]
async fn what_is_served_is_what_is_described() {
    let api = shared().await.api().await;
    let description = api.send(api.bare(Method::GET, "/openapi.json")).await.expect(200);
    for (path, item) in description["paths"].as_object().expect("paths") {
        let path = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            let described = item[method.as_str().to_lowercase()].is_object();
            let status = api.send(api.bare(method.clone(), &path)).await.status;
            assert_eq!(status != 405, described, "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn plain_serve_shows_no_quickstart_page() {
    let api = shared().await.api().await;
    let page = api.send(api.bare(Method::GET, "/")).await;
    assert_eq!(page.status, 404, "{page:?}");
    assert!(!shared().await.log().contains("crk_"), "plain serve prints a key");
}

#[tokio::test]
async fn sigterm_drains_and_nothing_is_lost() {
    let mut server = Start::default().serve().await;
    let api = server.api().await;
    let ada = api.user("ada").await;
    let mut stream = ada.stream("").await;
    let mut socket = ada.connect(json!({})).await;
    let id = api.ring("ada", "before").await;
    let position = stream.next().await.id.expect("an id");

    let begun = Instant::now();
    server.terminate();
    let (events, closed) = tokio::join!(stream.rest(), socket.closed());
    let bye = events.last().expect("a last event");
    assert_eq!(
        (bye.event.as_str(), &bye.data["reason"]),
        ("bye", &json!("shutdown"))
    );
    assert!(stream.retry.is_some(), "`retry:` comes before the end");
    assert_eq!(closed.0, 3001);
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(30));

    server.start_again().await;
    let mut back = ada.stream_from(&position, "").await;
    let other = api.ring("ada", "after").await;
    assert_eq!(back.next().await.data["entry"]["notification_id"], other);
    assert_eq!(api.notification(&id).await["state"], "planned");
}

#[tokio::test]
async fn a_client_that_never_answers_its_close_does_not_hold_up_the_end() {
    let mut server = Start::default()
        .env("CARILLON_HUB__CLOSE_TIMEOUT", "500ms")
        .env("CARILLON_SHUTDOWN__DRAIN", "20s")
        .serve()
        .await;
    let api = server.api().await;
    let ada = api.user("ada").await;
    // Connected, and never read again: the hub's own clock has to drop it while everything else ends.
    let _deaf = ada.connect(json!({})).await;
    let begun = Instant::now();
    server.terminate();
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(10), "{}", server.log());
}

#[tokio::test]
async fn a_request_in_flight_at_sigterm_is_answered_or_refused_never_forgotten() {
    let mut server = Start::default().serve().await;
    let api = server.api().await;
    let requests: Vec<_> = (0..40)
        .map(|number| {
            let api = api.clone();
            tokio::spawn(async move {
                let body = json!({"targets": [{"user": "ada"}], "content": {"title": format!("{number}")}});
                let sent = api
                    .request(Method::POST, "/v1/notifications")
                    .json(&body)
                    .send()
                    .await;
                match sent {
                    Ok(answer) if answer.status() == 202 => {
                        let answer: serde_json::Value = answer.json().await.ok()?;
                        answer["id"].as_str().map(str::to_owned)
                    }
                    _ => None,
                }
            })
        })
        .collect();
    server.terminate();
    let mut accepted = Vec::new();
    for request in requests {
        accepted.extend(request.await.expect("no panic"));
    }
    server.ended().await;
    server.start_again().await;
    for id in accepted {
        api.notification(&id).await;
    }
}

#[tokio::test]
async fn allowed_origins_get_their_headers_and_others_none() {
    let server = Start::default()
        .config("[server.cors]\norigins = [\"https://app.example.com\"]\n")
        .serve()
        .await;
    let api = server.api().await;
    let preflight = |origin: &str| {
        api.bare(Method::OPTIONS, "/v1/inbox")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization,last-event-id")
    };
    let answer = api.send(preflight("https://app.example.com")).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example.com"),
        "{answer:?}"
    );
    let allowed = answer
        .header("access-control-allow-headers")
        .unwrap_or_default()
        .to_lowercase();
    assert!(allowed.contains("authorization"), "{answer:?}");
    let answer = api.send(preflight("https://evil.example.com")).await;
    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");

    // A stream, which leaves the HTTP stack after its head, carries them too.
    let ada = api.user("ada").await;
    let stream = ada
        .request(Method::GET, "/v1/stream")
        .header("origin", "https://app.example.com");
    let stream = Sse::open(stream).await;
    assert_eq!(
        stream
            .headers
            .get("access-control-allow-origin")
            .and_then(|value| value.to_str().ok()),
        Some("https://app.example.com")
    );
}
