//! The same over TLS, where the hub drives rustls itself, and over HTTP/2, where hyper keeps the socket.

use std::sync::Arc;

use carillon_domain::Revocation;
use carillon_hub::HubConfig;
use carillon_runtime::{
    config::{ByteSize, Span},
    edge::TlsConfig,
};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto, pki_types::ServerName},
};

use crate::{
    client::{Io, Sse, Ws, bearer, within},
    world::{Server, eventually},
};

/// A server with a certificate of its own, and who trusts it.
struct Secured {
    server: Server,
    connector: TlsConnector,
    _folder: tempfile::TempDir,
}

impl Secured {
    fn start(set: impl FnOnce(&mut HubConfig)) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["hub.test".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config = HubConfig::default();
        set(&mut config);
        let tls = TlsConfig {
            certificate: Some(certificate),
            key: Some(key),
            ..TlsConfig::default()
        };
        Self {
            server: Server::with(config, tls),
            connector: Arc::new(client).into(),
            _folder: folder,
        }
    }

    async fn wrap(&self, socket: TcpStream) -> Box<dyn Io> {
        let name = ServerName::try_from("hub.test").unwrap();
        Box::new(
            within("a TLS handshake", self.connector.connect(name, socket))
                .await
                .unwrap(),
        )
    }

    async fn io(&self) -> Box<dyn Io> {
        self.wrap(TcpStream::connect(self.server.address).await.unwrap())
            .await
    }
}

#[tokio::test]
async fn streams_and_websockets_work_over_tls() {
    let secured = Secured::start(|_| {});
    let world = &secured.server.world;
    let token = world.token("ada");
    let ticket = world.ticket(&token);
    let mut stream = Sse::send(secured.io().await, &format!("/v1/stream?ticket={ticket}"), "").await;
    assert!(stream.head.contains("SameSite=Lax; Secure"), "{}", stream.head);
    assert!(
        stream.head.contains("strict-transport-security"),
        "{}",
        stream.head
    );
    stream.position().await;
    let mut ws = Ws::over(secured.io().await).await;
    ws.command("connect", json!({"token": token})).await;
    let body = "z".repeat(10_000);
    for seq in 1..=50 {
        world.ring("ada", &body);
        assert_eq!(stream.next().await.seq(), seq);
        assert_eq!(ws.push().await["pub"]["offset"], seq);
        let echo = ws.command("rpc", json!({"method": "echo", "data": body})).await;
        assert_eq!(echo["rpc"]["data"], body);
    }
    world.revoke(Revocation::User(world.user("ada")));
    assert_eq!(stream.next().await.name, "bye");
    assert_eq!(stream.next_or_end().await, None, "a clean end");
    assert_eq!(ws.closed().await.0, Some(3500));
    drop(ws);
    eventually("both are gone", || secured.server.hub.connections() == 0).await;
}

#[tokio::test]
async fn a_burst_larger_than_the_socket_arrives_whole_over_tls() {
    let secured = Secured::start(|config| config.max_queued = ByteSize::mib(8));
    let world = &secured.server.world;
    let token = world.token("ada");
    let mut stream = Sse::send(secured.io().await, "/v1/stream", &bearer(&token)).await;
    stream.position().await;
    let body = "z".repeat(20_000);
    let envelopes = (0..150).map(|_| world.log("ada", &body));
    world.bus.send(envelopes.collect());
    for seq in 1..=150 {
        assert_eq!(stream.next().await.seq(), seq);
    }
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_over_tls_too() {
    let secured = Secured::start(|config| config.close_timeout = Span::from_millis(500));
    let world = &secured.server.world;
    let token = world.token("ada");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let socket = socket.connect(secured.server.address).await.unwrap();
    let mut stream = Sse::send(secured.wrap(socket).await, "/v1/stream", &bearer(&token)).await;
    stream.position().await;
    let body = "z".repeat(3_000);
    for _ in 0..400 {
        world.ring("ada", &body);
    }
    eventually("the slow one is gone", || secured.server.hub.connections() == 0).await;
}

#[tokio::test]
async fn a_stream_on_http_2_stays_on_hyper_and_is_bounded_there() {
    let server = Server::configured(|config| config.close_timeout = Span::from_millis(500));
    let token = server.world.token("ada");
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(64 * 1024)
        .build()
        .unwrap();
    let open = || async {
        let url = format!("http://{}/v1/stream", server.address);
        let response = client.get(url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, reqwest::Version::HTTP_2)
        );
        Box::pin(response.bytes_stream())
    };
    let (mut healthy, mut slow) = (open().await, open().await);
    let body = "z".repeat(3_000);
    let mut text = String::new();
    for seq in 1..=200_u64 {
        server.world.ring("ada", &body);
        let wanted = format!("-{seq}\ndata");
        within("an event", async {
            while !text.contains(&wanted) {
                text.push_str(std::str::from_utf8(&healthy.next().await.unwrap().unwrap()).unwrap());
            }
        })
        .await;
    }
    assert!(
        text.starts_with("retry: ") && text.contains("event: position\n"),
        "{}",
        &text[..200]
    );
    eventually("the slow one was cut off", || server.hub.connections() == 1).await;
    let mut rest = 0;
    while let Some(Ok(bytes)) = within("the slow one's rest", slow.next()).await {
        rest += bytes.len();
    }
    // The client's window, hyper's own buffer, and at most the queue.
    assert!(
        rest < 300_000,
        "{rest} of 600,000 bytes were held for who reads nothing"
    );
    drop((healthy, slow));
    eventually("both are gone", || server.hub.connections() == 0).await;
    // A WebSocket over HTTP/2 is refused with a reason.
    let url = format!("http://{}/connection/websocket", server.address);
    assert_eq!(client.get(url).send().await.unwrap().status(), 400);
}

/// hyper gives each of our writes a DATA frame of its own, so that they can be counted.
#[tokio::test]
async fn what_is_published_together_leaves_in_one_write() {
    let server = Server::start();
    let token = server.world.token("ada");
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let url = format!("http://{}/v1/stream?topic=room.1", server.address);
    let response = client.get(url).bearer_auth(&token).send().await.unwrap();
    let mut stream = Box::pin(response.bytes_stream());
    let mut next = async || {
        let bytes = within("a frame", stream.next()).await.unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    while !next().await.contains("event: position") {}
    let burst = (0..32).map(|n| server.world.log("ada", &n.to_string())).collect();
    server.world.bus.send(burst);
    let first = next().await;
    assert_eq!(first.matches("event: added").count(), 32, "{first}");
    // Two subjects are two writes; each keeps what belongs together.
    let of_topic = (0..32).map(|n| server.world.publication("room.1", &n.to_string(), None));
    let of_mailbox = (0..32).map(|n| server.world.log("ada", &n.to_string()));
    let burst = of_topic
        .collect::<Vec<_>>()
        .into_iter()
        .chain(of_mailbox)
        .collect();
    server.world.bus.send(burst);
    assert_eq!(next().await.matches("event: publication").count(), 32);
    assert_eq!(next().await.matches("event: added").count(), 32);
}
