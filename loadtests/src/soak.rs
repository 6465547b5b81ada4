//! Many connections for a long time, some of which leave and come back all the while, with publications by the clock: nobody
//! may miss one, get it twice or out of order, and nothing that the server holds may rise.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    commands::{Kind, Plan},
    flatness::{Bound, Watched},
    fleet::{Fleet, Load, Measurement, Openings},
    http::Client,
    kernel, machine, marks, sections,
    subjects::{Carillon, DATA, Subject},
    svg::{self, Axes, Series},
};

/// Connections of each kind that share a topic.
const GROUP: usize = 50;
/// Publications in each topic before the first connection: as many as its history keeps, so that the store is from the
/// beginning as large as it stays, and the bounded caches of its pages are full.
const HISTORY: u64 = 1_000;
/// Of these in one request.
const BATCH: u64 = 100;
/// Publications in each topic per second.
const PER_SECOND: u64 = 1;
/// The share of all connections that leaves each second, and for how long: each has left and come back after 50 s.
const LEAVING: f64 = 0.02;
const AWAY: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_secs(1);
/// A line of progress after so many samples.
const SAID_EVERY: usize = 10;
/// What fills up at the beginning (pools, page caches, sockets that wait for their end for a minute) is not judged: a fifth
/// of the time, at most so long.
const WARM_UP: Duration = Duration::from_secs(120);
/// The allocator's pages and SQLite's caches still move by a few percent when all is warm. Over ten minutes a twentieth is
/// less than 50 bytes for each connection that came back, so a single forgotten value would show.
const MEMORY: Bound = Bound {
    share: 0.05,
    amount: 1_048_576.0,
};
/// Of things that are counted one by one: as many as are away or on their way at one time vary by far less.
const COUNTED: Bound = Bound {
    share: 0.01,
    amount: 20.0,
};
/// The runtime adds threads for files while they are busy, and ends them when they are not.
const THREADS: Bound = Bound {
    share: 0.0,
    amount: 3.0,
};
pub(crate) const HEADING: &str = "## Soak";
const DRAWING: &str = "bench-soak.svg";
/// Points of a line in the drawing.
const DRAWN: usize = 150;

/// What the command line says.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server's executable, built with optimisations.
    #[arg(long)]
    server: PathBuf,
    /// How long connections leave and come back.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Half of them WebSockets, half event streams; the server may have 20,000 files open.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// A Markdown page whose section "Soak" is written anew, with the drawing in `images` beside it.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// # Errors
/// When a publication was lost, doubled or out of order anywhere, a connection was closed, or something rises.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let time = Duration::from_secs(arguments.minutes.max(1) * 60);
    let each = (arguments.connections / 2).max(1);
    let carillon = Carillon::start(&arguments.server)?;
    let fleets = gather(&carillon, each)?;
    let load = load(&carillon, each, time);
    let begin = Instant::now();
    let mut running = Vec::new();
    for (number, mut fleet) in fleets.into_iter().enumerate() {
        fleet.begin_churn(&load, number == 0, LEAVING * each as f64, AWAY)?;
        // The fleet comes back with what it says: its processes end with it.
        running.push(std::thread::spawn(move || (fleet.end_churn(), fleet)));
    }
    let watched = watch(&carillon, begin, time, &running)?;
    let (mut all, mut returns) = (Measurement::new()?, 0);
    for thread in running {
        let (outcome, _fleet) = thread.join().ok().context("a thread panicked")?;
        let (measurement, came_back) = outcome?;
        all.join(&measurement)?;
        returns += came_back;
    }
    let expected = load.count / load.requests.len() as u64 * 2 * each as u64;
    let all = all.clean()?;
    ensure!(
        all.received == expected,
        "{} deliveries instead of {expected}",
        all.received
    );
    let from = (time / 5).min(WARM_UP).as_secs_f64();
    let text = said(arguments, &watched, from, &all, returns)?;
    println!("{text}");
    if let Some(page) = &arguments.report {
        write(page, &text, &drawing(&watched, from))?;
    }
    let rising: Vec<_> = watched
        .iter()
        .filter(|watched| !watched.judge(from).is_flat())
        .map(|watched| watched.name)
        .collect();
    ensure!(rising.is_empty(), "not flat: {}", rising.join(", "));
    Ok(())
}

