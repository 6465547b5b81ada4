use axum::{
    Extension, Json, Router,
    extract::{OriginalUri, Path},
    http::HeaderMap,
    routing::{get, post},
};
use carillon_domain::TenantId;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{Answer, Running, config};
use crate::{
    edge::{EdgeConfig, TraceId},
    http::{IdPath, Problem, ViaTls},
    telemetry::Metrics,
};

fn router() -> Router {
    let whoami = |Extension(tenant): Extension<TenantId>,
                  Extension(ViaTls(tls)): Extension<ViaTls>,
                  OriginalUri(uri): OriginalUri,
                  headers: HeaderMap| async move {
        let names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        Json(json!({"tenant": tenant, "uri": uri.to_string(), "tls": tls, "headers": names}))
    };
    Router::new()
        .route("/v1/whoami", get(whoami))
        .route(
            "/v1/trace",
            get(|Extension(id): Extension<TraceId>| async move { id.to_string() }),
        )
        .route(
            "/v1/items/{id}",
            get(|Path(id): Path<u32>| async move { id.to_string() }),
        )
        .route(
            "/v1/ids/{id}",
            get(|IdPath(id): IdPath<carillon_domain::EntryId>| async move { id.to_string() }),
        )
        .route("/v1/things", post(|| async { "made" }).get(|| async { "all" }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("a bug")
                }
            }),
        )
        .route(
            "/busy",
            get(|| async {
                Problem {
                    retry_after: Some(7),
                    ..Problem::new(
                        http::StatusCode::TOO_MANY_REQUESTS,
                        "too_many_requests",
                        "Slow down.",
                    )
                }
            }),
        )
}

#[tokio::test]
async fn whoever_writes_an_error_it_is_a_problem_with_path_and_trace() {
    let edge = Running::start(&config(), router());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (request, status, code) in [
        ("GET /nowhere?x=1", 404, "not_found"),
        ("GET /v1/items/nine", 400, "malformed_request"),
        ("GET /v1/ids/ent_9", 404, "not_found"),
        ("DELETE /v1/things", 405, "method_not_allowed"),
        ("TRACE /v1/things", 405, "method_not_allowed"),
        ("CONNECT x:1", 405, "method_not_allowed"),
        ("GET /busy", 429, "too_many_requests"),
        ("GET /panic", 500, "internal"),
        ("GET /t/Bad/v1/things", 404, "not_found"),
    ] {
        let traceparent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
        let answer = edge
            .ask(&format!("{request} HTTP/1.1\r\nhost: x\r\n{traceparent}\r\n\r\n"))
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{request}"
        );
        assert_eq!(answer.header("x-trace-id"), trace, "{request}");
        let path = request
            .split(' ')
            .nth(1)
            .and_then(|target| target.split('?').next())
            .expect("a path");
        if !request.starts_with("CONNECT") {
            assert_eq!(answer.json()["instance"], path, "{request}");
        }
        assert_eq!(answer.header("cache-control"), "no-store", "{request}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{request}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{request}");
    }
    let answer = edge.ask("DELETE /v1/things HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut allowed: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    assert_eq!(edge.get("/busy").await.header("retry-after"), "7");
}

#[tokio::test]
async fn every_answer_has_a_trace_and_security_headers() {
    let edge = Running::start(&config(), router());
    let answer = edge.get("/v1/trace").await;
    assert_eq!(answer.body, answer.header("x-trace-id").as_bytes());
    assert_eq!(answer.header("x-trace-id").len(), 32);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("strict-transport-security"), "", "only over TLS");
}

#[tokio::test]
async fn a_head_request_has_the_same_head_and_no_body() {
    let edge = Running::start(&config(), router());
    let mut client = edge.open().await;
    client
        .write_all(b"HEAD /nowhere HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/things HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            tokio::io::AsyncReadExt::read_u8(&mut client)
                .await
                .expect("the head"),
        );
    }
    assert!(head.starts_with(b"HTTP/1.1 404 "));
    assert_eq!(Answer::read(&mut client).await.expect("an answer").body, b"all");
}

#[tokio::test]
async fn a_panic_costs_one_answer_and_not_the_connection() {
    let edge = Running::start(&config(), router());
    let mut client = edge.open().await;
    for (path, status) in [
        ("/panic", 500),
        ("/v1/things", 200),
        ("/panic", 500),
        ("/v1/things", 200),
    ] {
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await
            .expect("sent");
        assert_eq!(Answer::read(&mut client).await.expect("an answer").status, status);
    }
}

