//! Socket.IO on Node: rooms over WebSocket. Its server is `loadtests/peers/socketio.cjs`.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::{Peer, Processes, folder, pinned, said};
use crate::{
    commands::{Kind, Plan},
    process::free_port,
    subjects::{Subject, plan, post},
};

pub(super) struct SocketIo;

impl Peer for SocketIo {
    fn name(&self) -> &'static str {
        "Socket.IO"
    }

    fn version(&self) -> Option<String> {
        let package = folder().join("node_modules/socket.io/package.json");
        let package: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(package).ok()?).ok()?;
        let node = said("node", &["--version"])?;
        Some(format!(
            "Socket.IO {} on Node {node}",
            package["version"].as_str()?
        ))
    }

    fn start(&self) -> Result<Box<dyn Subject>> {
        let port = free_port()?;
        let child = pinned("node")
            .arg(folder().join("socketio.cjs"))
            .arg(port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .context("node")?;
        let mut processes = Processes {
            children: vec![child],
            folder: tempfile::tempdir()?,
        };
        processes.wait(port)?;
        Ok(Box::new(Running { processes, port }))
    }
}

struct Running {
    processes: Processes,
    port: u16,
}

impl Subject for Running {
    fn name(&self) -> &'static str {
        "Socket.IO"
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.processes.all()
    }

    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan> {
        // Its transports are WebSocket and polling.
        (kind == Kind::WebSocket).then(|| Plan {
            // Engine.IO's opening packet, then the namespace, then the room, which the server acknowledges.
            frames: vec![
                String::new(),
                "40".to_owned(),
                format!(r#"420["join","{topic}"]"#),
            ],
            ping: "2".to_owned(),
            pong: "3".to_owned(),
            ..plan(self.port, kind, "/socket.io/?EIO=4&transport=websocket")
        })
    }

    fn publish(&self, topic: &str, data: &[String]) -> (u16, String) {
        let path = format!("/publish/{topic}");
        (self.port, post(self.port, &path, "", &data.join("\n")))
    }
}