/// One fleet of each kind, each connection behind the last publication of its topic.
fn gather(carillon: &Carillon, each: usize) -> Result<[Fleet; 2]> {
    let epochs = (0..each.div_ceil(GROUP))
        .map(|group| begin(carillon, group))
        .collect::<Result<Vec<_>>>()?;
    let how = Openings {
        group: GROUP,
        ..Openings::default()
    };
    let topic = topic("{group}");
    let stream = carillon
        .plan(Kind::Sse, &format!("{topic}@{{epoch}}-{{offset}}"))
        .context("no SSE")?;
    let mut fleets = [Fleet::default(), Fleet::default()];
    let plans = [carillon.resume(&topic, "{epoch}", "{offset}"), stream];
    for (fleet, plan) in fleets.iter_mut().zip(plans) {
        fleet.next = HISTORY + 1;
        let plan = Plan {
            epochs: epochs.clone(),
            ..plan
        };
        fleet.open(&plan, carillon.tokens(), each, how)?;
        eprintln!("{each} connections ({}) are open", plan.kind.name());
    }
    Ok(fleets)
}

fn topic(group: &str) -> String {
    format!("kept.soak.{group}")
}

/// Fills a topic's history; answers its epoch. From here a publication's number in the topic is the one that it carries, so
/// that a connection knows by itself where to go on.
fn begin(carillon: &Carillon, group: usize) -> Result<String> {
    let mut client = Client::connect(carillon.server.port, &carillon.server.key)?;
    let path = format!("/v1/topics/{}/publish", topic(&group.to_string()));
    let data = serde_json::json!({"data": "x".repeat(DATA)});
    let body = serde_json::json!({"publications": vec![data; BATCH as usize]}).to_string();
    let mut last = Value::Null;
    for _ in 0..HISTORY / BATCH {
        let mut answer = client.post(&path, &body)?;
        last = answer["data"][BATCH as usize - 1]["position"].take();
    }
    match last.as_str().and_then(|position| position.rsplit_once('-')) {
        Some((epoch, number)) if number.parse() == Ok(HISTORY) => Ok(epoch.to_owned()),
        _ => bail!("{HISTORY} publications in a new topic end at {last}"),
    }
}

fn load(carillon: &Carillon, each: usize, time: Duration) -> Load {
    let topics = each.div_ceil(GROUP);
    let requests: Vec<_> = (0..topics)
        .map(|group| carillon.publish(&topic(&group.to_string()), &[marks::blank(DATA)]))
        .collect();
    Load {
        port: carillon.server.port,
        requests: requests.into_iter().map(|(_, request)| request).collect(),
        batch: 1,
        receivers: 2 * GROUP as u64,
        connections: topics.min(8),
        count: time.as_secs() * PER_SECOND * topics as u64,
        per_second: (PER_SECOND * topics as u64) as f64,
    }
}

type Running = JoinHandle<(Result<(Measurement, u64)>, Fleet)>;

