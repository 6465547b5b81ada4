use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::process::Tool;
use crate::harness::{Start, free_port, user_name};

const TOKEN: &str = "a-token-that-only-alertmanager-has";

/// Serves one metric: a disk that is full, or not.
async fn disk(full: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // The whole request is one small packet; what it asks for does not matter.
            let _ = socket.read(&mut [0; 4_096]).await;
            let used = if full.load(Ordering::SeqCst) {
                "0.97"
            } else {
                "0.5"
            };
            let body = format!("# TYPE disk_used_ratio gauge\ndisk_used_ratio{{disk=\"sda\"}} {used}\n");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    port
}

/// Prometheus that watches the disk and tells Alertmanager, which tells the source.
async fn tools(folder: &Path, source: &str, disk: u16) -> [Tool; 2] {
    let (alertmanager, prometheus) = (free_port(), free_port());
    fs::write(
        folder.join("alertmanager.yml"),
        format!(
            "route: {{receiver: carillon, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1m}}\n\
             receivers:\n- name: carillon\n  webhook_configs:\n  - url: '{source}'\n    send_resolved: true\n    \
             http_config: {{authorization: {{type: Bearer, credentials: '{TOKEN}'}}}}\n"
        ),
    )
    .expect("written");
    fs::write(
        folder.join("rules.yml"),
        "groups:\n- name: disks\n  interval: 1s\n  rules:\n  - alert: DiskFull\n    expr: disk_used_ratio > 0.9\n    \
         labels: {severity: critical}\n    annotations: {summary: 'Disk {{ $labels.disk }} is full'}\n",
    )
    .expect("written");
    fs::write(
        folder.join("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
             scrape_configs: [{{job_name: disk, static_configs: [{{targets: ['127.0.0.1:{disk}']}}]}}]\n"
        ),
    )
    .expect("written");
    let address = format!("--web.listen-address=127.0.0.1:{alertmanager}");
    let arguments = [
        "--config.file=alertmanager.yml",
        "--storage.path=alerts",
        "--cluster.listen-address=",
        &address,
    ];
    let ready = format!("http://127.0.0.1:{alertmanager}/-/ready");
    let manager = Tool::start("prometheus-alertmanager", folder, &arguments, &ready).await;
    let address = format!("--web.listen-address=127.0.0.1:{prometheus}");
    let arguments = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--web.console.templates=/etc/prometheus/consoles",
        &address,
    ];
    let ready = format!("http://127.0.0.1:{prometheus}/-/ready");
    [
        Tool::start("prometheus", folder, &arguments, &ready).await,
        manager,
    ]
}

#[tokio::test]
async fn a_firing_rule_rings_and_its_resolution_updates_the_same_entry() {
    let server = Start::default().serve().await;
    let api = server.api().await;
    let user = user_name("ada");
    let mut stream = api.user(&user).await.stream("").await;
    crate::harness::secret("source secret", TOKEN);
    let request = json!({"kind": "alertmanager", "targets": [{"user": user}], "secret": TOKEN});
    let put = api.request(Method::PUT, "/v1/sources/alerts").json(&request);
    api.send(put).await.expect(201);

    let full = Arc::new(AtomicBool::new(true));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _tools = tools(
        folder.path(),
        &api.url("/v1/in/alerts"),
        disk(Arc::clone(&full)).await,
    )
    .await;

    let added = stream.next().await;
    assert_eq!(added.event, "added");
    let entry = &added.data["entry"];
    assert_eq!(entry["content"]["title"], "Disk sda is full");
    assert_eq!(
        (&entry["priority"], &entry["category"]),
        (&json!("high"), &json!("alerts"))
    );
    assert_eq!(entry["content"]["data"]["labels"]["disk"], "sda");
    assert!(
        entry["content"]["url"]
            .as_str()
            .is_some_and(|url| url.contains("disk_used_ratio"))
    );

    full.store(false, Ordering::SeqCst);
    let replaced = stream.next().await;
    assert_eq!(replaced.event, "replaced");
    assert_eq!(replaced.data["entry"]["id"], entry["id"]);
    assert_eq!(
        replaced.data["entry"]["content"]["title"],
        "Resolved: Disk sda is full"
    );
    assert_eq!(replaced.data["counts"]["total"], 1);
}
