//! A process that holds many connections on one thread. Between measurements it sleeps and answers pings; while it
//! measures it never sleeps, because a client that sleeps makes the server pay for waking it.

mod churn;
mod connection;
mod open;
mod publisher;

use std::{
    io::{BufRead as _, ErrorKind, Read as _, Write as _},
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, Waker, event::Event};

use self::{connection::Connection, open::Opening, publisher::Publisher};
use crate::{
    commands::{Answer, Command, Measured, Plan, recorded},
    marks::Finder,
    sequence::Faults,
    sources::Sources,
};

/// Tokens of the publisher's connections begin here; those of the others are their numbers.
const PUBLISHER: usize = 1 << 32;
const WAKER: Token = Token(usize::MAX);
/// How long it looks for surplus frames when all have come.
const SURPLUS: Duration = Duration::from_millis(30);

/// What the process is told at its start.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which worker it is: its connections come from 127.0.N.2 and up.
    #[arg(long)]
    number: u8,
}

/// Nanoseconds since 1970: the clock that processes share.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

/// Serves its parent's commands until standard input ends.
#[expect(clippy::print_stdout, reason = "the answers to its parent")]
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut worker = Worker::new(arguments.number)?;
    let waker = Arc::new(Waker::new(worker.poll.registry(), WAKER)?);
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
            // It sleeps between commands.
            let _ = waker.wake();
        }
        drop(sender);
        let _ = waker.wake();
    });
    loop {
        match commands.try_recv() {
            Ok(line) => {
                let answer = serde_json::from_str(&line)
                    .map_err(Into::into)
                    .and_then(|command| worker.obey(command))
                    .unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
                println!("{}", serde_json::to_string(&answer)?);
            }
            Err(mpsc::TryRecvError::Empty) => worker.turn(None)?,
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// What came since the last measurement.
struct Tally {
    received: u64,
    faults: Faults,
    latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            received: 0,
            faults: Faults::default(),
            latency: Histogram::new(3)?,
        })
    }
}

struct Worker {
    poll: Poll,
    events: Option<Events>,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    sources: Sources,
    tally: Tally,
    finder: Finder,
    plan: Option<Plan>,
    opening: Opening,
    publisher: Option<Publisher>,
}

