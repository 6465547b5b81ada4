use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message},
};

use super::wait::{DEADLINE, within};

/// What a socket receives, pings left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    /// One JSON object: a reply or a push.
    Json(Value),
    /// The close frame, or 1006 when the connection ended without one.
    Closed(u16, String),
}

/// A client of Centrifugo's protocol in JSON, no cleverer than the frames.
pub(crate) struct Ws {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_command: u64,
    /// Parsed from a frame that held several.
    pending: VecDeque<Value>,
    /// Received while waiting for something else.
    kept: VecDeque<Value>,
    /// The connect reply.
    pub(crate) connected: Value,
    /// How many pings came.
    pub(crate) pings: usize,
    /// Whether pings are answered, as they must be.
    pub(crate) answers_pings: bool,
}

impl Ws {
    pub(crate) async fn open(url: &str) -> Self {
        let (socket, _) = within("the WebSocket handshake", tokio_tungstenite::connect_async(url))
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        Self::over(socket)
    }

    /// As [`Self::open`]; `None` while the server is away.
    pub(crate) async fn try_open(url: &str) -> Option<Self> {
        let opened = tokio::time::timeout(DEADLINE, tokio_tungstenite::connect_async(url)).await;
        Some(Self::over(opened.ok()?.ok()?.0))
    }

    fn over(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self {
            socket,
            last_command: 0,
            pending: VecDeque::new(),
            kept: VecDeque::new(),
            connected: Value::Null,
            pings: 0,
            answers_pings: true,
        }
    }

    /// Sends a text frame as it is.
    pub(crate) async fn text(&mut self, frame: impl Into<String>) {
        within(
            "a frame to be sent",
            self.socket.send(Message::text(frame.into())),
        )
        .await
        .expect("the socket is open");
    }

    /// Sends a text frame unless the connection is gone.
    pub(crate) async fn try_text(&mut self, frame: String) {
        let _ = tokio::time::timeout(DEADLINE, self.socket.send(Message::text(frame))).await;
    }

    /// Sends a command and waits for its reply; pushes that come first are kept for [`Self::push`].
    #[track_caller]
    pub(crate) fn command(&mut self, name: &str, body: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            self.last_command += 1;
            let id = self.last_command;
            let mut command = json!({"id": id});
            command[name] = body;
            self.text(command.to_string()).await;
            within(&format!("the reply to `{name}` at {caller}"), async {
                loop {
                    match self.receive().await {
                        Received::Json(reply) if reply["id"] == id => return reply,
                        Received::Json(push) => self.kept.push_back(push),
                        Received::Closed(code, reason) => {
                            panic!("closed with {code} `{reason}` before the reply to `{name}` at {caller}")
                        }
                    }
                }
            })
            .await
        }
    }

    /// `rpc`: the reply's data, or its error.
    pub(crate) async fn rpc(&mut self, method: &str, data: Value) -> Result<Value, Value> {
        let reply = self.command("rpc", json!({"method": method, "data": data})).await;
        match reply.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(reply["rpc"]["data"].clone()),
        }
    }

    /// The next publication in `channel`; others are passed over.
    #[track_caller]
    pub(crate) fn publication(&mut self, channel: &str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            within(&format!("a publication in {channel} at {caller}"), async {
                loop {
                    let push = match self.kept.pop_front() {
                        Some(push) => push,
                        None => match self.receive().await {
                            Received::Json(push) => push,
                            Received::Closed(code, reason) => panic!("closed: {code} `{reason}` at {caller}"),
                        },
                    };
                    if push["push"]["channel"] == channel && push["push"].get("pub").is_some() {
                        return push["push"]["pub"].clone();
                    }
                }
            })
            .await
        }
    }

    /// The next change of the mailbox, with its offset.
    #[track_caller]
    pub(crate) fn change(&mut self) -> impl Future<Output = (u64, Value)> {
        let publication = self.publication("carillon:inbox");
        async move {
            let publication = publication.await;
            let offset = publication["offset"].as_u64().expect("an offset");
            (offset, publication["data"].clone())
        }
    }

    /// Waits for the end, passing over what comes before.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        within("the close of the socket", async {
            loop {
                if let Received::Closed(code, reason) = self.receive().await {
                    return (code, reason);
                }
            }
        })
        .await
    }

    /// The next JSON object or the end. Answers pings; several objects in one frame come one by one.
    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            if let Some(object) = self.pending.pop_front() {
                return Received::Json(object);
            }
            let frame = match self.socket.next().await {
                Some(Ok(frame)) => frame,
                None | Some(Err(Error::ConnectionClosed | Error::Io(_) | Error::Protocol(_))) => {
                    return Received::Closed(1006, String::new());
                }
                Some(Err(error)) => panic!("the socket: {error}"),
            };
            match frame {
                Message::Text(text) => {
                    for line in text.lines().filter(|line| !line.is_empty()) {
                        let object: Value = serde_json::from_str(line)
                            .unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
                        if object == json!({}) {
                            self.pings += 1;
                            if self.answers_pings {
                                // The other side may be gone already; the next read says so.
                                let _ = self.socket.send(Message::text("{}")).await;
                            }
                        } else {
                            self.pending.push_back(object);
                        }
                    }
                }
                Message::Close(frame) => {
                    return frame.map_or_else(
                        || Received::Closed(1005, String::new()),
                        |frame| Received::Closed(frame.code.into(), frame.reason.to_string()),
                    );
                }
                _ => {}
            }
        }
    }

    /// Ends the connection without a close frame, as a lost network does.
    pub(crate) fn cut(self) {
        drop(self);
    }
}
