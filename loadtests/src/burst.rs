//! 32 publications at once to 8,000 connections: what coalescing saves.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{
    commands::Kind,
    fleet::{Fleet, Load, Measurement, Openings},
    marks,
    pairs::Pairs,
    report::Figure,
    scale::Scale,
    subjects::{Carillon, DATA, Own, Subject, TOPIC},
};

const SUBSCRIBERS: usize = 8_000;
const BURST: usize = 32;
const BURSTS: u64 = 5;

pub(crate) fn measure(program: &Path, rounds: usize, scale: Scale) -> Result<Vec<Figure>> {
    let (floor, carillon) = (Own::floor()?, Carillon::start(program)?);
    let mut theirs = gather(&floor, scale)?;
    let mut ours = gather(&carillon, scale)?;
    let mut pairs = Pairs::default();
    for _ in 0..rounds {
        pairs.floor.push(burst(&mut theirs, &floor)?);
        pairs.carillon.push(burst(&mut ours, &carillon)?);
    }
    Ok(vec![pairs.figure(
        "burst of 32 to 8,000, CPU per frame",
        "us",
        3,
        "one write of 32 frames per socket",
    )])
}

fn gather(subject: &dyn Subject, scale: Scale) -> Result<Fleet> {
    let mut fleet = Fleet::default();
    let plan = subject.plan(Kind::WebSocket, TOPIC).context("no WebSocket")?;
    fleet.open(
        &plan,
        subject.tokens(),
        scale.count(SUBSCRIBERS),
        Openings::default(),
    )?;
    Ok(fleet)
}

fn burst(fleet: &mut Fleet, subject: &dyn Subject) -> Result<f64> {
    let (port, request) = subject.publish(TOPIC, &vec![marks::blank(DATA); BURST]);
    let load = Load {
        port,
        requests: vec![request],
        batch: BURST as u64,
        receivers: fleet.len() as u64,
        connections: 1,
        count: BURSTS,
        per_second: 1.0,
    };
    let measurement = fleet
        .measure(subject, &load)
        .and_then(Measurement::clean)
        .with_context(|| subject.name())?;
    Ok(measurement.each(measurement.received))
}