impl Worker {
    fn new(number: u8) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Some(Events::with_capacity(1024)),
            buffer: vec![0; 256 * 1024],
            connections: Vec::new(),
            sources: Sources::of(number),
            tally: Tally::new()?,
            finder: Finder::default(),
            plan: None,
            opening: Opening::new()?,
            publisher: None,
        })
    }

    fn obey(&mut self, command: Command) -> Result<Answer> {
        match command {
            Command::Connect {
                plan,
                count,
                in_flight,
                group,
                tokens,
                first,
                again,
            } => {
                let tokens = match tokens {
                    Some(path) => {
                        let text =
                            std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                        text.lines().map(str::to_owned).collect()
                    }
                    None => Vec::new(),
                };
                self.plan = Some(plan);
                self.opening.begin(tokens, group, in_flight, first)?;
                self.open(count, again).map(Answer::Connected)
            }
            Command::Measure {
                publishing,
                deliveries,
                until,
                limit_ms,
            } => {
                self.publisher = match publishing {
                    Some(publishing) => Some(Publisher::connect(&publishing, &self.poll)?),
                    None => None,
                };
                let outcome = self.measure(deliveries, until, Duration::from_millis(limit_ms));
                self.publisher = None;
                outcome.map(Answer::Measured)
            }
            Command::Churn(churn) => {
                self.publisher = match &churn.publishing {
                    Some(publishing) => Some(Publisher::connect(publishing, &self.poll)?),
                    None => None,
                };
                let outcome = self.churn(&churn);
                self.publisher = None;
                outcome.map(Answer::Churned)
            }
            Command::Stall { every } => {
                for connection in self.connections.iter_mut().step_by(every.max(1)) {
                    connection.stall(&self.poll)?;
                }
                Ok(Answer::Done)
            }
            Command::Close { every } => {
                for connection in self.connections.iter_mut().step_by(every.max(1)) {
                    connection.close();
                }
                Ok(Answer::Done)
            }
        }
    }

    fn measure(&mut self, deliveries: u64, until: Option<u64>, limit: Duration) -> Result<Measured> {
        let begin = Instant::now();
        let mut is_published = self.publisher.is_none();
        while !is_published || self.tally.received < deliveries {
            if let Some(publisher) = &mut self.publisher {
                publisher.turn(now())?;
                is_published = publisher.is_done();
            }
            self.turn(Some(Duration::ZERO))?;
            if begin.elapsed() > limit {
                break;
            }
        }
        let took = begin.elapsed();
        if !is_published {
            bail!(
                "{} after {limit:?}",
                self.publisher
                    .as_ref()
                    .map_or_else(String::new, Publisher::progress)
            );
        }
        while deliveries > 0 && begin.elapsed() < took + SURPLUS {
            self.turn(Some(Duration::ZERO))?;
        }
        let behind = until.map_or(0, |until| {
            let short = |connection: &&Connection| connection.counts() && connection.sequence.next != until;
            self.connections.iter().filter(short).count()
        });
        self.measured(took, behind as u64)
    }

    /// What was counted, with so many connections that did not come as far as they should; counting begins anew.
    fn measured(&mut self, took: Duration, behind: u64) -> Result<Measured> {
        let mut tally = std::mem::replace(&mut self.tally, Tally::new()?);
        tally.faults.behind += behind;
        Ok(Measured {
            received: tally.received,
            faults: tally.faults,
            latency: recorded(&tally.latency),
            lateness: self
                .publisher
                .as_ref()
                .map_or_else(Vec::new, |publisher| recorded(&publisher.lateness)),
            took_ns: took.as_nanos() as u64,
        })
    }

    /// Waits at most so long for something, for ever without a limit, and reads what has come.
    fn turn(&mut self, wait: Option<Duration>) -> Result<()> {
        let mut events = self.events.take().context("a turn within a turn")?;
        let outcome = match self.poll.poll(&mut events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => events.iter().try_for_each(|event| self.serve(event)),
        };
        self.events = Some(events);
        outcome
    }

    fn serve(&mut self, event: &Event) -> Result<()> {
        match event.token() {
            WAKER => Ok(()),
            Token(lane) if lane >= PUBLISHER => match &mut self.publisher {
                Some(publisher) => publisher.read(lane - PUBLISHER, &mut self.buffer),
                None => Ok(()),
            },
            Token(number) => {
                if self.connections[number].is_opening() && event.is_writable() {
                    self.greet(number)?;
                }
                let is_over = event.is_read_closed() || event.is_error();
                if event.is_readable() || is_over {
                    self.read(number, is_over)
                        .with_context(|| format!("connection {number}"))?;
                }
                Ok(())
            }
        }
    }

    /// Reads until nothing is left: a short read says so, except where the end may be behind it.
    fn read(&mut self, number: usize, to_the_end: bool) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = loop {
            let connection = &mut self.connections[number];
            let Some(stream) = &mut connection.stream else {
                break Ok(());
            };
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.lose(number);
                    break Ok(());
                }
                Ok(count) => {
                    if let Err(error) = self.take(number, &buffer[..count], now()) {
                        break Err(error);
                    }
                    if count < buffer.len() && !to_the_end {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.lose(number);
                    break Ok(());
                }
                Err(error) => break Err(error.into()),
            }
        };
        self.buffer = buffer;
        outcome
    }

    /// The server closed it.
    fn lose(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        if connection.is_opening() {
            self.opening
                .fail(format!("the server closed connection {number}"));
        }
        connection.close();
        if !connection.is_stalled {
            self.tally.faults.closed += 1;
        }
    }

    /// Sends a text frame.
    fn say(&mut self, number: usize, frame: &[u8]) -> Result<()> {
        if let Some(stream) = &mut self.connections[number].stream {
            stream.write_all(frame).context("a short write")?;
        }
        Ok(())
    }

    /// From now on it is only read.
    fn only_read(&mut self, number: usize) -> Result<()> {
        if let Some(stream) = &mut self.connections[number].stream {
            self.poll
                .registry()
                .reregister(stream, Token(number), Interest::READABLE)?;
        }
        Ok(())
    }
}
