//! 5 % of the connections do not read while large publications go to all: what each of them makes the server and the kernel
//! hold, and whether the others wait for it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    commands::Kind,
    fleet::{Fleet, Load, Measurement, Openings},
    kernel, marks,
    pairs::{Pairs, alone},
    report::{Figure, median, spread},
    scale::Scale,
    subjects::{Carillon, Subject, TOPIC},
    touch,
};

const SUBSCRIBERS: usize = 2_000;
/// Each so many-th does not read.
const EVERY: usize = 20;
/// Many times what a socket and the hub's bound hold.
const PUBLICATIONS: usize = 150;
const DATA: usize = 4_096;
const PER_SECOND: f64 = 20.0;

pub(crate) fn measure(program: &Path, rounds: usize, scale: Scale) -> Result<Vec<Figure>> {
    let carillon = Carillon::start(program)?;
    let stalled = scale.count(SUBSCRIBERS).div_ceil(EVERY);
    let (mut p99, mut held, mut kernel) = (Pairs::default(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let well = fill(&carillon, 0, scale)?;
        let worse = fill(&carillon, stalled, scale)?;
        p99.floor.push(well.p99);
        p99.carillon.push(worse.p99);
        held.push((worse.user as f64 - well.user as f64) / stalled as f64 / 1024.0);
        kernel.push((worse.kernel as f64 - well.kernel as f64) / stalled as f64 / 1024.0);
    }
    let both = held
        .iter()
        .zip(&kernel)
        .map(|(user, kernel)| user + kernel)
        .collect();
    Ok(vec![
        p99.figure("5 % stalled, p99 of the others", "ms", 2, "nobody stalled"),
        alone(
            "5 % stalled, memory of each, kernel included",
            format!(
                "{} KiB, {:.0} KiB of it in the server",
                spread(both),
                median(held)
            ),
            "peaks beside the same with nobody stalled; the kernel's of both ends",
        ),
    ])
}

struct Filled {
    p99: f64,
    /// Peaks in bytes.
    user: u64,
    kernel: u64,
}

fn fill(carillon: &Carillon, stalled: usize, scale: Scale) -> Result<Filled> {
    let count = scale.count(SUBSCRIBERS);
    touch::free_memory()?;
    let plan = carillon.plan(Kind::WebSocket, TOPIC).context("no WebSocket")?;
    let mut fleet = Fleet::default();
    fleet.open(&plan, carillon.tokens(), count, Openings::default())?;
    if stalled > 0 {
        fleet.stall(EVERY)?;
    }
    let (port, request) = carillon.publish(TOPIC, &[marks::blank(DATA)]);
    let load = Load {
        port,
        requests: vec![request],
        batch: 1,
        receivers: (count - stalled) as u64,
        connections: 1,
        count: PUBLICATIONS as u64,
        per_second: PER_SECOND,
    };
    let (begin, time) = (
        Instant::now(),
        Duration::from_secs_f64(PUBLICATIONS as f64 / PER_SECOND),
    );
    fleet.begin(&load)?;
    let (mut user, mut kernel) = (0, 0);
    while begin.elapsed() < time {
        user = user.max(carillon.memory()?);
        kernel = kernel.max(kernel::sockets()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let measurement = fleet.end().and_then(Measurement::clean)?;
    Ok(Filled {
        p99: measurement.at(0.99),
        user,
        kernel,
    })
}
