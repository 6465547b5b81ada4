//! Deliveries outside the inbox, from accepted to settled: what the server spends on them.
//!
//! The far end answers nothing until everything is accepted and planned, so that accepting and planning can be told from
//! delivering. The first attempts of each host begin before that; they are few.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::{
    far_end::{FarEnd, Service},
    http::Client,
    process::Server,
};

/// How long accepting and planning may take together, and how long delivering may.
const LIMIT: Duration = Duration::from_secs(60);
/// Notifications of one request.
const BATCH: usize = 500;
/// How often the server's counters are asked for: each answer is work of the server's own.
const ASKED: Duration = Duration::from_millis(20);

/// CPU time of the server for all deliveries of a run, kernel included.
pub(crate) struct Spent {
    /// Until everything was accepted and planned.
    pub(crate) planning: Duration,
    /// From then until everything was delivered and settled.
    pub(crate) delivering: Duration,
}

/// Has `count` notifications accepted, whose bodies `item` makes, and delivered over `channel`. `state` is what they end
/// in.
///
/// # Errors
/// When one is missing, was tried twice, or ended otherwise.
pub(crate) fn run<S: Service>(
    server: &Server,
    far_end: &mut FarEnd<S>,
    (channel, state): (&str, &str),
    count: usize,
    item: impl Fn(usize) -> String,
) -> Result<Spent> {
    let mut client = Client::connect(server.port, &server.key)?;
    let numbers: Vec<usize> = (0..count).collect();
    let requests: Vec<_> = numbers
        .chunks(BATCH)
        .map(|numbers| {
            let items: Vec<_> = numbers.iter().map(|number| item(*number)).collect();
            let body = format!(r#"{{"notifications":[{}]}}"#, items.join(","));
            client.prepare("/v1/notifications/batch", &body)
        })
        .collect();
    let before = server.cpu()?;
    for request in &requests {
        let (status, answer) = client.exchange(request)?;
        ensure!(
            status == 202,
            "accept: {status} {}",
            String::from_utf8_lossy(&answer)
        );
    }
    wait_for(server, count, "carillon_dispatcher_planned_total", &[])?;
    let planned = server.cpu()?;
    far_end.receive(count, LIMIT)?;
    // The last answers are on their way into the store; the far end goes on, should something come twice.
    let channel = format!("channel=\"{channel}\"");
    let ended = format!("state=\"{state}\"");
    let begin = Instant::now();
    while (server.counter("carillon_delivery_ended_total", &[&channel, &ended])? as usize) < count {
        if begin.elapsed() > LIMIT {
            bail!("not everything was settled within {LIMIT:?}: {}", server.log());
        }
        let asked = Instant::now();
        while asked.elapsed() < ASKED {
            far_end.turn(Duration::ZERO)?;
        }
    }
    let delivered = server.cpu()?;
    let attempts = server.counter("carillon_delivery_attempts_total", &[&channel])? as usize;
    let all = server.counter("carillon_delivery_ended_total", &[&channel])? as usize;
    ensure!(
        attempts == count && all == count && far_end.service.distinct() == count,
        "{count} deliveries: {attempts} attempts, {all} ends, {} came",
        far_end.service.distinct()
    );
    Ok(Spent {
        planning: planned.saturating_sub(before),
        delivering: delivered.saturating_sub(planned),
    })
}

fn wait_for(server: &Server, count: usize, name: &str, labels: &[&str]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let reached = server.counter(name, labels)? as usize;
        if reached >= count {
            return Ok(());
        }
        if begin.elapsed() > LIMIT {
            bail!("{name} is {reached} of {count} after {LIMIT:?}: {}", server.log());
        }
        std::thread::sleep(ASKED);
    }
}
