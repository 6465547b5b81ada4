//! Servers that speak the Pusher protocol (version 7): soketi on Node, sockudo in Rust. What is published must be signed
//! with its time and the digest of its body, so a thread of this program on the clients' core signs it and passes it on.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use super::{Peer, Processes, folder, pinned, said};
use crate::{
    commands::{Kind, Plan},
    connect::{impatient, read_head},
    http::Client,
    process::free_port,
    subjects::{Subject, plan, post},
};

const APP: &str = "bench";
const KEY: &str = "bench-key";
const SECRET: &str = "bench-secret";

pub(super) struct Soketi;

impl Peer for Soketi {
    fn name(&self) -> &'static str {
        "soketi"
    }

    fn version(&self) -> Option<String> {
        let package = std::fs::read_to_string(module().join("package.json")).ok()?;
        let package: Value = serde_json::from_str(&package).ok()?;
        let node = said("node", &["--version"])?;
        Some(format!("soketi {} on Node {node}", package["version"].as_str()?))
    }

    fn start(&self) -> Result<Box<dyn Subject>> {
        let port = free_port()?;
        let folder = tempfile::tempdir()?;
        let child = pinned("node")
            .arg(module().join("bin/server.js"))
            .arg("start")
            .env("SOKETI_HOST", "127.0.0.1")
            .env("SOKETI_PORT", port.to_string())
            .env("SOKETI_METRICS_HOST", "127.0.0.1")
            .env("SOKETI_METRICS_SERVER_PORT", free_port()?.to_string())
            .env("SOKETI_DEFAULT_APP_ID", APP)
            .env("SOKETI_DEFAULT_APP_KEY", KEY)
            .env("SOKETI_DEFAULT_APP_SECRET", SECRET)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .spawn()
            .context("node")?;
        running(self.name(), child, folder, port)
    }
}

/// Where npm put it.
fn module() -> std::path::PathBuf {
    folder().join("soketi/node_modules/@soketi/soketi")
}

pub(super) struct Sockudo;

impl Peer for Sockudo {
    fn name(&self) -> &'static str {
        "sockudo"
    }

    fn version(&self) -> Option<String> {
        // Whatever it makes of the question, it must not go on running.
        let output = Command::new("timeout")
            .args(["5", "sockudo", "--version"])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        output
            .status
            .success()
            .then(|| text.lines().next().unwrap_or("sockudo").trim().to_owned())
    }

    fn how(&self) -> &'static str {
        "SOCKUDO=1 loadtests/peers/install.sh, which compiles it for 10 to 19 minutes"
    }

    fn start(&self) -> Result<Box<dyn Subject>> {
        let port = free_port()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sockudo.json");
        let app = json!({"id": APP, "key": KEY, "secret": SECRET, "max_connections": "20000", "enabled": true,
            "enable_client_messages": false, "max_client_events_per_second": "100"});
        let memory = json!({"driver": "memory"});
        let configuration = json!({"host": "127.0.0.1", "port": port, "mode": "production", "metrics": {"enabled": false},
            "adapter": {"driver": "local"}, "cache": memory, "queue": memory, "rate_limiter": {"enabled": false},
            "app_manager": {"driver": "memory", "array": {"apps": [app]}}});
        std::fs::write(&file, configuration.to_string())?;
        let child = pinned("sockudo")
            .arg(format!("--config={}", file.display()))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .spawn()
            .context("sockudo")?;
        running(self.name(), child, folder, port)
    }
}

fn running(
    name: &'static str,
    child: std::process::Child,
    folder: tempfile::TempDir,
    port: u16,
) -> Result<Box<dyn Subject>> {
    let mut processes = Processes {
        children: vec![child],
        folder,
    };
    processes.wait(port)?;
    Ok(Box::new(Running {
        name,
        processes,
        port,
        signer: signer(port)?,
    }))
}

struct Running {
    name: &'static str,
    processes: Processes,
    port: u16,
    /// Where what is published is signed.
    signer: u16,
}

impl Subject for Running {
    fn name(&self) -> &'static str {
        self.name
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.processes.all()
    }

    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan> {
        // It has no event streams.
        (kind == Kind::WebSocket).then(|| Plan {
            // Its greeting comes first, then the subscription, which it acknowledges.
            frames: vec![
                String::new(),
                json!({"event": "pusher:subscribe", "data": {"channel": topic}}).to_string(),
            ],
            ..plan(self.port, kind, &format!("/app/{KEY}?protocol=7"))
        })
    }

    fn publish(&self, topic: &str, data: &[String]) -> (u16, String) {
        let path = format!("/publish/{topic}");
        (self.signer, post(self.signer, &path, "", &data.join("\n")))
    }
}

/// Listens for `POST /publish/TOPIC` until the bench ends.
fn signer(server: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                // The publisher finds its connection closed, and says so; an idle one ends here as well.
                let _ = pass_on(stream, server);
            });
        }
    });
    Ok(port)
}

/// Answers each request once the server has answered the signed one.
fn pass_on(mut stream: TcpStream, server: u16) -> Result<()> {
    impatient(&stream)?;
    loop {
        let head = read_head(&mut stream)?;
        let topic = head
            .split(' ')
            .nth(1)
            .and_then(|path| path.strip_prefix("/publish/"))
            .context("another path")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
            .context("a POST without a length")?;
        let mut data = vec![0; length];
        stream.read_exact(&mut data)?;
        let body = json!({"name": "m", "channels": [topic], "data": String::from_utf8(data)?}).to_string();
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let path = signed(&body, now);
        let request = post(server, &path, "Content-Type: application/json\r\n", &body);
        // soketi closes the connection behind each answer.
        let (status, answer) = Client::connect(server, "")?.exchange(request.as_bytes())?;
        ensure!(
            status == 200,
            "publish: {status} {}",
            String::from_utf8_lossy(&answer)
        );
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

/// Path and query of an event with this body: HMAC-SHA256 over method, path and the sorted query, which holds the time
/// (seconds since 1970) and the body's MD5.
fn signed(body: &str, now: u64) -> String {
    let path = format!("/apps/{APP}/events");
    let digest = hex::encode(Md5::digest(body));
    let query = format!("auth_key={KEY}&auth_timestamp={now}&auth_version=1.0&body_md5={digest}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("POST\n{path}\n{query}").as_bytes());
    format!("{path}?{query}&auth_signature={}", hex::encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        let one = signed("{}", 1_700_000_000);
        assert!(
            one.starts_with("/apps/bench/events?auth_key=bench-key&auth_timestamp=1700000000&auth_version=1.0&body_md5=99914b932bd37a50b983c5e7c90ae93b&auth_signature="),
            "{one}"
        );
        let tag = |path: &str| path.rsplit_once('=').map(|(_, tag)| tag.to_owned());
        assert_eq!(tag(&one).map(|tag| tag.len()), Some(64));
        assert_ne!(tag(&one), tag(&signed("{}", 1_700_000_001)));
        assert_ne!(tag(&one), tag(&signed("[]", 1_700_000_000)));
    }
}
