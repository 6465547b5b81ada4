//! All connections are cut and come back at once, each behind the position at which it was: nothing may be lost or come
//! twice, and others must not wait. The floor is the same storm on a server that only accepts and answers 101.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    commands::Kind,
    fleet::{Fleet, Measurement, Openings},
    http::Client,
    marks,
    pairs::Pairs,
    report::Figure,
    scale::Scale,
    subjects::{Carillon, DATA, Own, Subject, TOPIC, steadily},
};

/// A topic with a history.
const KEPT: &str = "kept.storm";
/// Publications that are missed.
const MISSED: u64 = 10;
/// Connections that are being opened at a time: a client's share of a backlog.
const IN_FLIGHT: usize = 512;
const OTHERS: usize = 500;
const OTHERS_PER_SECOND: f64 = 50.0;
/// How long the last missed publication may take once all are back.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn measure(program: &Path, rounds: usize, size: usize, scale: Scale) -> Result<Vec<Figure>> {
    let (floor, carillon) = (Own::floor()?, Carillon::start(program)?);
    let size = scale.count(size);
    let mut bare = Fleet::default();
    let plan = floor.plan(Kind::WebSocket, KEPT).context("no WebSocket")?;
    bare.open(&plan, None, size, Openings::default())?;
    let mut storm = Storm::gather(&carillon, size)?;
    let mut others = Fleet::default();
    let others_plan = carillon.plan(Kind::WebSocket, TOPIC).context("no WebSocket")?;
    others.open(
        &others_plan,
        carillon.tokens(),
        scale.count(OTHERS),
        Openings::default(),
    )?;
    // About as long as the storm.
    let seconds = (size as f64 / 3_000.0).max(1.0);
    let count = (OTHERS_PER_SECOND * seconds) as u64;
    let load = steadily(&carillon, others.len() as u64, count, OTHERS_PER_SECOND);
    let (mut time, mut cpu, mut p99) = (Pairs::default(), Pairs::default(), Pairs::default());
    for _ in 0..rounds {
        let calm = others.measure(&carillon, &load)?.clean()?.at(0.99);

        bare.close(1)?;
        others.begin(&load)?;
        let before = floor.cpu()?;
        let (took, _) = bare.open(&plan, None, size, back())?;
        cpu.floor
            .push((floor.cpu()? - before).as_secs_f64() * 1e6 / size as f64);
        time.floor.push(took.as_secs_f64() * 1e3);
        p99.floor.push(others.end()?.clean()?.at(0.99));

        let position = storm.cut()?;
        others.begin(&load)?;
        let before = carillon.cpu()?;
        time.carillon.push(storm.back(&position)?.as_secs_f64() * 1e3);
        cpu.carillon
            .push((carillon.cpu()? - before).as_secs_f64() * 1e6 / size as f64);
        p99.carillon.push(others.end()?.clean()?.at(0.99));
        eprintln!("  p99 of others without a storm: {calm:.2} ms");
    }
    let bare = "bare connect and 101";
    Ok(vec![
        time.figure("reconnect storm with resume, until all are back", "ms", 0, bare),
        cpu.figure("reconnect storm, CPU each, others included", "us", 0, bare),
        p99.figure(
            "reconnect storm, p99 of others",
            "ms",
            2,
            "Carillon's others during the floor's storm",
        ),
    ])
}

fn back() -> Openings {
    Openings {
        in_flight: IN_FLIGHT,
        group: 1,
        again: true,
    }
}

struct Storm<'a> {
    carillon: &'a Carillon,
    fleet: Fleet,
    publisher: Client,
}

impl<'a> Storm<'a> {
    fn gather(carillon: &'a Carillon, size: usize) -> Result<Self> {
        let mut fleet = Fleet::default();
        let plan = carillon.plan(Kind::WebSocket, KEPT).context("no WebSocket")?;
        fleet.open(&plan, carillon.tokens(), size, Openings::default())?;
        Ok(Self {
            carillon,
            fleet,
            publisher: Client::connect(carillon.server.port, &carillon.server.key)?,
        })
    }

    /// Publishes the next one; answers its position.
    fn publish(&mut self, number: u64) -> Result<String> {
        let mut data = marks::blank(DATA).into_bytes();
        marks::stamp(&mut data, 0, number, crate::worker::now());
        let body = format!(
            r#"{{"publications":[{{"data":"{}"}}]}}"#,
            String::from_utf8(data)?
        );
        // After a minute the server has closed an idle connection.
        self.publisher = Client::connect(self.carillon.server.port, &self.carillon.server.key)?;
        let answer = self
            .publisher
            .post(&format!("/v1/topics/{KEPT}/publish"), &body)?;
        match &answer["data"][0]["position"] {
            Value::String(position) => Ok(position.clone()),
            other => anyhow::bail!("no position but {other}"),
        }
    }

    /// All have one more publication, are cut, and miss some; answers the position of the last one that they have.
    fn cut(&mut self) -> Result<String> {
        let position = self.publish(self.fleet.next)?;
        self.fleet
            .await_others(1, self.fleet.len() as u64, LIMIT)
            .and_then(Measurement::clean)
            .context("before the cut")?;
        self.fleet.close(1)?;
        for number in 0..MISSED {
            self.publish(self.fleet.next + number)?;
        }
        Ok(position)
    }

    /// All come back and get what they missed; answers how long until the last one was back.
    fn back(&mut self, position: &str) -> Result<Duration> {
        let (epoch, offset) = position.rsplit_once('-').context("a position without a dash")?;
        let plan = self.carillon.resume(KEPT, epoch, offset);
        let size = self.fleet.len();
        let (took, _) = self.fleet.open(&plan, self.carillon.tokens(), size, back())?;
        self.fleet
            .await_others(MISSED, MISSED * size as u64, LIMIT)
            .and_then(Measurement::clean)
            .context("after the cut")?;
        Ok(took)
    }
}
