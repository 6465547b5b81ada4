//! Publishing to a topic that nobody listens to: the price of the entrance alone.

use std::path::Path;

use anyhow::Result;

use crate::{
    fleet::{Fleet, Load},
    marks,
    pairs::Pairs,
    report::Figure,
    scale::Scale,
    subjects::{Carillon, DATA, Own, Subject},
};

const SINGLES: usize = 20_000;
const CONNECTIONS: usize = 32;
const BATCHES: usize = 1_000;
const BATCH: usize = 100;

pub(crate) fn measure(program: &Path, rounds: usize, scale: Scale) -> Result<Vec<Figure>> {
    let (floor, carillon) = (Own::floor()?, Carillon::start(program)?);
    let mut fleet = Fleet::default();
    let (mut singles, mut batches) = (Pairs::default(), Pairs::default());
    for _ in 0..rounds {
        for (batch, count, pairs) in [(1, SINGLES, &mut singles), (BATCH, BATCHES, &mut batches)] {
            let count = scale.count(count);
            pairs.floor.push(publish(&mut fleet, &floor, batch, count)?);
            pairs.carillon.push(publish(&mut fleet, &carillon, batch, count)?);
        }
    }
    let floor = "bare POST, keep-alive";
    Ok(vec![
        singles.figure("publish to nobody, 32 connections, CPU", "us", 1, floor),
        batches.figure("publish to nobody, batches of 100, CPU each", "us", 2, floor),
    ])
}

fn publish(fleet: &mut Fleet, subject: &dyn Subject, batch: usize, count: usize) -> Result<f64> {
    let (port, request) = subject.publish("live.nobody", &vec![marks::blank(DATA); batch]);
    let load = Load {
        port,
        requests: vec![request],
        batch: batch as u64,
        receivers: 0,
        connections: CONNECTIONS,
        count: count as u64,
        per_second: 0.0,
    };
    let measurement = fleet.measure(subject, &load)?;
    Ok(measurement.each((count * batch) as u64))
}
