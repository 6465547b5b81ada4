//! One publication to one, 1,000 and 10,000 connections, and many topics with few: by the clock, on Carillon and the floor
//! in turns. Latency is from when a publication should have left until each connection read it.

use std::path::Path;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::{
    commands::Kind,
    drawings::{Drawing, scenario},
    fleet::{Fleet, Load, Openings},
    marks,
    pairs::Pairs,
    report::{Outcome, median},
    scale::Scale,
    subjects::{Carillon, DATA, Own, Subject},
};

/// How many listen to how many topics, and how often something is published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) topics: usize,
    /// Connections of each topic.
    pub(crate) subscribers: usize,
    /// In all topics.
    pub(crate) publications: usize,
    pub(crate) per_second: f64,
    /// The figures' names: CPU, p50 and p99.
    names: [&'static str; 3],
}

pub(crate) const ONE: Shape = Shape {
    topics: 1,
    subscribers: 1,
    publications: 3_000,
    per_second: 1_000.0,
    names: ["1 to 1, CPU per publication", "1 to 1, p50", "1 to 1, p99"],
};
pub(crate) const THOUSAND: Shape = Shape {
    topics: 1,
    subscribers: 1_000,
    publications: 250,
    per_second: 50.0,
    names: [
        "1 to 1,000, CPU per delivery",
        "1 to 1,000, p50",
        "1 to 1,000, p99",
    ],
};
pub(crate) const TEN_THOUSAND: Shape = Shape {
    topics: 1,
    subscribers: 10_000,
    publications: 20,
    per_second: 2.0,
    names: [
        "1 to 10,000, CPU per delivery",
        "1 to 10,000, p50",
        "1 to 10,000, p99",
    ],
};
pub(crate) const TOPICS: Shape = Shape {
    topics: 1_000,
    subscribers: 10,
    publications: 2_000,
    per_second: 400.0,
    names: [
        "1,000 topics x 10, CPU per delivery",
        "1,000 topics x 10, p50",
        "1,000 topics x 10, p99",
    ],
};

impl Shape {
    /// The same with as many as a scale wants.
    pub(crate) fn at(self, scale: Scale) -> Self {
        let topics = if self.topics > 1 {
            scale.count(self.topics)
        } else {
            1
        };
        let each = scale.count(self.publications).max(topics);
        Self {
            topics,
            subscribers: match self.topics {
                1 => scale.count(self.subscribers),
                _ => self.subscribers,
            },
            // As many for each topic.
            publications: each / topics * topics,
            ..self
        }
    }
}

/// Connections of one subject in a shape, and what is published to them.
pub(crate) struct Audience {
    pub(crate) fleet: Fleet,
    pub(crate) load: Load,
}

impl Audience {
    /// Opens the connections.
    pub(crate) fn gather(subject: &dyn Subject, kind: Kind, shape: Shape) -> Result<Self> {
        let plan = subject
            .plan(kind, "live.{group}")
            .with_context(|| format!("{} has no {}", subject.name(), kind.name()))?;
        let mut fleet = Fleet::default();
        let how = Openings {
            group: shape.subscribers,
            ..Openings::default()
        };
        fleet.open(&plan, subject.tokens(), shape.topics * shape.subscribers, how)?;
        let mut requests = Vec::with_capacity(shape.topics);
        let mut port = 0;
        for topic in 0..shape.topics {
            let (to, request) = subject.publish(&format!("live.{topic}"), &[marks::blank(DATA)]);
            requests.push(request);
            port = to;
        }
        let load = Load {
            port,
            requests,
            batch: 1,
            receivers: shape.subscribers as u64,
            connections: shape.topics.min(4),
            count: shape.publications as u64,
            per_second: shape.per_second,
        };
        Ok(Self { fleet, load })
    }

    /// One round: microseconds of CPU per delivery, and the latency.
    pub(crate) fn hear(&mut self, subject: &dyn Subject) -> Result<(f64, Histogram<u64>)> {
        let measurement = self
            .fleet
            .measure(subject, &self.load)
            .and_then(crate::fleet::Measurement::clean)
            .with_context(|| subject.name())?;
        let late = measurement.lateness.value_at_quantile(0.99) as f64 / 1e6;
        let offered = self.load.count as f64 / self.load.per_second;
        eprintln!(
            "  {}: {:.2} us each, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms; {:.1} s of {offered:.1} s, sent late by {late:.2} ms (p99)",
            subject.name(),
            measurement.each(measurement.received),
            measurement.at(0.5),
            measurement.at(0.99),
            measurement.at(0.999),
            measurement.latency.max() as f64 / 1e6,
            measurement.took.as_secs_f64(),
        );
        Ok((measurement.each(measurement.received), measurement.latency))
    }
}

pub(crate) fn measure(program: &Path, rounds: usize, shape: Shape, scale: Scale) -> Result<Outcome> {
    let shape = shape.at(scale);
    let (floor, carillon) = (Own::floor()?, Carillon::start(program)?);
    let mut theirs = Audience::gather(&floor, Kind::WebSocket, shape)?;
    let mut ours = Audience::gather(&carillon, Kind::WebSocket, shape)?;
    let [mut cpu, mut p50, mut p99] = [Pairs::default(), Pairs::default(), Pairs::default()];
    let (mut all_floor, mut all_ours) = (Histogram::new(3)?, Histogram::new(3)?);
    for _ in 0..rounds {
        let (each, latency) = theirs.hear(&floor)?;
        cpu.floor.push(each);
        p50.floor.push(latency.value_at_quantile(0.5) as f64 / 1e6);
        p99.floor.push(latency.value_at_quantile(0.99) as f64 / 1e6);
        all_floor.add(latency)?;
        let (each, latency) = ours.hear(&carillon)?;
        cpu.carillon.push(each);
        p50.carillon.push(latency.value_at_quantile(0.5) as f64 / 1e6);
        p99.carillon.push(latency.value_at_quantile(0.99) as f64 / 1e6);
        all_ours.add(latency)?;
    }
    let [of_cpu, of_p50, of_p99] = shape.names;
    let place = of_p50.trim_end_matches(", p50");
    // The same names as beside peers, so that the floor stands in the same drawing.
    let drawn = |who: &str, values: &[f64]| Drawing::Cpu {
        who: who.to_owned(),
        scenario: scenario(place, Kind::WebSocket),
        each: median(values.to_vec()),
    };
    let mut drawings = vec![
        Drawing::latency(format!("Carillon, {place}"), &all_ours),
        Drawing::latency(format!("floor, {place}"), &all_floor),
    ];
    // One to one and many topics are of another size.
    if shape.topics == 1 && of_cpu.ends_with("per delivery") {
        drawings.push(drawn("Carillon", &cpu.carillon));
        drawings.push(drawn(floor.name(), &cpu.floor));
    }
    Ok(Outcome {
        figures: vec![
            cpu.figure(of_cpu, "us", 2, floor.name()),
            p50.figure(of_p50, "ms", 2, floor.name()),
            p99.figure(of_p99, "ms", 2, floor.name()),
        ],
        drawings,
        ..Outcome::default()
    })
}
