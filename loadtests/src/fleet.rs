//! The workers of one subject: commands go to all of them, answers are merged.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::{
    commands::{Answer, Churn, Churned, Command, Measured, Plan, Publishing, merge},
    process::beside,
    sequence::Faults,
    subjects::Subject,
};

/// Connections of one process, whose descriptors are limited.
const MOST: usize = 19_000;
/// How long a measurement may take beyond its schedule.
const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU8 = AtomicU8::new(0);

struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    open: usize,
}

impl Worker {
    fn start() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut child = beside()?
            .args(["worker", "--number", &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a worker")?;
        Ok(Self {
            input: child.stdin.take().context("a worker's input")?,
            output: BufReader::new(child.stdout.take().context("a worker's output")?),
            child,
            open: 0,
        })
    }

    fn tell(&mut self, command: &Command) -> Result<()> {
        Ok(writeln!(self.input, "{}", serde_json::to_string(command)?)?)
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match serde_json::from_str(&line).context("a worker ended")? {
            Answer::Failed(why) => bail!("{why}"),
            answer => Ok(answer),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How connections are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Openings {
    pub(crate) in_flight: usize,
    /// Connections that share a topic.
    pub(crate) group: usize,
    /// Those that were closed open again.
    pub(crate) again: bool,
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            in_flight: 64,
            group: 1,
            again: false,
        }
    }
}

/// What is published while it is measured.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) port: u16,
    /// In turn, each to another topic.
    pub(crate) requests: Vec<String>,
    /// Publications in each request.
    pub(crate) batch: u64,
    /// Connections that get each publication.
    pub(crate) receivers: u64,
    pub(crate) connections: usize,
    pub(crate) count: u64,
    /// 0: as fast as answers come.
    pub(crate) per_second: f64,
}

/// What came of it.
pub(crate) struct Measurement {
    pub(crate) received: u64,
    pub(crate) faults: Faults,
    pub(crate) latency: Histogram<u64>,
    pub(crate) lateness: Histogram<u64>,
    pub(crate) took: Duration,
    /// The subject's.
    pub(crate) cpu: Duration,
}

impl Load {
    /// The same for a worker; the first publication of each topic has this number.
    fn publishing(&self, first: u64) -> Publishing {
        Publishing {
            port: self.port,
            requests: self.requests.clone(),
            connections: self.connections,
            count: self.count,
            per_second: self.per_second,
            first,
        }
    }
}

impl Measurement {
    /// Nothing yet.
    ///
    /// # Errors
    /// Never, with three digits.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            received: 0,
            faults: Faults::default(),
            latency: Histogram::new(3)?,
            lateness: Histogram::new(3)?,
            took: Duration::ZERO,
            cpu: Duration::ZERO,
        })
    }

    /// Adds what a worker measured.
    fn add(&mut self, measured: &Measured) -> Result<()> {
        self.received += measured.received;
        self.faults.add(&measured.faults);
        merge(&mut self.latency, &measured.latency)?;
        merge(&mut self.lateness, &measured.lateness)?;
        self.took = self.took.max(Duration::from_nanos(measured.took_ns));
        Ok(())
    }

    /// Adds what another fleet measured meanwhile.
    pub(crate) fn join(&mut self, other: &Self) -> Result<()> {
        self.received += other.received;
        self.faults.add(&other.faults);
        self.latency.add(&other.latency)?;
        self.lateness.add(&other.lateness)?;
        self.took = self.took.max(other.took);
        Ok(())
    }

    /// Microseconds of the subject's CPU for each of so many.
    pub(crate) fn each(&self, count: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count.max(1) as f64
    }

    /// A quantile of the latency in milliseconds.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// Ends the run when a publication was lost, doubled or out of order, or a connection closed.
    pub(crate) fn clean(self) -> Result<Self> {
        ensure!(
            self.faults.none(),
            "not each publication once and in order: {:?}",
            self.faults
        );
        Ok(self)
    }
}

/// Connections to one subject, in as many processes as they need.
#[derive(Default)]
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    /// The number of each topic's next publication.
    pub(crate) next: u64,
}

impl Fleet {
    /// Opens so many connections; answers how long that took and how long each took.
    pub(crate) fn open(
        &mut self,
        plan: &Plan,
        tokens: Option<&Path>,
        count: usize,
        how: Openings,
    ) -> Result<(Duration, Histogram<u64>)> {
        let mut left = count;
        let mut asked = Vec::new();
        for at in 0.. {
            if left == 0 {
                break;
            }
            if at == self.workers.len() {
                self.workers.push(Worker::start()?);
            }
            let worker = &mut self.workers[at];
            let share = left.min(if how.again {
                worker.open
            } else {
                MOST - worker.open
            });
            if share > 0 {
                worker.tell(&Command::Connect {
                    plan: plan.clone(),
                    count: share,
                    in_flight: how.in_flight,
                    group: how.group,
                    tokens: tokens.map(Path::to_owned),
                    first: self.next,
                    again: how.again,
                })?;
                if !how.again {
                    worker.open += share;
                }
                asked.push(at);
                left -= share;
            }
        }
        let (mut took, mut times) = (0, Histogram::new(3)?);
        for at in asked {
            match self.workers[at].answer()? {
                Answer::Connected(connected) => {
                    took = took.max(connected.took_ns);
                    merge(&mut times, &connected.times)?;
                }
                other => bail!("unexpected: {other:?}"),
            }
        }
        Ok((Duration::from_nanos(took), times))
    }

