//! Carillon beside one peer: the same client, the same data, in turns. Each turn starts both anew, since memory only
//! shows what a process has never held before.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{Peer, all};
use crate::{
    commands::Kind,
    drawings::{Drawing, scenario},
    fleet::{Fleet, Measurement},
    idle::{grow, idle_cpu},
    report::{Comparison, Outcome, median, spread},
    scale::Scale,
    subjects::{Carillon, Subject, steadily},
};

const PAIRS: usize = 3;
const SIZES: [usize; 2] = [1_000, 10_000];
/// Publications and how many of them per second, for each size: what the slowest of them can do in time.
const LOADS: [(usize, f64); 2] = [(60, 20.0), (8, 1.0)];
const SETTLING: Duration = Duration::from_secs(2);
/// Idle CPU is taken over so long, a little more than Carillon's heartbeat, in one pair alone: in all three it would take
/// more time than a scenario has.
const HELD: Duration = Duration::from_secs(26);

/// What one turn of one server says.
struct Turn {
    /// Microseconds per delivery, for each size.
    cpu: [f64; 2],
    /// Bytes per connection between the sizes.
    memory: f64,
    /// Percent of a core for 10,000 that are idle; only where it was asked for.
    idle: Option<f64>,
}

/// All kinds of connections that the peer has.
pub(crate) fn measure(program: &Path, name: &str, kind: Kind, scale: Scale) -> Result<Outcome> {
    let peer = all()
        .into_iter()
        .find(|peer| peer.name() == name)
        .context("no such peer")?;
    let Some(version) = peer.version() else {
        return Ok(absent(peer.as_ref()));
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        let subject = peer.start().with_context(|| version.clone())?;
        if subject.plan(kind, "any").is_none() {
            return Ok(Outcome::default());
        }
        let held = (pair == PAIRS).then_some(HELD);
        theirs.push(turn(subject.as_ref(), kind, scale, held).with_context(|| version.clone())?);
        drop(subject);
        ours.push(turn(&Carillon::start(program)?, kind, scale, held).context("Carillon")?);
        eprintln!("  pair {pair} of {PAIRS} is done");
    }
    let mut outcome = Outcome::default();
    for (at, place) in ["1 to 1,000", "1 to 10,000"].into_iter().enumerate() {
        let [us, them] =
            [&ours, &theirs].map(|turns| turns.iter().map(|turn| turn.cpu[at]).collect::<Vec<_>>());
        for (who, values) in [("Carillon", &us), (name, &them)] {
            outcome.drawings.push(Drawing::Cpu {
                who: who.to_owned(),
                scenario: scenario(place, kind),
                each: median(values.clone()),
            });
        }
        outcome.comparisons.push(comparison(
            format!("{version}, {}, {place}, CPU per delivery", kind.name()),
            us,
            them,
            |value| format!("{value:.2} us"),
        ));
    }
    let [us, them] = [&ours, &theirs].map(|turns| turns.iter().map(|turn| turn.memory).collect::<Vec<_>>());
    outcome.comparisons.push(comparison(
        format!("{version}, {}, memory per connection", kind.name()),
        us,
        them,
        |value| format!("{:.1} KiB", value / 1024.0),
    ));
    let [us, them] =
        [&ours, &theirs].map(|turns| turns.iter().filter_map(|turn| turn.idle).collect::<Vec<_>>());
    outcome.comparisons.push(comparison(
        format!("{version}, {}, idle CPU of 10,000 (one pair)", kind.name()),
        us,
        them,
        |value| format!("{value:.2} % of a core"),
    ));
    Ok(outcome)
}

fn absent(peer: &dyn Peer) -> Outcome {
    Outcome {
        comparisons: vec![Comparison {
            what: peer.name().to_owned(),
            carillon: "-".to_owned(),
            peer: format!("not installed ({})", peer.how()),
            ratio: "-".to_owned(),
        }],
        ..Outcome::default()
    }
}

fn comparison(what: String, ours: Vec<f64>, theirs: Vec<f64>, say: impl Fn(f64) -> String) -> Comparison {
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
    Comparison {
        what,
        ratio: spread(ratios.collect()),
        carillon: say(median(ours)),
        peer: say(median(theirs)),
    }
}

fn turn(subject: &dyn Subject, kind: Kind, scale: Scale, held: Option<Duration>) -> Result<Turn> {
    let sizes = SIZES.map(|size| scale.count(size));
    let mut fleet = Fleet::default();
    let mut cpu = [0.0; 2];
    let mut memory = [0; 2];
    for (at, (count, per_second)) in LOADS.into_iter().enumerate() {
        // What was opened before stays.
        grow(subject, kind, sizes[at], &mut fleet)?;
        let load = steadily(
            subject,
            sizes[at] as u64,
            scale.count(count * 50).min(count) as u64,
            per_second,
        );
        let measurement = fleet.measure(subject, &load).and_then(Measurement::clean)?;
        cpu[at] = measurement.each(measurement.received);
        std::thread::sleep(scale.time(SETTLING));
        memory[at] = subject.memory()?;
    }
    let idle = match held {
        Some(held) => Some(idle_cpu(subject, sizes[1], scale.time(held), &|| Ok(()))?),
        None => None,
    };
    Ok(Turn {
        cpu,
        idle,
        memory: (memory[1] as f64 - memory[0] as f64) / (sizes[1] - sizes[0]) as f64,
    })
}
