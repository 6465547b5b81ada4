//! nchan, a module of nginx: WebSocket and event streams, publishing by HTTP.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::{Peer, Processes, package, pinned, said};
use crate::{
    commands::{Kind, Plan},
    process::free_port,
    subjects::{Subject, plan, post},
};

pub(super) struct Nchan;

impl Peer for Nchan {
    fn name(&self) -> &'static str {
        "nchan"
    }

    fn version(&self) -> Option<String> {
        let nginx = said("nginx", &["-v"])?;
        let nginx = nginx.rsplit('/').next().unwrap_or_default().to_owned();
        package("libnginx-mod-nchan").map(|module| format!("nchan {module} on nginx {nginx}"))
    }

    fn start(&self) -> Result<Box<dyn Subject>> {
        let port = free_port()?;
        let folder = tempfile::tempdir()?;
        let at = folder.path().display();
        // One worker: it has one core. It runs as whoever started it, so that it may write into the folder.
        let owner = said("id", &["--user", "--name"]).context("who this is")?;
        let configuration = format!(
            "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
user {owner};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {at}/pid;
error_log {at}/log warn;
events {{ worker_connections 19500; }}
http {{
  access_log off;
  client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
  keepalive_requests 100000000;
  nchan_shared_memory_size 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber websocket eventsource;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
      nchan_websocket_ping_interval 25;
      nchan_eventsource_ping_interval 25;
    }}
    location ~ ^/pub/(.+)$ {{
      nchan_publisher;
      nchan_channel_id $1;
      nchan_message_buffer_length 100;
      nchan_message_timeout 10m;
    }}
  }}
}}
"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let child = pinned("nginx")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nginx")?;
        let mut processes = Processes {
            children: vec![child],
            folder,
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
        "nchan"
    }

    fn processes(&self) -> Result<Vec<u32>> {
        self.processes.all()
    }

    fn plan(&self, kind: Kind, topic: &str) -> Option<Plan> {
        Some(plan(self.port, kind, &format!("/sub/{topic}")))
    }

    fn publish(&self, topic: &str, data: &[String]) -> (u16, String) {
        let path = format!("/pub/{topic}");
        (self.port, post(self.port, &path, "", &data.join("\n")))
    }
}