/// Takes a sample every second until the time is over, or a fleet has ended before.
fn watch(carillon: &Carillon, begin: Instant, time: Duration, running: &[Running]) -> Result<Vec<Watched>> {
    let mebibytes = (1_048_576.0, "MiB");
    let watched = |name, unit, bound| Watched {
        name,
        unit,
        points: Vec::new(),
        bound,
    };
    let mut all = vec![
        watched("memory, user space", mebibytes, MEMORY),
        watched("memory of sockets, kernel", mebibytes, MEMORY),
        watched("open files", (1.0, ""), COUNTED),
        watched("connections, own count", (1.0, ""), COUNTED),
        watched("tasks", (1.0, ""), COUNTED),
        watched("threads", (1.0, ""), THREADS),
    ];
    let process = carillon.server.process();
    let count =
        |what: &str| -> Result<f64> { Ok(fs::read_dir(format!("/proc/{process}/{what}"))?.count() as f64) };
    for number in 0.. {
        let at = begin.elapsed();
        if at >= time || running.iter().any(JoinHandle::is_finished) {
            break;
        }
        let values = [
            carillon.memory()? as f64,
            kernel::sockets_alone()? as f64,
            count("fd")?,
            carillon.server.counter("carillon_hub_connections", &[])?,
            carillon.server.counter("carillon_tasks", &[])?,
            count("task")?,
        ];
        for (watched, value) in all.iter_mut().zip(values) {
            watched.points.push((at.as_secs_f64(), value));
        }
        if number % SAID_EVERY == 0 {
            eprintln!(
                "{:>4.0} s of {}: {:.1} MiB, kernel {:.1} MiB, {} files, {} connections, {} tasks, {} threads",
                at.as_secs_f64(),
                time.as_secs(),
                values[0] / mebibytes.0,
                values[1] / mebibytes.0,
                values[2],
                values[3],
                values[4],
                values[5]
            );
        }
        std::thread::sleep((EVERY * (number as u32 + 1)).saturating_sub(begin.elapsed()));
    }
    Ok(all)
}

/// The page's section.
fn said(
    arguments: &Arguments,
    watched: &[Watched],
    from: f64,
    all: &Measurement,
    returns: u64,
) -> Result<String> {
    let lasted = watched[0].points.last().map_or(0.0, |(at, _)| *at);
    let mut text = format!(
        "{HEADING}\n\nMade by `carillon-loadtests soak --minutes {} --connections {}` (`make bench-soak`): {}.\n\n\
         {} connections, half of them WebSockets and half event streams, of {} users; {:.0} % of them leave each second and come back after {} s \
         behind what they had: {returns} returns. {} deliveries of {PER_SECOND} publication per second and topic: none lost, none doubled, none out of \
         order; to who was there p50 {:.2} ms, p99 {:.2} ms, max {:.0} ms from when it should have left. The rise is that of the straight line through all \
         samples from {from:.0} s to {lasted:.0} s. The kernel's memory is of both ends.\n\n| of the server | median | rise | allowed |\n|---|---|---|---|\n",
        arguments.minutes,
        arguments.connections,
        machine::describe(&arguments.server)?,
        arguments.connections,
        arguments.connections / 2,
        LEAVING * 100.0,
        AWAY.as_secs(),
        all.received,
        all.at(0.5),
        all.at(0.99),
        all.latency.max() as f64 / 1e6,
    );
    for watched in watched {
        let verdict = watched.judge(from);
        let (scale, unit) = watched.unit;
        let show = |value: f64| format!("{:.1} {unit}", value / scale).trim_end().to_owned();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            watched.name,
            show(verdict.median),
            show(verdict.rise),
            show(verdict.allowed)
        );
    }
    let _ = writeln!(text, "\n![Soak](images/{DRAWING})");
    Ok(text)
}

/// Each in percent of its median, so that one drawing shows all: what is flat stays at 100.
fn drawing(watched: &[Watched], from: f64) -> String {
    let series: Vec<_> = watched
        .iter()
        .map(|watched| {
            let whole = watched.judge(from).median.max(1e-9);
            let step = watched.points.len().div_ceil(DRAWN).max(1);
            let points = watched.points.iter().step_by(step);
            Series {
                name: watched.name.to_owned(),
                points: points.map(|(at, value)| (*at, value / whole * 100.0)).collect(),
            }
        })
        .collect();
    let axes = Axes {
        title: "Soak: what the server holds, in percent of the median",
        x: "seconds",
        y: "%",
        logarithmic: false,
    };
    svg::lines(&axes, &series)
}

fn write(page: &Path, text: &str, drawing: &str) -> Result<()> {
    let images = page.with_file_name("images");
    fs::create_dir_all(&images)?;
    fs::write(images.join(DRAWING), drawing)?;
    let old = fs::read_to_string(page).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let new = sections::put(&old, HEADING, text, "## How it is measured");
    fs::write(page, new).with_context(|| page.display().to_string())
}
