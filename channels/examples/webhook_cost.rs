//! What one webhook costs this side, in CPU time: `cargo run --release -p carillon-channels --example webhook_cost`.
//!
//! The receiver is a process of its own (this executable again), so that the time is the sender's alone. The floor is the
//! same client with the same body, without channel, signature or guard's work around it.

#![expect(clippy::print_stdout, reason = "it prints a measurement")]

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use carillon_channels::{
    outbound::{Outbound, OutboundConfig},
    webhook::{WebhookChannel, generate_ed25519, generate_hmac},
};
use carillon_domain::{
    DeliveryId, Outcome, SystemClock, TenantId, Timestamp,
    ports::{Channel as _, Message, Operation, SigningKey, Work},
};
use http::Request;
use http_body_util::Full;

const DELIVERIES: usize = 50_000;
const AT_ONCE: usize = 32;
const BODY: &str = r#"{"type":"delivery.dead","timestamp":"2026-11-21T08:00:00.000000Z","data":{"notification_id":"ntf_019e3f6a5c0070008000000000000001","delivery_id":"dlv_019e3f6a5c0070008000000000000002","channel":"email","reason":"the mailbox does not exist"}}"#;

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    if std::env::args().nth(1).as_deref() == Some("receive") {
        return receive();
    }
    let mut receiver = Command::new(std::env::current_exe()?)
        .arg("receive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    io::BufReader::new(receiver.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let url = format!("http://127.0.0.1:{}/hook", port.trim());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let measured = runtime.block_on(measure(url));
    receiver.kill()?;
    receiver.wait()?;
    measured
}

/// Answers every request on every connection, a thread each, until its starter is gone.
fn receive() -> Result<(), Fault> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    for socket in listener.incoming() {
        let mut socket = socket?;
        std::thread::spawn(move || {
            let mut buffer = [0; 16_384];
            // Requests fit in one segment on loopback, and none comes before its answer.
            while socket.read(&mut buffer).is_ok_and(|count| count > 0) {
                if socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

async fn measure(url: String) -> Result<(), Fault> {
    let config = OutboundConfig {
        ports: vec!["1-65535".parse()?],
        allow_networks: vec!["127.0.0.1".parse()?],
        ..OutboundConfig::default()
    };
    let outbound = Outbound::open(&config, [])?;
    let bare = outbound.clone();
    let channel = Arc::new(WebhookChannel::new(outbound, Arc::new(SystemClock)));
    let target = url.clone();
    let floor = run(move || {
        let (bare, url) = (bare.clone(), target.clone());
        async move {
            let Ok(request) = Request::post(url).body(Full::new(Bytes::from_static(BODY.as_bytes()))) else {
                return false;
            };
            bare.send(request, 0).await.is_ok()
        }
    })
    .await?;
    report("bare client", floor, floor);
    let (hmac, ed25519) = (generate_hmac()?, generate_ed25519()?.secret);
    for (name, keys) in [
        ("HMAC", vec![hmac.clone()]),
        ("HMAC twice", vec![hmac.clone(), hmac]),
        ("Ed25519", vec![ed25519]),
    ] {
        let work = Arc::new(work(&url, keys)?);
        let channel = Arc::clone(&channel);
        let spent = run(move || {
            let (channel, work) = (Arc::clone(&channel), Arc::clone(&work));
            async move { matches!(channel.attempt(&work).await.outcome, Outcome::Delivered { .. }) }
        })
        .await?;
        report(name, spent, floor);
    }
    Ok(())
}

fn work(url: &str, keys: Vec<SigningKey>) -> Result<Work, Fault> {
    let created_at = Timestamp::parse("2026-11-21T08:00:00Z")?;
    Ok(Work {
        tenant: TenantId::default(),
        delivery: DeliveryId::at(created_at),
        attempt: 1,
        operation: Operation::Deliver,
        address: url.parse()?,
        provider_id: None,
        message: Message::Event {
            kind: "delivery.dead".into(),
            body: BODY.into(),
        },
        created_at,
        expires_at: created_at.after(Duration::from_secs(86_400)),
        keys,
    })
}

/// CPU time and wall time of all deliveries.
async fn run<F>(one: impl Fn() -> F + Clone + Send + 'static) -> Result<(Duration, Duration), Fault>
where
    F: Future<Output = bool> + Send,
{
    let (cpu, wall) = (cpu_time()?, Instant::now());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let one = one.clone();
        workers.spawn(async move {
            for _ in 0..DELIVERIES / AT_ONCE {
                if !one().await {
                    return false;
                }
            }
            true
        });
    }
    if workers.join_all().await.contains(&false) {
        return Err("a delivery failed".into());
    }
    Ok((cpu_time()?.saturating_sub(cpu), wall.elapsed()))
}

/// User and system time of this process, from the kernel's clock ticks of 10 ms.
fn cpu_time() -> Result<Duration, Fault> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    Ok(Duration::from_millis(10 * ticks.ok_or("no times")?))
}

fn report(name: &str, (cpu, wall): (Duration, Duration), (floor, _): (Duration, Duration)) {
    let count = (DELIVERIES / AT_ONCE * AT_ONCE) as f64;
    println!(
        "{name:12} {:6.1} us of CPU each, {:7.0} per CPU second, {:7.0} per second, {:.2} x the bare client",
        cpu.as_secs_f64() * 1e6 / count,
        count / cpu.as_secs_f64(),
        count / wall.as_secs_f64(),
        cpu.as_secs_f64() / floor.as_secs_f64(),
    );
}
