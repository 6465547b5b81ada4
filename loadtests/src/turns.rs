//! How long a tenant waits behind another one of whom 100,000 deliveries wait for the same host: the time from when a
//! POST should have left to the arrival of its webhook, beside the same on a server where nothing waits.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use crate::{
    far_end::FarEnd,
    http::Client,
    process::{Server, folder_in_memory, prepare},
    receiver::{MARK, Receiver},
    report::{Figure, median, spread},
    webhooks::{endpoint, may_call, users},
};

const WAITING: usize = 100_000;
const BATCH: usize = 500;
/// What the other tenant sends, and how often; they take less time than what waits.
const PROBES: u64 = 200;
const EVERY: Duration = Duration::from_millis(25);
/// At the most: one takes a minute.
const ROUNDS: usize = 3;
/// The first attempts wait for the far end until everything is accepted and planned.
const ATTEMPT: &str = "120s";
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn measure(program: &Path, rounds: usize) -> Result<Vec<Figure>> {
    let (mut behind, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..rounds.min(ROUNDS) {
        alone.push(p99(program, 0)?);
        behind.push(p99(program, WAITING)?);
    }
    let ratios = behind
        .iter()
        .zip(&alone)
        .map(|(behind, alone)| behind / alone)
        .collect();
    Ok(vec![Figure {
        name: "POST to webhook, p99, behind 100,000 of another tenant at the same host",
        carillon: format!("{:.2} ms", median(behind)),
        floor: format!("{:.2} ms, where nothing waits", median(alone)),
        ratio: spread(ratios),
    }])
}

/// In milliseconds.
fn p99(program: &Path, waiting: usize) -> Result<f64> {
    let mut far_end = FarEnd::listen(1, Receiver::default())?;
    let ports = far_end.ports()?;
    let mut settings = may_call(&ports);
    settings.push(("OUTBOUND__TOTAL", ATTEMPT.to_owned()));
    let (folder, _) = folder_in_memory()?;
    let data = folder.path().join("data");
    prepare(program, &data, &["migrate"])?;
    let few = prepare(
        program,
        &data,
        &["keys", "create", "--tenant", "few", "--name", "bench"],
    )?;
    let few = few.trim().to_owned();
    let server = Server::carillon_in(program, &settings, folder)?;
    users(&server, &ports)?;
    Client::connect(server.port, &few)?.post("/t/few/v1/webhooks/endpoints", &endpoint(ports[0], 0))?;
    fill(&server, waiting)?;
    let begin = Instant::now() + Duration::from_millis(500);
    let due = |number: u64| begin + EVERY * u32::try_from(number).unwrap_or(u32::MAX);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            let mut client = Client::connect(server.port, &few)?;
            for number in 0..PROBES {
                let body = format!(
                    r#"{{"targets":[{{"user":"user0"}}],"channels":["webhook"],"content":{{"title":"{MARK}{number} of {PROBES}"}}}}"#
                );
                std::thread::sleep(due(number).saturating_duration_since(Instant::now()));
                client.post("/t/few/v1/notifications", &body)?;
            }
            Ok(())
        });
        while far_end.service.marks.len() < PROBES as usize {
            ensure!(
                begin.elapsed() < LIMIT,
                "{} of {PROBES} arrived in time: {}",
                far_end.service.marks.len(),
                server.log()
            );
            far_end.turn(Duration::from_millis(100))?;
        }
        sender.join().ok().context("the sender panicked")?
    })?;
    let left = waiting.saturating_sub(far_end.service.requests() - PROBES as usize);
    ensure!(
        waiting == 0 || left > 0,
        "nothing waited any more when the last one came"
    );
    let mut times = Histogram::<u64>::new(3)?;
    for (number, arrival) in &far_end.service.marks {
        let took = arrival.saturating_duration_since(due(*number));
        times.record(u64::try_from(took.as_micros())?)?;
    }
    Ok(times.value_at_quantile(0.99) as f64 / 1e3)
}

/// Has so many accepted and planned for one host.
fn fill(server: &Server, waiting: usize) -> Result<()> {
    let item = r#"{"targets":[{"user":"user0"}],"channels":["webhook"],"content":{"title":"Build failed"}}"#;
    let mut client = Client::connect(server.port, &server.key)?;
    let body = format!(r#"{{"notifications":[{}]}}"#, vec![item; BATCH].join(","));
    for _ in 0..waiting / BATCH {
        client.post("/v1/notifications/batch", &body)?;
    }
    let begin = Instant::now();
    while (server.counter("carillon_dispatcher_planned_total", &[])? as usize) < waiting {
        ensure!(begin.elapsed() < LIMIT, "they are not planned within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
