use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::Path,
    routing::{get, post},
};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Answer, PATIENCE, Running, config, until_closed};
use crate::{
    config::Span,
    edge::{Access, Edge, EdgeConfig, EdgeError, Socket, TakeOver},
    http::{ApiJson, ViaTls},
};

/// A folder with a certificate for `localhost` and its key.
struct Files {
    _folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> (Self, CertificateDer<'static>) {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let files = Self {
            _folder: folder,
            certificate,
            key,
        };
        let first = files.renew();
        (files, first)
    }

    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        std::fs::write(&self.key, made.signing_key.serialize_pem()).expect("written");
        std::fs::write(&self.certificate, made.cert.pem()).expect("written");
        made.cert.der().clone()
    }

    fn config(&self) -> EdgeConfig {
        let mut config = config();
        config.tls.certificate = Some(self.certificate.clone());
        config.tls.key = Some(self.key.clone());
        config.tls.reload = Span::from_millis(20);
        config
    }
}

async fn connect(
    edge: &Running,
    trusted: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(client))
        .connect(name, edge.open().await)
        .await
}

fn router() -> Router {
    Router::new()
        .route(
            "/",
            get(|Extension(ViaTls(tls)): Extension<ViaTls>| async move { format!("tls {tls}") }),
        )
        .route(
            "/items/{id}",
            get(|Path(id): Path<u32>, take_over: Option<TakeOver>| async move {
                format!("{id} {}", take_over.is_some())
            }),
        )
        .route(
            "/json",
            post(|ApiJson(value): ApiJson<serde_json::Value>| async move { value.to_string() }),
        )
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn a_changed_certificate_is_used_for_new_connections() {
    let (files, first) = Files::new();
    let edge = Running::start(&files.config(), router());
    let mut old = connect(&edge, &first, &[b"http/1.1"]).await.expect("trusted");
    let second = files.renew();
    let began = std::time::Instant::now();
    while connect(&edge, &second, &[]).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "not reloaded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(connect(&edge, &first, &[]).await.is_err(), "the old one is gone");
    old.write_all(GET).await.expect("still open");
    let answer = Answer::read(&mut old).await.expect("an answer");
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"tls true".as_slice())
    );
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_keeps_the_edge_from_starting() {
    let (files, _) = Files::new();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    for (path, content) in [
        (&files.key, other.signing_key.serialize_pem()),
        (&files.key, String::new()),
        (&files.certificate, String::new()),
    ] {
        std::fs::write(path, content).expect("written");
        let error = Edge::bind(&files.config(), Access::Public)
            .err()
            .expect("refused");
        assert!(matches!(error, EdgeError::Tls(_)), "{error}");
        assert!(error.to_string().contains(".pem"), "{error}");
        files.renew();
    }
}

#[tokio::test]
async fn a_silent_handshake_is_cut_off_and_plain_http_is_no_handshake() {
    let (files, _) = Files::new();
    let mut config = files.config();
    config.limits.handshake = Span::from_millis(150);
    let edge = Running::start(&config, router());
    assert!(until_closed(&mut edge.open().await).await.is_empty());
    let mut plain = edge.open().await;
    plain.write_all(GET).await.expect("sent");
    assert!(!until_closed(&mut plain).await.starts_with(b"HTTP"));
    edge.connections.none_open().await;
}

#[tokio::test]
async fn a_stream_over_tls_leaves_hyper_with_its_session() {
    let (sender, mut taken) = mpsc::unbounded_channel();
    let stream = move |take_over: Option<TakeOver>| async move {
        let take_over = take_over.expect("HTTP/1.1");
        let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n");
        take_over.take(head, move |taken| drop(sender.send(taken))).await
    };
    let (files, certificate) = Files::new();
    let edge = Running::start(&files.config(), Router::new().route("/stream", get(stream)));
    for protocols in [&[b"http/1.1".as_slice()] as &[_], &[]] {
        let mut client = connect(&edge, &certificate, protocols).await.expect("trusted");
        client
            .write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\nahead")
            .await
            .expect("sent");
        let taken = taken.recv().await.expect("taken over");
        assert_eq!(&taken.read[..], b"ahead");
        let Socket::Tls(mut socket, mut session) = taken.socket else {
            panic!("TLS")
        };
        std::io::Write::write_all(&mut session.writer(), b"hello").expect("buffered");
        let mut sealed = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut sealed).expect("memory takes all");
        }
        socket.write_all(&sealed).await.expect("sent");
        let answer = Answer::read(&mut client).await.expect("the head");
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
        let mut got = [0; 5];
        client.read_exact(&mut got).await.expect("the first bytes");
        assert_eq!(&got, b"hello");
    }
}

fn client(certificate: Option<&CertificateDer<'static>>) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    match certificate {
        Some(certificate) => {
            let certificate = reqwest::Certificate::from_der(certificate).expect("a certificate");
            builder.tls_certs_only([certificate])
        }
        None => builder.http2_prior_knowledge(),
    }
    .build()
    .expect("a client")
}

#[tokio::test]
async fn http2_is_spoken_with_tls_and_without() {
    let (files, certificate) = Files::new();
    for tls in [true, false] {
        let edge = Running::start(&if tls { files.config() } else { config() }, router());
        let scheme = if tls { "https" } else { "http" };
        let base = format!("{scheme}://localhost:{}", edge.address.port());
        let client = client(tls.then_some(&certificate));
        let answers = futures_util::future::join_all(
            (0..300).map(|id| client.get(format!("{base}/items/{id}")).send()),
        )
        .await;
        for (id, answer) in answers.into_iter().enumerate() {
            let answer = answer.expect("an answer");
            assert_eq!(answer.version(), http::Version::HTTP_2);
            assert_eq!(
                answer.text().await.expect("text"),
                format!("{id} false"),
                "streams stay on hyper"
            );
        }
        let missing = client
            .get(format!("{base}/nowhere?x=1"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(missing.status(), 404);
        assert_eq!(missing.headers()["x-content-type-options"], "nosniff");
        let problem: serde_json::Value = missing.json().await.expect("JSON");
        assert_eq!(
            (&problem["instance"], &problem["code"]),
            (&"/nowhere".into(), &"not_found".into())
        );
        let large = client
            .post(format!("{base}/json"))
            .header("content-type", "application/json")
            .body("9".repeat(300_000));
        assert_eq!(large.send().await.expect("an answer").status(), 413);
        let long = client
            .get(format!("{base}/{}", "u".repeat(9_000)))
            .send()
            .await
            .expect("an answer");
        assert_eq!(long.status(), 414);
        let mut many = client.get(&base);
        for at in 0..150 {
            many = many.header(format!("x-{at}"), "v");
        }
        assert_eq!(many.send().await.expect("an answer").status(), 431);
        let huge = client
            .get(&base)
            .header("x-huge", "v".repeat(40_000))
            .send()
            .await;
        assert!(huge.is_err() || huge.is_ok_and(|answer| answer.status() == 431));
        assert_eq!(
            client
                .get(&base)
                .send()
                .await
                .expect("an answer")
                .text()
                .await
                .expect("text"),
            format!("tls {tls}")
        );
    }
}