    /// How many connections were opened.
    pub(crate) fn len(&self) -> usize {
        self.workers.iter().map(|worker| worker.open).sum()
    }

    /// Publishes and reads until everything has come.
    pub(crate) fn measure(&mut self, subject: &dyn Subject, load: &Load) -> Result<Measurement> {
        let before = subject.cpu()?;
        self.begin(load)?;
        let mut measurement = self.end()?;
        measurement.cpu = subject.cpu()?.saturating_sub(before);
        Ok(measurement)
    }

    /// Lets `leaving` connections per second leave for `away` while the load lasts, and come back behind what they had; whether
    /// the load is published from here or by another fleet. [`Fleet::end_churn`] ends it.
    pub(crate) fn begin_churn(
        &mut self,
        load: &Load,
        publishes: bool,
        leaving: f64,
        away: Duration,
    ) -> Result<()> {
        let first = self.next;
        self.next += load.count / load.requests.len().max(1) as u64 * load.batch;
        let open = self.len().max(1) as f64;
        for (at, worker) in self.workers.iter_mut().enumerate() {
            worker.tell(&Command::Churn(Churn {
                publishing: (publishes && at == 0).then(|| load.publishing(first)),
                leaving: leaving * worker.open as f64 / open,
                away_ms: away.as_millis() as u64,
                for_ms: (load.count as f64 / load.per_second * 1e3) as u64,
                until: self.next,
                limit_ms: PATIENCE.as_millis() as u64,
            }))?;
        }
        Ok(())
    }

    /// What came of it, and how often a connection came back.
    pub(crate) fn end_churn(&mut self) -> Result<(Measurement, u64)> {
        let (mut all, mut all_returns) = (Measurement::new()?, 0);
        for worker in &mut self.workers {
            let Churned { measured, returns } = match worker.answer()? {
                Answer::Churned(churned) => churned,
                other => bail!("unexpected: {other:?}"),
            };
            all.add(&measured)?;
            all_returns += returns;
        }
        Ok((all, all_returns))
    }

    /// Begins a measurement, which [`Fleet::end`] ends.
    pub(crate) fn begin(&mut self, load: &Load) -> Result<()> {
        let first = self.next;
        self.next += load.count / load.requests.len().max(1) as u64 * load.batch;
        if self.workers.is_empty() {
            self.workers.push(Worker::start()?);
        }
        let schedule = if load.per_second > 0.0 {
            Duration::from_secs_f64(load.count as f64 / load.per_second)
        } else {
            Duration::ZERO
        };
        let (all, open) = (load.count * load.batch * load.receivers, self.len().max(1) as u64);
        for (at, worker) in self.workers.iter_mut().enumerate() {
            worker.tell(&Command::Measure {
                publishing: (at == 0).then(|| load.publishing(first)),
                deliveries: all * worker.open as u64 / open,
                until: (load.receivers > 0).then_some(self.next),
                limit_ms: (schedule + PATIENCE).as_millis() as u64,
            })?;
        }
        Ok(())
    }

    /// Waits for what others publish: so many publications more in each topic, so many deliveries in all.
    pub(crate) fn await_others(
        &mut self,
        publications: u64,
        deliveries: u64,
        limit: Duration,
    ) -> Result<Measurement> {
        self.next += publications;
        let open = self.len().max(1) as u64;
        for worker in &mut self.workers {
            worker.tell(&Command::Measure {
                publishing: None,
                deliveries: deliveries * worker.open as u64 / open,
                until: Some(self.next),
                limit_ms: limit.as_millis() as u64,
            })?;
        }
        self.end()
    }

    /// The end of a measurement that was begun; without the subject's CPU.
    pub(crate) fn end(&mut self) -> Result<Measurement> {
        let mut all = Measurement::new()?;
        for worker in &mut self.workers {
            match worker.answer()? {
                Answer::Measured(measured) => all.add(&measured)?,
                other => bail!("unexpected: {other:?}"),
            }
        }
        Ok(all)
    }

    /// Each connection whose number divides by `every` is not read any more.
    pub(crate) fn stall(&mut self, every: usize) -> Result<()> {
        self.order(&Command::Stall { every })
    }

    /// Closes each connection whose number divides by `every`.
    pub(crate) fn close(&mut self, every: usize) -> Result<()> {
        self.order(&Command::Close { every })
    }

    fn order(&mut self, command: &Command) -> Result<()> {
        for worker in &mut self.workers {
            worker.tell(command)?;
        }
        for worker in &mut self.workers {
            ensure!(matches!(worker.answer()?, Answer::Done), "an unexpected answer");
        }
        Ok(())
    }
}
