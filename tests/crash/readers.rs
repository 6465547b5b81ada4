use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::ledger::Ledger;
use crate::harness::{Api, Received, Sse, Ws};

/// Confirms every so many changes; what is not confirmed comes again after a reconnect, and is dropped by `seq`.
const CONFIRM_EVERY: u64 = 40;
/// Every so many changes, one is read.
const READ_EVERY: u64 = 11;

/// Whom a reader reads for.
pub(super) struct Reader {
    pub(super) api: Api,
    pub(super) ledger: Arc<Ledger>,
    pub(super) user: usize,
    pub(super) epoch: String,
    pub(super) stop: watch::Receiver<bool>,
}

impl Reader {
    fn last_seq(&self, kind: &'static str) -> u64 {
        self.ledger
            .state()
            .shown
            .entry((self.user, kind))
            .or_default()
            .last_seq
    }

    fn seq_of(position: &str) -> u64 {
        position
            .rsplit_once('-')
            .and_then(|(_, seq)| seq.parse().ok())
            .unwrap_or(0)
    }

    /// Follows the mailbox over SSE, coming back by `Last-Event-ID`, until told to stop.
    pub(super) async fn over_sse(self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = async { loop { self.one_stream().await; tokio::time::sleep(Duration::from_millis(15)).await; } } => {}
        }
    }

    async fn one_stream(&self) {
        let request = self
            .api
            .request(reqwest::Method::GET, "/v1/stream?device=browser")
            .header(
                "last-event-id",
                format!("{}-{}", self.epoch, self.last_seq("sse")),
            );
        let Some(mut stream) = Sse::try_open(request).await else {
            return;
        };
        let mut connection = 0;
        while let Some(event) = stream.next_or_end().await {
            match event.event.as_str() {
                "position" | "bye" => {}
                "gap" => self.ledger.gap(
                    self.user,
                    "sse",
                    &event.data["reason"],
                    Self::seq_of(event.data["position"].as_str().unwrap_or_default()),
                ),
                _ => {
                    let seq = event.seq();
                    self.ledger
                        .receive(self.user, "sse", &mut connection, seq, &event.data);
                    if seq.is_multiple_of(CONFIRM_EVERY) {
                        let ack = json!({"device": "browser", "acks": [{"kind": "delivered", "position": event.id}]});
                        // Automatic and cumulative: one that is lost is made good by the next.
                        let _ = self
                            .api
                            .request(reqwest::Method::POST, "/v1/acks")
                            .json(&ack)
                            .send()
                            .await;
                    }
                    if seq.is_multiple_of(READ_EVERY) {
                        self.read(&event.data).await;
                    }
                }
            }
        }
    }

    /// Reads an entry. Only an answered acknowledgement is held against the server.
    async fn read(&self, change: &Value) {
        let Some(entry) = change["entry"]["id"].as_str() else {
            return;
        };
        let ack = json!({"acks": [{"kind": "read", "entry": entry}]});
        let sent = self
            .api
            .request(reqwest::Method::POST, "/v1/acks")
            .json(&ack)
            .send()
            .await;
        if sent.is_ok_and(|answer| answer.status() == 200) {
            let answered = now();
            let mut state = self.ledger.state();
            state.read.push((self.user, entry.to_owned()));
            if let Some(number) = change["entry"]["content"]["data"]["n"].as_u64() {
                state.answered.entry((self.user, number)).or_insert(answered);
            }
        }
    }

    /// Follows the mailbox over WebSocket, recovering by epoch and offset, until told to stop.
    pub(super) async fn over_websocket(self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = async { loop { self.one_socket().await; tokio::time::sleep(Duration::from_millis(15)).await; } } => {}
        }
    }

    async fn one_socket(&self) {
        let url = self.api.url("/connection/websocket").replacen("http", "ws", 1);
        let Some(mut socket) = Ws::try_open(&url).await else {
            return;
        };
        let connect = json!({"id": 1, "connect": {
            "token": self.api.credential(),
            "data": {"device": "phone"},
            "subs": {"carillon:inbox": {"recover": true, "epoch": self.epoch, "offset": self.last_seq("websocket")}},
        }});
        socket.try_text(connect.to_string()).await;
        let mut connection = 0;
        let mut command = 1;
        loop {
            let received = match socket.receive().await {
                Received::Json(received) => received,
                Received::Closed(3500..4000, reason) => panic!("the reader was sent away: {reason}"),
                Received::Closed(..) => return,
            };
            let mut changes: Vec<&Value> = Vec::new();
            if let Some(connected) = received.get("connect") {
                let inbox = &connected["subs"]["carillon:inbox"];
                if inbox["recovered"] != true {
                    let offset = inbox["offset"].as_u64().unwrap_or(0);
                    self.ledger.gap(self.user, "websocket", &received, offset);
                }
                changes.extend(inbox["publications"].as_array().into_iter().flatten());
            } else if received["push"]["channel"] == "carillon:inbox" {
                changes.extend(received["push"].get("pub"));
            } else if let Some(error) = received.get("error") {
                // 100 internal: the store is away for a moment, so the client comes back.
                assert_eq!(error["code"], 100, "{received}");
                return;
            }
            for change in changes {
                let seq = change["offset"]
                    .as_u64()
                    .unwrap_or_else(|| panic!("no offset: {change}"));
                self.ledger
                    .receive(self.user, "websocket", &mut connection, seq, &change["data"]);
                if seq.is_multiple_of(CONFIRM_EVERY) {
                    command += 1;
                    let position = format!("{}-{seq}", self.epoch);
                    let ack = json!({"id": command, "rpc": {"method": "carillon.ack",
                        "data": {"device": "phone", "acks": [{"kind": "delivered", "position": position}]}}});
                    socket.try_text(ack.to_string()).await;
                }
            }
        }
    }
}

/// The time of this machine, which is the server's.
#[expect(
    clippy::disallowed_methods,
    reason = "a test compares with the server's real clock"
)]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
