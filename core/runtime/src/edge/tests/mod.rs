//! The edge over real sockets.

mod answers;
mod deadlines;
mod drain;
mod files;
mod internal;
mod limits;
mod take_over;
mod tls;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use super::{Access, Connections, Edge, EdgeConfig, ListenAddress};
use crate::lifecycle::Stop;

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A serving edge. What a test leaves running ends with it.
struct Running {
    address: SocketAddr,
    connections: Connections,
    stop: Stop,
    serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

fn config() -> EdgeConfig {
    EdgeConfig {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        ..EdgeConfig::default()
    }
}

impl Running {
    fn start(config: &EdgeConfig, router: Router) -> Self {
        Self::start_as(config, Access::Public, router)
    }

    fn start_as(config: &EdgeConfig, access: Access, router: Router) -> Self {
        config.validate().expect("a valid configuration");
        let edge = Edge::bind(config, access).expect("a free port");
        let address = match edge.addresses().first() {
            Some(ListenAddress::Tcp(address)) => *address,
            _ => SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let (connections, stop) = (edge.connections(), Stop::new());
        let serving = tokio::spawn(edge.serve(router, stop.clone()));
        Self {
            address,
            connections,
            stop,
            serving,
        }
    }

    async fn open(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("listening")
    }

    /// Sends one whole request on a new connection.
    async fn ask(&self, request: &str) -> Answer {
        let mut stream = self.open().await;
        stream.write_all(request.as_bytes()).await.expect("taken");
        Answer::read(&mut stream).await.expect("an answer")
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }
}

/// An answer read from a socket.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    /// `None` when the connection ends before an answer.
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        timeout(PATIENCE, Self::read_within(stream))
            .await
            .expect("in time")
    }

    async fn read_within(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).expect("text");
        let (first, rest) = head.split_once("\r\n").expect("lines");
        let headers: HashMap<String, String> = rest
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        Some(Self {
            status: first.split(' ').nth(1)?.parse().ok()?,
            headers,
            body,
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Its problem's code, after a look at the problem's shape.
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["trace_id"], self.header("x-trace-id"));
        let code = problem["code"].as_str().expect("a code");
        assert_eq!(problem["type"], format!("https://carillon.dev/problems/{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        code.to_owned()
    }
}

/// Waits for the other side to close, and returns what came before.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset closes too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("closed in time");
    rest
}
