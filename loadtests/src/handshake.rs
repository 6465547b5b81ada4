//! What a connection costs until it is authenticated and subscribed; the floor accepts and answers 101.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{
    commands::Kind,
    fleet::{Fleet, Openings},
    pairs::Pairs,
    report::Figure,
    scale::Scale,
    subjects::{Carillon, Own, Subject, TOPIC},
};

const CONNECTIONS: usize = 5_000;

pub(crate) fn measure(program: &Path, rounds: usize, scale: Scale) -> Result<Vec<Figure>> {
    let (floor, carillon) = (Own::floor()?, Carillon::start(program)?);
    let (mut cpu, mut time) = (Pairs::default(), Pairs::default());
    for _ in 0..rounds {
        let (spent, p99) = connect(&floor, scale)?;
        cpu.floor.push(spent);
        time.floor.push(p99);
        let (spent, p99) = connect(&carillon, scale)?;
        cpu.carillon.push(spent);
        time.carillon.push(p99);
    }
    Ok(vec![
        cpu.figure("authenticated handshake, CPU", "us", 0, "accept and 101"),
        time.figure("handshake, 64 at a time, p99", "ms", 2, "accept and 101"),
    ])
}

/// Microseconds of CPU for each, and the p99 of the time that each took, in milliseconds.
fn connect(subject: &dyn Subject, scale: Scale) -> Result<(f64, f64)> {
    let count = scale.count(CONNECTIONS);
    let plan = subject.plan(Kind::WebSocket, TOPIC).context("no WebSocket")?;
    let mut fleet = Fleet::default();
    let before = subject.cpu()?;
    let (_, times) = fleet.open(&plan, subject.tokens(), count, Openings::default())?;
    let spent = subject.cpu()?.saturating_sub(before);
    Ok((
        spent.as_secs_f64() * 1e6 / count as f64,
        times.value_at_quantile(0.99) as f64 / 1e6,
    ))
}
