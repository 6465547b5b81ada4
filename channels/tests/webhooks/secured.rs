//! TLS: whom it trusts, under which name, and what it carries.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_channels::{
    outbound::{Outbound, OutboundConfig, Resolve},
    webhook::WebhookChannel,
};
use carillon_domain::{Fault, Outcome, SystemClock, ports::Channel as _};
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::receiver::{Receiver, config, work};

struct Loopback;

#[async_trait]
impl Resolve for Loopback {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

/// A server for `hooks.example` that says which HTTP it was called with, and its certificate as PEM.
async fn secured(protocol: &[u8]) -> (Receiver, String) {
    let made = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let receiver = Receiver::start(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(socket).await else {
                return;
            };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = TokioIo::new(stream);
            let answer = service_fn(|request: Request<Incoming>| async move {
                let said = if request.version() == Version::HTTP_2 {
                    "h2"
                } else {
                    "h1"
                };
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(said.as_bytes()))))
            });
            if is_h2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, answer).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, answer)
                    .await;
            }
        }
    })
    .await;
    (receiver, pem)
}

fn trusting(pem: Option<&str>) -> (WebhookChannel, Option<tempfile::NamedTempFile>) {
    let file = pem.map(|pem| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        file
    });
    let config = OutboundConfig {
        ca: file.as_ref().map(|file| file.path().to_owned()),
        ..config()
    };
    let outbound = Outbound::with_resolver(&config, [], Arc::new(Loopback)).unwrap();
    (WebhookChannel::new(outbound, Arc::new(SystemClock)), file)
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_and_connections_serve_again() {
    for (protocol, said) in [(&b"h2"[..], "h2"), (&b"http/1.1"[..], "h1")] {
        let (receiver, pem) = secured(protocol).await;
        let (channel, _file) = trusting(Some(&pem));
        let work = work(&format!("https://hooks.example:{}/", receiver.address.port()));
        for _ in 0..5 {
            let report = channel.attempt(&work).await;
            assert_eq!(report.outcome, Outcome::Delivered { provider_id: None }, "{said}");
            assert_eq!(report.excerpt.as_deref(), Some(said));
        }
        assert_eq!(receiver.connections(), 1, "{said}");
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_we_trust_or_for_another_name_is_not_accepted() {
    let (receiver, pem) = secured(b"http/1.1").await;
    let port = receiver.address.port();
    for (trusted, url) in [
        (None, format!("https://hooks.example:{port}/")),
        (Some(pem.as_str()), format!("https://other.example:{port}/")),
        (Some(pem.as_str()), format!("https://127.0.0.1:{port}/")),
    ] {
        let (channel, _file) = trusting(trusted);
        let report = channel.attempt(&work(&url)).await;
        let Outcome::Retry { reason, fault, .. } = &report.outcome else {
            panic!("{url}: {report:?}")
        };
        assert_eq!(reason, "the host's certificate was not accepted");
        assert_eq!(*fault, Fault::Provider);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_tried_later() {
    let plain = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (channel, _file) = trusting(None);
    let url = format!("https://hooks.example:{}/", plain.address.port());
    let report = channel.attempt(&work(&url)).await;
    assert!(
        matches!(
            report.outcome,
            Outcome::Retry {
                fault: Fault::Provider,
                ..
            }
        ),
        "{report:?}"
    );
}

#[test]
fn a_file_that_holds_no_authority_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nothing").unwrap();
    let config = OutboundConfig {
        ca: Some(file.path().to_owned()),
        ..config()
    };
    let error = Outbound::open(&config, []).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}
