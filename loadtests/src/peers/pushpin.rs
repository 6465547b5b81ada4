//! Pushpin: a proxy that holds event streams for a backend (GRIP). The backend is a thread of this program, and zurl makes
//! the requests to it.

use std::{io::Write as _, net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};

use super::{Peer, Processes, package, pinned};
use crate::{
    commands::{Kind, Plan},
    connect::{impatient, read_head},
    process::free_port,
    subjects::{Subject, plan, post},
};

/// Descriptors of one of its processes are limited.
const CONNECTIONS: usize = 12_000;

pub(super) struct Pushpin;

impl Peer for Pushpin {
    fn name(&self) -> &'static str {
        "pushpin"
    }

    fn version(&self) -> Option<String> {
        package("zurl")?;
        package("pushpin").map(|version| format!("pushpin {version}"))
    }

    fn start(&self) -> Result<Box<dyn Subject>> {
        let [port, publish, push, sub, command] = [(); 5].map(|()| free_port());
        let (port, publish, push, sub, command) = (port?, publish?, push?, sub?, command?);
        let backend = backend()?;
        let folder = tempfile::tempdir()?;
        let at = folder.path().display();
        for part in ["run", "log"] {
            std::fs::create_dir(folder.path().join(part))?;
        }
        std::fs::write(
            folder.path().join("pushpin.conf"),
            format!(
                "[global]
include={{libdir}}/internal.conf
rundir={at}/run
ipc_prefix=pushpin-
port_offset=0
[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{port}
logdir={at}/log
log_level=1
client_buffer_size=8192
client_maxconn={CONNECTIONS}
condure_bin=condure
zurl_bin=zurl
[proxy]
routesfile={at}/routes
zurl_out_specs=ipc://{at}/run/zurl-in
zurl_out_stream_specs=ipc://{at}/run/zurl-in-stream
zurl_in_specs=ipc://{at}/run/zurl-out
[handler]
push_in_spec=tcp://127.0.0.1:{push}
push_in_sub_specs=tcp://127.0.0.1:{sub}
push_in_http_addr=127.0.0.1
push_in_http_port={publish}
stats_spec=ipc://{{rundir}}/{{ipc_prefix}}stats
command_spec=tcp://127.0.0.1:{command}
message_rate=1000000
message_hwm=1000000
"
            ),
        )?;
        std::fs::write(folder.path().join("routes"), format!("* 127.0.0.1:{backend}\n"))?;
        std::fs::write(
            folder.path().join("zurl.conf"),
            format!(
                "[General]
in_spec=ipc://{at}/run/zurl-in
in_stream_spec=ipc://{at}/run/zurl-in-stream
out_spec=ipc://{at}/run/zurl-out
in_req_spec=ipc://{at}/run/zurl-req
defpolicy=allow
timeout=600
"
            ),
        )?;
        let mut processes = Processes {
            children: Vec::new(),
            folder,
        };
        for program in ["zurl", "pushpin"] {
            let file = processes.folder.path().join(format!("{program}.conf"));
            let child = pinned(program)
                .arg(format!("--config={}", file.display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context(program)?;
            processes.children.push(child);
        }
        processes.wait(publish)?;
        processes.wait(port)?;
        // Its parts find each other after they listen, and it does not say when.
        std::thread::sleep(Duration::from_secs(1));
        Ok(Box::new(Running {
            processes,
            port,
            publish,
        }))
    }
}

/// Lets each request hold on to the channel `bench` until the bench ends.
fn backend() -> Result<u16> {
    const BODY: &str = ": held\n\n";
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Who breaks off asks again.
            let Ok(head) = impatient(&stream)
                .map_err(Into::into)
                .and_then(|()| read_head(&mut stream))
            else {
                continue;
            };
            let topic = head
                .split(' ')
                .nth(1)
                .map_or("", |path| path.trim_start_matches('/'));
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nGrip-Hold: stream\r\nGrip-Channel: {topic}\r\n\
                 Grip-Keep-Alive: :\\n\\n; format=cstring; timeout=25\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
                BODY.len()
            );
        }
    });
    Ok(port)
}

struct Running {
    processes: Processes,
    port: u16,
    publish: u16,
}

impl Subject for Running {
    fn name(&self) -> &'static str {
        "pushpin"
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.processes.all()
    }

    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan> {
        (kind == Kind::Sse).then(|| Plan {
            ready: ": held".to_owned(),
            ..plan(self.port, kind, &format!("/{topic}"))
        })
    }

    fn publish(&self, topic: &str, data: &[String]) -> (u16, String) {
        let items: Vec<_> = data
            .iter()
            .map(|data| {
                format!(
                    r#"{{"channel":"{topic}","formats":{{"http-stream":{{"content":"data: {data}\n\n"}}}}}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
        (
            self.publish,
            post(
                self.publish,
                "/publish/",
                "Content-Type: application/json\r\n",
                &body,
            ),
        )
    }
}
