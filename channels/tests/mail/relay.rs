//! Servers that do what a test says, over real sockets.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use carillon_channels::email::EmailConfig;
use carillon_runtime::config::Span;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::given::at;

/// A relay whose every connection is handled so.
pub(crate) struct Relay {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    /// Listens until the test's runtime ends.
    pub(crate) async fn start<F, H>(handle: F) -> Self
    where
        F: Fn(Peer) -> H + Send + 'static,
        H: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(handle(Peer(BufReader::new(stream))));
            }
        });
        Self { address, connections }
    }

    /// To reach it, with a second of patience.
    pub(crate) fn config(&self) -> EmailConfig {
        EmailConfig {
            timeout: Span::from_secs(1),
            connect_timeout: Span::from_secs(1),
            ..at(&self.address.to_string())
        }
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The client's end of a connection, as the server sees it.
pub(crate) struct Peer(BufReader<TcpStream>);

impl Peer {
    pub(crate) async fn say(&mut self, text: &str) {
        // The client may have left.
        let _ = self.0.get_mut().write_all(text.as_bytes()).await;
    }

    /// The next line; empty when the client left.
    pub(crate) async fn hear(&mut self) -> String {
        let mut line = String::new();
        let _ = self.0.read_line(&mut line).await;
        line
    }

    /// Answers everything up to a command that begins with `until`, offering `offers`.
    pub(crate) async fn serve_until(&mut self, offers: &str, until: &str) {
        self.say("220 ready\r\n").await;
        loop {
            let line = self.hear().await;
            if line.is_empty() || line.starts_with(until) {
                return;
            }
            let answer = match line.as_str() {
                _ if line.starts_with("EHLO") => format!("250-relay\r\n{offers}250 OK\r\n"),
                "DATA\r\n" => "354 go on\r\n".to_owned(),
                _ => "250 OK\r\n".to_owned(),
            };
            self.say(&answer).await;
        }
    }

    /// Reads a message to its end.
    pub(crate) async fn hear_message(&mut self) {
        loop {
            let line = self.hear().await;
            if line.is_empty() || line == ".\r\n" {
                return;
            }
        }
    }

    /// Says nothing more, and stays.
    pub(crate) async fn hang(&mut self) {
        std::future::pending().await
    }

    /// Ends the connection at once.
    pub(crate) fn reset(self) {
        let _ = self.0.get_ref().set_zero_linger();
    }
}
