//! The other end of the socket.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future)
        .await
        .unwrap_or_else(|_| panic!("not within ten seconds: {what}"))
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Event {
    pub(crate) fn seq(&self) -> u64 {
        self.id
            .as_ref()
            .unwrap()
            .rsplit_once('-')
            .unwrap()
            .1
            .parse()
            .unwrap()
    }
}

/// A stream over a socket of our own, byte by byte.
pub(crate) struct Sse {
    io: Box<dyn Io>,
    text: String,
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) retries: Vec<u64>,
    pub(crate) comments: usize,
}

impl Sse {
    pub(crate) async fn send(mut io: Box<dyn Io>, path: &str, headers: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: hub.test\r\n{headers}\r\n");
        io.write_all(request.as_bytes()).await.unwrap();
        let mut sse = Self {
            io,
            text: String::new(),
            status: 0,
            head: String::new(),
            retries: vec![],
            comments: 0,
        };
        while !sse.text.contains("\r\n\r\n") {
            assert!(sse.read().await, "no head: {}", sse.text);
        }
        let (head, rest) = sse.text.split_once("\r\n\r\n").unwrap();
        let (head, rest) = (head.to_owned(), rest.to_owned());
        sse.status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (sse.head, sse.text) = (head, rest);
        sse
    }

    pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> Self {
        let io = within("a connection", TcpStream::connect(address)).await.unwrap();
        Self::send(Box::new(io), path, headers).await
    }

    /// With a bearer token.
    pub(crate) async fn open(address: SocketAddr, token: &str, query: &str) -> Self {
        let sse = Self::get(address, &format!("/v1/stream{query}"), &bearer(token)).await;
        assert_eq!(sse.status, 200, "{} {}", sse.head, sse.text);
        sse
    }

    pub(crate) async fn resume(address: SocketAddr, token: &str, query: &str, id: &str) -> Self {
        let headers = format!("{}Last-Event-ID: {id}\r\n", bearer(token));
        let sse = Self::get(address, &format!("/v1/stream{query}"), &headers).await;
        assert_eq!(sse.status, 200, "{} {}", sse.head, sse.text);
        sse
    }

    async fn read(&mut self) -> bool {
        let mut chunk = vec![0; 16 * 1024];
        match within("bytes of the stream", self.io.read(&mut chunk)).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.text.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
                true
            }
        }
    }

    /// The next event; `None` at the stream's end.
    pub(crate) async fn next_or_end(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let (mut name, mut id, mut data) = (None, None, Vec::new());
                for line in block.lines() {
                    match line.split_once(": ").unwrap_or((line, "")) {
                        ("event", value) => name = Some(value.to_owned()),
                        ("id", value) => id = Some(value.to_owned()),
                        ("data", value) => data.push(value.to_owned()),
                        ("retry", value) => self.retries.push(value.parse().unwrap()),
                        (":", "") => self.comments += 1,
                        other => panic!(
                            "unknown line {other:?} in {block:?}, {:?} {:?}",
                            self.text, self.head
                        ),
                    }
                }
                if let Some(name) = name {
                    let data = serde_json::from_str(&data.join("\n")).unwrap();
                    return Some(Event { name, id, data });
                }
            }
            if !self.read().await {
                return None;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        self.next_or_end().await.expect("the stream goes on")
    }

    /// The first event's position.
    pub(crate) async fn position(&mut self) -> String {
        let first = self.next().await;
        assert_eq!(first.name, "position");
        assert_eq!(first.data["position"].as_str(), first.id.as_deref());
        first.id.unwrap()
    }

    pub(crate) async fn comment(&mut self) {
        let before = self.comments;
        while self.comments == before {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                assert_eq!(block, ":", "only a comment");
                self.comments += 1;
                self.text = rest.to_owned();
            } else {
                assert!(self.read().await, "the stream goes on");
            }
        }
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A WebSocket client that says what it is told to and remembers what it got.
pub(crate) struct Ws {
    pub(crate) socket: WebSocketStream<Box<dyn Io>>,
    lines: VecDeque<Value>,
    next_id: u32,
    pub(crate) answers_pings: bool,
    pub(crate) pings: usize,
    pub(crate) pushes: VecDeque<Value>,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Got {
    Line(Value),
    Closed(Option<u16>, String),
}

impl Ws {
    pub(crate) async fn over(io: Box<dyn Io>) -> Self {
        let request = "ws://hub.test/connection/websocket";
        let (socket, _) = within("a handshake", client_async(request, io)).await.unwrap();
        Self {
            socket,
            lines: VecDeque::new(),
            next_id: 1,
            answers_pings: true,
            pings: 0,
            pushes: VecDeque::new(),
        }
    }

    pub(crate) async fn open(address: SocketAddr) -> Self {
        let io = within("a connection", TcpStream::connect(address)).await.unwrap();
        Self::over(Box::new(io)).await
    }

    /// Connects with a token; answers the connect reply too.
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> (Self, Value) {
        Self::connect_with(address, json!({"token": token})).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, connect: Value) -> (Self, Value) {
        let mut ws = Self::open(address).await;
        let reply = ws.command("connect", connect).await;
        assert!(reply.get("error").is_none(), "{reply}");
        (ws, reply["connect"].clone())
    }

    pub(crate) async fn text(&mut self, text: impl Into<String>) {
        let _ = self.socket.send(Message::text(text.into())).await;
    }

    /// Sends a command and waits for its reply; pushes are kept.
    pub(crate) async fn command(&mut self, method: &str, body: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.text(json!({"id": id, method: body}).to_string()).await;
        loop {
            match self.got().await {
                Got::Line(line) if line["id"] == id => return line,
                Got::Line(line) => self.pushes.push_back(line),
                Got::Closed(code, reason) => panic!("closed while waiting for a reply: {code:?} {reason}"),
            }
        }
    }

    /// The next push's `push` object.
    pub(crate) async fn push(&mut self) -> Value {
        if let Some(line) = self.pushes.pop_front() {
            return line["push"].clone();
        }
        match self.got().await {
            Got::Line(line) => line["push"].clone(),
            Got::Closed(code, reason) => panic!("closed: {code:?} {reason}"),
        }
    }

    /// The code and reason of the close that comes next; pushes before it are passed over.
    pub(crate) async fn closed(&mut self) -> (Option<u16>, String) {
        loop {
            if let Got::Closed(code, reason) = self.got().await {
                return (code, reason);
            }
        }
    }

    /// The next line that is no ping.
    pub(crate) async fn got(&mut self) -> Got {
        loop {
            while let Some(line) = self.lines.pop_front() {
                if line != json!({}) {
                    return Got::Line(line);
                }
                self.pings += 1;
                if self.answers_pings {
                    self.text("{}").await;
                }
            }
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    self.lines.extend(
                        text.lines()
                            .map(|line| serde_json::from_str::<Value>(line).unwrap()),
                    );
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((None, String::new()), |frame| {
                        (Some(u16::from(frame.code)), frame.reason.to_string())
                    });
                    return Got::Closed(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Got::Closed(None, "the connection broke off".to_owned()),
            }
        }
    }
}