#[tokio::test]
async fn the_tenant_is_the_paths_and_never_a_headers() {
    let edge = Running::start(&config(), router());
    let forged = "x-tenant-id: evil\r\nx-user-id: root\r\nx-forwarded-for: 10.0.0.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\nforwarded: proto=https\r\n";
    for (path, tenant) in [
        ("/v1/whoami", "default"),
        ("/t/acme/v1/whoami?x=1", "acme"),
        ("/t/default/v1/whoami", "default"),
    ] {
        let answer = edge
            .ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n{forged}\r\n"))
            .await
            .json();
        assert_eq!(answer["tenant"], tenant, "{path}");
        assert_eq!(answer["uri"], path, "the path as it came");
        assert_eq!(answer["tls"], false);
    }
    assert_eq!(
        edge.get("/t/acme/nowhere").await.json()["instance"],
        "/t/acme/nowhere"
    );
    assert_eq!(edge.get("/t/acme/t/acme/v1/whoami").await.status, 404);
}

#[tokio::test]
async fn a_credential_in_a_url_is_refused() {
    let edge = Running::start(&config(), router());
    for query in [
        "access_token=x",
        "a=1&token=x",
        "Authorization=x",
        "api_key=",
        "jwt=x",
        "%74oken=x",
    ] {
        for path in ["/v1/things", "/t/acme/v1/things"] {
            let answer = edge.get(&format!("{path}?{query}")).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "credential_in_url"),
                "{query}"
            );
            assert!(
                !String::from_utf8_lossy(&answer.body).contains("=x"),
                "not repeated"
            );
        }
    }
    assert_eq!(edge.get("/v1/things?ticket=x&tokens=y").await.status, 200);
}

fn cors(origins: &[&str], credentials: bool) -> EdgeConfig {
    let mut config = config();
    config.cors.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    config.cors.credentials = credentials;
    config
}

#[tokio::test]
async fn pages_of_configured_origins_may_call_and_no_others() {
    let edge = Running::start(&cors(&["https://app.example.com"], true), router());
    let ask = async |line: &str, origin: &str, more: &str| {
        edge.ask(&format!(
            "{line} HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n{more}\r\n"
        ))
        .await
    };
    let preflight =
        "access-control-request-method: POST\r\naccess-control-request-headers: last-event-id\r\n";
    let good = "https://app.example.com";
    let answer = ask("OPTIONS /v1/things", good, preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), good);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    assert!(
        answer
            .header("access-control-allow-headers")
            .contains("last-event-id")
    );
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert_eq!(answer.header("access-control-max-age"), "600");
    for (line, status) in [
        ("GET /v1/things", 200),
        ("GET /nowhere", 404),
        ("GET /panic", 500),
    ] {
        let answer = ask(line, good, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), good, "{line}");
        assert!(
            answer
                .header("access-control-expose-headers")
                .contains("x-trace-id")
        );
        assert!(answer.header("vary").contains("origin"));
    }
    for foreign in [
        "null",
        "https://evil.example",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://APP.example.com:444",
    ] {
        let answer = ask("OPTIONS /v1/things", foreign, preflight).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "forbidden"),
            "{foreign}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), "", "{foreign}");
        let answer = ask("GET /v1/things", foreign, "").await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, ""),
            "{foreign}"
        );
        assert!(
            answer.header("vary").contains("origin"),
            "a cache must tell them apart"
        );
    }
    let plain = edge.ask("OPTIONS /v1/things HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(plain.status, 405, "not a preflight");
}

#[tokio::test]
async fn any_origin_may_call_without_cookies_when_configured_so() {
    let edge = Running::start(&cors(&["*"], false), router());
    let answer = edge
        .ask("GET /v1/things HTTP/1.1\r\nhost: x\r\norigin: https://a.example\r\n\r\n")
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let answer = edge
        .ask("GET /v1/things HTTP/1.1\r\nhost: x\r\norigin: null\r\n\r\n")
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn without_configuration_no_page_of_another_origin_may_call() {
    let edge = Running::start(&config(), router());
    let answer = edge
        .ask("GET /v1/things HTTP/1.1\r\nhost: x\r\norigin: https://a.example\r\n\r\n")
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let metrics = Metrics::install();
    let edge = Running::start(&config(), router().merge(metrics.routes()));
    for path in [
        "/v1/items/1",
        "/v1/items/2",
        "/t/acme/v1/items/3",
        "/random/1",
        "/random/2",
    ] {
        edge.get(path).await;
    }
    let page = edge.get("/metrics").await;
    assert!(page.header("content-type").starts_with("text/plain"));
    let page = String::from_utf8(page.body).expect("text");
    assert!(
        page.contains("carillon_http_requests_total{method=\"GET\",route=\"/v1/items/{id}\",status=\"200\"}"),
        "{page}"
    );
    assert!(
        page.contains("carillon_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}"),
        "{page}"
    );
    assert!(
        page.contains(
            "carillon_http_request_duration_seconds_bucket{method=\"GET\",route=\"/v1/items/{id}\",le="
        ),
        "{page}"
    );
    assert!(
        !page.contains("/random") && !page.contains("/v1/items/1"),
        "{page}"
    );
}
