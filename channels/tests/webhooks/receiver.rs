//! Far ends on the loopback interface, and work to send them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use carillon_channels::{
    outbound::{Outbound, OutboundConfig},
    webhook::WebhookChannel,
};
use carillon_domain::{
    DeliveryId, SystemClock, TenantId, Timestamp,
    ports::{Message, Operation, SigningKey, Work},
};
use carillon_runtime::config::Span;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server that does with each connection what a test wants, and counts them.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", serve).await
    }

    pub(crate) async fn start_at<F>(at: &str, serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(socket));
            }
        });
        Self { address, connections }
    }

    /// A server that answers every request with the same bytes, and keeps its connections.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut socket| {
            let answer = Arc::clone(&answer);
            async move {
                while request(&mut socket).await.is_some() {
                    if socket.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

/// Reads one request with its body; nothing when the client is gone.
pub(crate) async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        let count = socket.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if body.len() >= length {
            return Some(text.into_owned());
        }
    }
}

/// A configuration that may call loopback, and is not patient.
pub(crate) fn config() -> OutboundConfig {
    OutboundConfig {
        ports: vec!["1-65535".parse().unwrap()],
        allow_networks: vec!["127.0.0.1".parse().unwrap()],
        connect: Span::from_millis(1_000),
        total: Span::from_millis(1_500),
        ..OutboundConfig::default()
    }
}

pub(crate) fn channel(config: &OutboundConfig) -> WebhookChannel {
    WebhookChannel::new(Outbound::open(config, []).unwrap(), Arc::new(SystemClock))
}

pub(crate) fn work(url: &str) -> Work {
    let created_at = Timestamp::parse("2026-11-21T08:00:00Z").unwrap();
    Work {
        tenant: TenantId::default(),
        delivery: DeliveryId::at(created_at),
        attempt: 1,
        operation: Operation::Deliver,
        address: url.parse().unwrap(),
        provider_id: None,
        message: Message::Event {
            kind: "delivery.dead".into(),
            body: r#"{"type":"delivery.dead","timestamp":"2026-11-21T08:00:00Z","data":{"note":"grüße"}}"#
                .into(),
        },
        created_at,
        expires_at: Timestamp::parse("2026-11-22T08:00:00Z").unwrap(),
        keys: vec![SigningKey::new(SECRET)],
    }
}
