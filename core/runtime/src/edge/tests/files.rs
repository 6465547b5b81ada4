use std::{process::Stdio, time::Duration};

use axum::{Router, routing::get};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Command, time::timeout};

use super::{Answer, PATIENCE, Running, config};

/// Tells the process that the test starts that it is the server, and where to write its address.
const SERVER: &str = "CARILLON_TEST_EDGE_SERVER";

/// CPU time of a process in clock ticks (proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

#[tokio::test]
async fn running_out_of_files_is_waited_out_without_spinning() {
    if let Some(path) = std::env::var_os(SERVER) {
        let edge = Running::start(&config(), Router::new().route("/", get(|| async { "hello" })));
        std::fs::write(path, edge.address.to_string()).expect("written");
        tokio::time::sleep(6 * PATIENCE).await;
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("address");
    let me = std::env::current_exe().expect("a path");
    let name = "edge::tests::files::running_out_of_files_is_waited_out_without_spinning";
    let server = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 48 && exec \"$0\" --exact \"$1\"",
            me.to_str().expect("UTF-8"),
            name,
        ])
        .env(SERVER, &path)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    let written = async {
        loop {
            match std::fs::read_to_string(&path) {
                Ok(address) if !address.is_empty() => return address,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let address = timeout(PATIENCE, written).await.expect("the server started");
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut client = TcpStream::connect(&address)
            .await
            .expect("the kernel's queue has room");
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("sent");
        held.push(client);
    }
    let mut waiting = Vec::new();
    let mut answered = Vec::new();
    for mut client in held {
        match timeout(
            Duration::from_millis(if waiting.is_empty() { 1_000 } else { 1 }),
            client.readable(),
        )
        .await
        {
            Ok(_) => {
                Answer::read(&mut client).await.expect("an answer");
                answered.push(client);
            }
            Err(_) => waiting.push(client),
        }
    }
    assert!(
        !answered.is_empty() && !waiting.is_empty(),
        "{} {}",
        answered.len(),
        waiting.len()
    );
    let pid = server.id().expect("running");
    let before = ticks(pid);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(ticks(pid) - before <= 10, "it spins");
    drop(answered);
    for mut client in waiting {
        assert_eq!(Answer::read(&mut client).await.expect("an answer").status, 200);
    }
}
