//! What an idle connection costs.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use carillon_runtime::config::Span;
use serde_json::json;

use crate::{
    client::{Sse, Ws},
    world::Server,
};

/// Enough that the process's own few pages do not count.
const CONNECTIONS: usize = 2_000;
/// User-space memory of one idle connection, in bytes.
const LIMIT: usize = 4 * 1024;
/// Tells the test binary that it is the measured server.
const MEASURED: &str = "CARILLON_HUB_TEST_MEASURED";

/// Not a test of its own: the process that [`Measured`] watches, apart from its clients.
#[tokio::test]
async fn measured_server() {
    if std::env::var_os(MEASURED).is_none() {
        return;
    }
    // Opening them all may take longer than a ping's answer, and the clients read only afterwards.
    let server = Server::configured(|config| config.ping_interval = Span::from_secs(600));
    // What the ports in memory keep for each user is not the hub's.
    for number in 0..CONNECTIONS + 10 {
        let name = format!("user{number}");
        server.world.token(&name);
        server.world.log(&name, "before");
    }
    let mut line = String::new();
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nlistening {}", server.address).unwrap();
        out.flush().unwrap();
    }
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
}

/// A server in a process of its own.
struct Measured {
    child: Child,
    address: SocketAddr,
}

impl Measured {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "memory::measured_server",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(MEASURED, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.ok()?.strip_prefix("listening ")?.to_owned()))
            .unwrap();
        Self {
            address: address.parse().unwrap(),
            child,
        }
    }

    /// Anonymous memory in bytes, once nothing moves any more.
    async fn memory(&self) -> usize {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss_Anon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Bytes per connection, given the memory before them.
    async fn cost(&self, before: usize, what: &str) -> usize {
        let cost = (self.memory().await - before) / CONNECTIONS;
        writeln!(std::io::stdout().lock(), "{cost} bytes of memory per idle {what}").unwrap();
        cost
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn token(number: usize) -> String {
    format!("token-user{number}-{number}")
}

/// A user each, with a mailbox and a topic; every one has sent and received.
#[tokio::test]
async fn an_idle_websocket_costs_little() {
    let server = Measured::start();
    // The first ones pay for what all share.
    let mut warm = Vec::new();
    for number in CONNECTIONS..CONNECTIONS + 10 {
        warm.push(Ws::connect(server.address, &token(number)).await.0);
    }
    let before = server.memory().await;
    let mut sockets = Vec::new();
    for number in 0..CONNECTIONS {
        let (mut ws, connected) = Ws::connect(server.address, &token(number)).await;
        assert!(connected["subs"]["carillon:inbox"].is_object());
        ws.command("subscribe", json!({"channel": "room.1"})).await;
        sockets.push(ws);
    }
    sockets[0]
        .command("publish", json!({"channel": "room.1", "data": "to all of them"}))
        .await;
    for ws in &mut sockets {
        assert_eq!(ws.push().await["pub"]["data"], "to all of them");
    }
    let cost = server.cost(before, "WebSocket").await;
    assert!(cost <= LIMIT, "{cost} bytes");
}

#[tokio::test]
async fn an_idle_stream_costs_little() {
    let server = Measured::start();
    let mut warm = Vec::new();
    for number in CONNECTIONS..CONNECTIONS + 10 {
        warm.push(Sse::open(server.address, &token(number), "").await);
    }
    let mut publisher = Ws::connect(server.address, &token(CONNECTIONS)).await.0;
    let before = server.memory().await;
    let mut streams = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = Sse::open(server.address, &token(number), "?topic=room.1").await;
        stream.position().await;
        streams.push(stream);
    }
    publisher
        .command("publish", json!({"channel": "room.1", "data": "to all of them"}))
        .await;
    for stream in &mut streams {
        assert_eq!(stream.next().await.data["data"], "to all of them");
    }
    let cost = server.cost(before, "stream").await;
    assert!(cost <= LIMIT, "{cost} bytes");
}
