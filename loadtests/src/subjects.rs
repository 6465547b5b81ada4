//! What is measured: a server, how connections to it are opened and how publications get into it. Carillon, the floor and
//! each peer are one.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::{
    commands::{Kind, Plan},
    fleet::Load,
    marks,
    process::Server,
    tree,
};

/// Bytes of data of a publication, the same for all.
pub(crate) const DATA: usize = 100;
/// The topic of most scenarios.
pub(crate) const TOPIC: &str = "live.bench";
/// So many users have a token each.
const USERS: usize = 20_000;
const SECRET: &str = "a shared secret of the load generator";

/// A running server.
pub(crate) trait Subject {
    fn name(&self) -> &'static str;

    /// Its processes, all of which count.
    fn processes(&self) -> Result<Vec<u32>>;

    /// How a connection is opened that gets what is published to a topic; `None`: it cannot.
    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan>;

    /// Port and whole request that publish these.
    fn publish(&self, topic: &str, data: &[String]) -> (u16, String);

    /// A file with a token per line.
    fn tokens(&self) -> Option<&Path> {
        None
    }

    /// CPU time so far.
    fn cpu(&self) -> Result<Duration> {
        tree::cpu(&self.processes()?)
    }

    /// Anonymous and shared memory in bytes, pages that several have counted by share.
    fn memory(&self) -> Result<u64> {
        let processes = self.processes()?;
        Ok(tree::memory(&processes, "Pss_Anon")? + tree::memory(&processes, "Pss_Shmem")?)
    }
}

/// One publication per request to [`TOPIC`] by the clock.
pub(crate) fn steadily(subject: &dyn Subject, receivers: u64, count: u64, per_second: f64) -> Load {
    let (port, request) = subject.publish(TOPIC, &[marks::blank(DATA)]);
    Load {
        port,
        requests: vec![request],
        batch: 1,
        receivers,
        // One after the other: that is what gives them an order.
        connections: 1,
        count,
        per_second,
    }
}

/// A plan without a greeting.
pub(crate) fn plan(port: u16, kind: Kind, path: &str) -> Plan {
    let headers = match kind {
        Kind::WebSocket => {
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: BwcHBwcHBwcHBwcHBwcHBw=="
        }
        Kind::Sse => "Accept: text/event-stream",
    };
    Plan {
        port,
        kind,
        request: format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n\r\n"),
        frames: Vec::new(),
        ready: String::new(),
        ping: String::new(),
        pong: String::new(),
        epochs: Vec::new(),
    }
}

/// A POST.
pub(crate) fn post(port: u16, path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A hub that is a subcommand of this program.
pub(crate) struct Own {
    name: &'static str,
    server: Server,
}

impl Own {
    /// The barest hub: the floor.
    pub(crate) fn floor() -> Result<Self> {
        Self::start("bare send loop", "bare-hub")
    }

    /// Starts the subcommand `command`, which serves `/ws/TOPIC`, `/sse/TOPIC` and `/publish/TOPIC`.
    pub(crate) fn start(name: &'static str, command: &str) -> Result<Self> {
        let server = Server::own(command)?;
        Ok(Self { name, server })
    }
}

impl Subject for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.server.process()])
    }

    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan> {
        let way = match kind {
            Kind::WebSocket => "ws",
            Kind::Sse => "sse",
        };
        // The floor's heartbeat is Carillon's.
        Some(Plan {
            ping: "{}".to_owned(),
            pong: "{}".to_owned(),
            ..plan(self.server.port, kind, &format!("/{way}/{topic}"))
        })
    }

    fn publish(&self, topic: &str, data: &[String]) -> (u16, String) {
        let path = format!("/publish/{topic}");
        (
            self.server.port,
            post(self.server.port, &path, "", &data.join("\n")),
        )
    }
}

/// Carillon on embedded storage, with its defaults; connections are authenticated by HS256 tokens of different users.
pub(crate) struct Carillon {
    pub(crate) server: Server,
    tokens: PathBuf,
    _folder: tempfile::TempDir,
}

impl Carillon {
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let server = Server::carillon_with(program, &[("AUTH__HMAC_SECRET", SECRET.to_owned())])?;
        let folder = tempfile::tempdir()?;
        let tokens = folder.path().join("tokens");
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let mut lines = String::new();
        for user in 0..USERS {
            let claims = json!({"sub": format!("user{user}"), "exp": 4_000_000_000_u64, "topics": {"subscribe": ["*"]}});
            writeln!(lines, "{}", encode(&Header::default(), &claims, &key)?)?;
        }
        std::fs::write(&tokens, lines)?;
        Ok(Self {
            server,
            tokens,
            _folder: folder,
        })
    }

    /// The way back after a cut: the topic goes on behind a position.
    pub(crate) fn resume(&self, topic: &str, epoch: &str, offset: &str) -> Plan {
        let mut plan = self.websocket(topic);
        plan.frames[1] = format!(
            r#"{{"id":2,"subscribe":{{"channel":"{topic}","recover":true,"epoch":"{epoch}","offset":{offset}}}}}"#
        );
        plan
    }

    fn websocket(&self, topic: &str) -> Plan {
        Plan {
            frames: vec![
                r#"{"id":1,"connect":{"token":"{token}"}}"#.to_owned(),
                format!(r#"{{"id":2,"subscribe":{{"channel":"{topic}"}}}}"#),
            ],
            ping: "{}".to_owned(),
            pong: "{}".to_owned(),
            ..plan(self.server.port, Kind::WebSocket, "/connection/websocket")
        }
    }
}

impl Subject for Carillon {
    fn name(&self) -> &'static str {
        "Carillon"
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.server.process()])
    }

    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan> {
        Some(match kind {
            Kind::WebSocket => self.websocket(topic),
            Kind::Sse => {
                let path = format!("/v1/stream?inbox=false&topic={topic}");
                let mut plan = plan(self.server.port, Kind::Sse, &path);
                plan.request = plan
                    .request
                    .replace("Accept:", "Authorization: Bearer {token}\r\nAccept:");
                "position".clone_into(&mut plan.ready);
                plan
            }
        })
    }

    fn publish(&self, topic: &str, data: &[String]) -> (u16, String) {
        let items: Vec<_> = data
            .iter()
            .map(|data| format!(r#"{{"data":"{data}"}}"#))
            .collect();
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.server.key
        );
        let body = format!(r#"{{"publications":[{}]}}"#, items.join(","));
        let path = format!("/v1/topics/{topic}/publish");
        (self.server.port, post(self.server.port, &path, &headers, &body))
    }

    fn tokens(&self) -> Option<&Path> {
        Some(&self.tokens)
    }
}
