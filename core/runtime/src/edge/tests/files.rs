use std::{io::Write as _, process::Stdio, time::Duration};

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::{Answer, PATIENCE, Running, config};

/// Tells the process that the test starts that it is the server: it writes its address and serves until its input ends.
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
    if std::env::var_os(SERVER).is_some() {
        let edge = Running::start(&config(), Router::new().route("/", get(|| async { "hello" })));
        writeln!(std::io::stdout().lock(), "\nlistening {}", edge.address).expect("somebody reads");
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        let _ = ended.await;
        return;
    }
    let me = std::env::current_exe().expect("a path");
    let name = "edge::tests::files::running_out_of_files_is_waited_out_without_spinning";
    let mut server = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 48 && exec \"$0\" --nocapture --exact \"$1\"",
            me.to_str().expect("UTF-8"),
            name,
        ])
        .env(SERVER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let listening = async {
        loop {
            let line = lines
                .next_line()
                .await
                .expect("a line")
                .expect("the server lives");
            if let Some(address) = line.strip_prefix("listening ") {
                return address.to_owned();
            }
        }
    };
    let address = timeout(PATIENCE, listening).await.expect("the server started");
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
    // Time is the subject: how much of it costs CPU.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(ticks(pid) - before <= 10, "it spins");
    drop(answered);
    for mut client in waiting {
        assert_eq!(Answer::read(&mut client).await.expect("an answer").status, 200);
    }
}
