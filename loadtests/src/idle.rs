//! What idle connections cost: memory as the slope between two sizes, after a message each way; CPU with the heartbeat on;
//! and whether memory comes back.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    commands::Kind,
    drawings::Drawing,
    fleet::{Fleet, Openings},
    http::Client,
    kernel,
    pairs::alone,
    report::{Figure, Outcome, spread},
    scale::Scale,
    subjects::{Carillon, Own, Subject, TOPIC, steadily},
};

const SMALL: usize = 4_000;
const LARGE: usize = 12_000;
/// Until what was allocated on the way is given back.
const SETTLING: Duration = Duration::from_secs(5);
/// Two heartbeats.
const HELD: Duration = Duration::from_secs(50);
/// One, which the floor is told to send.
const BEAT: Duration = Duration::from_secs(25);
/// By then memory should be back.
const AFTER: Duration = Duration::from_secs(10);

/// Bytes of a subject at points of a run.
pub(crate) struct Idle {
    pub(crate) baseline: u64,
    pub(crate) points: [(usize, u64); 2],
    /// Of both ends, per connection.
    kernel: f64,
    /// After half have left, and all.
    half: u64,
    none: u64,
    /// Share of a core for 10,000.
    cpu: f64,
}

impl Idle {
    pub(crate) fn slope(&self) -> f64 {
        let [(small, before), (large, after)] = self.points;
        (after as f64 - before as f64) / (large - small) as f64
    }

    /// What a fall left above the baseline, in percent of the peak.
    fn held(&self, now: u64) -> f64 {
        let peak = self.points[1].1.max(1) as f64;
        (now as f64 - self.baseline as f64) / peak * 100.0
    }
}

/// The figures' names.
struct Names {
    slope: &'static str,
    kernel: &'static str,
    half: &'static str,
    none: &'static str,
    cpu: &'static str,
}

const WEBSOCKET: Names = Names {
    slope: "idle WebSocket, memory slope, user space",
    kernel: "idle WebSocket, kernel memory, both ends",
    half: "idle WebSocket, held 10 s after half left",
    none: "idle WebSocket, held 10 s after all left",
    cpu: "idle WebSocket, CPU of 10,000 with heartbeat",
};
const SSE: Names = Names {
    slope: "idle SSE, memory slope, user space",
    kernel: "idle SSE, kernel memory, both ends",
    half: "idle SSE, held 10 s after half left",
    none: "idle SSE, held 10 s after all left",
    cpu: "idle SSE, CPU of 10,000 with heartbeat",
};

pub(crate) fn measure(program: &Path, kind: Kind, scale: Scale) -> Result<Outcome> {
    let names = match kind {
        Kind::WebSocket => WEBSOCKET,
        Kind::Sse => SSE,
    };
    let floor = {
        let floor = Own::floor()?;
        of(&floor, kind, scale, BEAT, &|| beat(&floor))?
    };
    let ours = of(&Carillon::start(program)?, kind, scale, HELD, &|| Ok(()))?;
    let held = |ours: f64, floor: f64| {
        (
            format!("{ours:.1} % of the peak"),
            format!("{floor:.1} %, bare epoll"),
        )
    };
    let half = held(ours.held(ours.half), floor.held(floor.half));
    let none = held(ours.held(ours.none), floor.held(floor.none));
    let drawing = |name: &str, idle: &Idle| Drawing::Memory {
        name: format!("{name}, {}", kind.name()),
        points: idle
            .points
            .iter()
            .map(|(count, bytes)| (*count as f64, bytes.saturating_sub(idle.baseline) as f64))
            .collect(),
    };
    Ok(Outcome {
        drawings: vec![drawing("Carillon", &ours), drawing("bare epoll", &floor)],
        figures: vec![
            Figure {
                name: names.slope,
                carillon: format!("{:.0} B", ours.slope()),
                floor: format!("{:.0} B, bare epoll", floor.slope()),
                ratio: spread(vec![ours.slope() / floor.slope().max(1.0)]),
            },
            alone(
                names.kernel,
                format!("{:.0} B", ours.kernel),
                format!("{:.0} B, bare epoll", floor.kernel),
            ),
            alone(names.half, half.0, half.1),
            alone(names.none, none.0, none.1),
            Figure {
                name: names.cpu,
                carillon: format!("{:.2} % of a core", ours.cpu),
                floor: format!("{:.2} %, one write and its answer each per 25 s", floor.cpu),
                ratio: spread(vec![ours.cpu / floor.cpu]),
            },
        ],
        ..Outcome::default()
    })
}

/// Opens connections up to this size, each of which then gets a few publications.
pub(crate) fn grow(subject: &dyn Subject, kind: Kind, size: usize, fleet: &mut Fleet) -> Result<()> {
    let plan = subject
        .plan(kind, TOPIC)
        .with_context(|| format!("{} has no {}", subject.name(), kind.name()))?;
    fleet.open(&plan, subject.tokens(), size - fleet.len(), Openings::default())?;
    fleet
        .measure(subject, &steadily(subject, size as u64, 3, 2.0))?
        .clean()?;
    Ok(())
}

/// The floor's heartbeat: what a client answers, or a few bytes on a stream.
fn beat(floor: &dyn Subject) -> Result<()> {
    let (port, request) = floor.publish(TOPIC, &["{}".to_owned()]);
    let (status, _) = Client::connect(port, "")?.exchange(request.as_bytes())?;
    ensure!(status == 200, "the floor's heartbeat: {status}");
    Ok(())
}

/// Percent of a core that 10,000 connections cost while nothing is published, from what `count` cost in this time.
pub(crate) fn idle_cpu(
    subject: &dyn Subject,
    count: usize,
    held: Duration,
    begin: &dyn Fn() -> Result<()>,
) -> Result<f64> {
    let before = subject.cpu()?;
    begin()?;
    std::thread::sleep(held);
    let spent = subject.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() / held.as_secs_f64() * 1e6 / count as f64)
}

/// `begin` is called before idle CPU is taken.
fn of(
    subject: &dyn Subject,
    kind: Kind,
    scale: Scale,
    held: Duration,
    begin: &dyn Fn() -> Result<()>,
) -> Result<Idle> {
    let settling = scale.time(SETTLING);
    std::thread::sleep(settling);
    let baseline = subject.memory()?;
    let sizes = [scale.count(SMALL), scale.count(LARGE)];
    let kernel_before = kernel::sockets()?;
    let mut fleet = Fleet::default();
    let mut points = [(0, 0); 2];
    for (point, size) in points.iter_mut().zip(sizes) {
        grow(subject, kind, size, &mut fleet)?;
        std::thread::sleep(settling);
        *point = (size, subject.memory()?);
    }
    let kernel = (kernel::sockets()? as f64 - kernel_before as f64) / sizes[1] as f64;
    let cpu = idle_cpu(subject, sizes[1], scale.time(held), begin)?;
    fleet.close(2)?;
    std::thread::sleep(scale.time(AFTER));
    let half = subject.memory()?;
    fleet.close(1)?;
    std::thread::sleep(scale.time(AFTER));
    Ok(Idle {
        baseline,
        points,
        kernel,
        half,
        none: subject.memory()?,
        cpu,
    })
}
