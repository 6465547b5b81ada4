use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use axum::{Extension, Router, routing::get};
use carillon_domain::{Caller as Kind, TenantId};
use tokio::{io::AsyncWriteExt as _, net::UnixStream};

use super::{Answer, Running, config};
use crate::{
    edge::{Access, Edge, EdgeConfig, ListenAddress, Peer, TakeOver},
    http::Caller,
};

fn router() -> Router {
    let whoami = |Caller(principal): Caller,
                  Extension(tenant): Extension<TenantId>,
                  Extension(peer): Extension<Peer>,
                  take_over: Option<TakeOver>| async move {
        let operator = matches!(principal.caller, Kind::Operator) && principal.tenant == tenant;
        format!(
            "operator {operator} tenant {tenant} unix {} take-over {}",
            peer == Peer::Unix,
            take_over.is_some()
        )
    };
    Router::new().route("/whoami", get(whoami))
}

#[tokio::test]
async fn whoever_can_open_the_unix_socket_is_the_operator() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("carillon.sock");
    let config = EdgeConfig {
        listen: vec![ListenAddress::Unix(path.clone())],
        ..config()
    };
    let edge = Running::start_as(&config, Access::Operator, router());
    let about = std::fs::symlink_metadata(&path).expect("a file");
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let ask = async |request: &str| {
        let mut client = UnixStream::connect(&path).await.expect("listening");
        client.write_all(request.as_bytes()).await.expect("sent");
        Answer::read(&mut client).await.expect("an answer")
    };
    let answer = ask("GET /t/acme/whoami HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(
        String::from_utf8_lossy(&answer.body),
        "operator true tenant acme unix true take-over false"
    );
    assert!(
        Edge::bind(&config, Access::Operator).is_err(),
        "somebody is listening"
    );
    edge.stop.finish();
    while path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_socket_file_that_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("carillon.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    let config = EdgeConfig {
        listen: vec![ListenAddress::Unix(path)],
        ..config()
    };
    assert!(Edge::bind(&config, Access::Operator).is_ok());
}

#[tokio::test]
async fn a_page_in_a_browser_is_not_the_operator() {
    let edge = Running::start_as(&config(), Access::Operator, router());
    let ask = async |more: &str| {
        edge.ask(&format!("GET /whoami HTTP/1.1\r\n{more}\r\n\r\n"))
            .await
            .status
    };
    for literal in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "localhost",
        "LocalHost:1",
        "[::1]",
        "[::1]:80",
    ] {
        assert_eq!(ask(&format!("host: {literal}")).await, 200, "{literal}");
    }
    for other in [
        "rebound.example",
        "rebound.example:8080",
        "127.0.0.1.example",
        "localhost.example:1",
        "",
    ] {
        assert_eq!(ask(&format!("host: {other}")).await, 401, "{other}");
    }
    assert_eq!(ask("host: localhost\r\norigin: http://localhost").await, 401);
}

#[tokio::test]
async fn on_the_public_listener_nobody_is_the_operator() {
    let edge = Running::start(&config(), router());
    let answer = edge.get("/whoami").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_token"));
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer error=\"invalid_token\""
    );
}
