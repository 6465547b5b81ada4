//! Publishes from the thread that reads, which is awake anyway: when a publication is due, over kept connections.

use std::io::{ErrorKind, Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use mio::{Interest, Poll, Registry, Token, net::TcpStream};

use super::{PUBLISHER, now};
use crate::{commands::Publishing, connect, http, marks, schedule::Schedule};

/// The first request is due so long after the connections are there, in nanoseconds.
const HEAD_START: u64 = 5_000_000;

pub(super) struct Publisher {
    templates: Vec<Template>,
    lanes: Vec<Lane>,
    port: u16,
    registry: Registry,
    schedule: Schedule,
    count: u64,
    sent: u64,
    answered: u64,
    pub(super) lateness: Histogram<u64>,
}

struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
    next: u64,
}

struct Lane {
    stream: TcpStream,
    is_busy: bool,
    unsent: Vec<u8>,
    answer: Vec<u8>,
}

impl Publisher {
    pub(super) fn connect(publishing: &Publishing, poll: &Poll) -> Result<Self> {
        let registry = poll.registry().try_clone()?;
        let mut lanes = Vec::with_capacity(publishing.connections);
        for number in 0..publishing.connections {
            lanes.push(Lane::connect(publishing.port, number, &registry)?);
        }
        let templates = publishing.requests.iter().map(|request| Template {
            bytes: request.clone().into_bytes(),
            places: marks::places(request.as_bytes()),
            next: publishing.first,
        });
        Ok(Self {
            templates: templates.collect(),
            lanes,
            port: publishing.port,
            registry,
            schedule: Schedule::new(now() + HEAD_START, publishing.per_second),
            count: publishing.count,
            sent: 0,
            answered: 0,
            lateness: Histogram::new(3)?,
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.answered == self.count
    }

    pub(super) fn progress(&self) -> String {
        format!(
            "{} of {} requests were sent, {} answered",
            self.sent, self.count, self.answered
        )
    }

    /// Sends what is due on connections that are free.
    pub(super) fn turn(&mut self, now: u64) -> Result<()> {
        while self.sent < self.count {
            let due = self.schedule.due(self.sent);
            if due.is_some_and(|due| due > now) {
                break;
            }
            let turn = self.sent as usize % self.templates.len();
            // What is asked on two connections at once has no order: a topic of several keeps to its connection.
            let own = (self.templates.len() > 1).then(|| turn % self.lanes.len());
            let free =
                |(number, lane): &(usize, &mut Lane)| !lane.is_busy && own.is_none_or(|own| own == *number);
            let Some((_, lane)) = self.lanes.iter_mut().enumerate().find(free) else {
                break;
            };
            let template = &mut self.templates[turn];
            for place in &template.places {
                marks::stamp(&mut template.bytes, *place, template.next, due.unwrap_or(now));
                template.next += 1;
            }
            lane.unsent.extend_from_slice(&template.bytes);
            lane.is_busy = true;
            if let Some(due) = due {
                self.lateness.record(now - due)?;
            }
            self.sent += 1;
            lane.flush()?;
        }
        for lane in &mut self.lanes {
            lane.flush()?;
        }
        Ok(())
    }

    /// Reads a connection's answers.
    pub(super) fn read(&mut self, lane: usize, buffer: &mut [u8]) -> Result<()> {
        let number = lane;
        let Some(lane) = self.lanes.get_mut(number) else {
            return Ok(());
        };
        let mut is_over = false;
        loop {
            match lane.stream.read(buffer) {
                Ok(0) => {
                    is_over = true;
                    break;
                }
                Ok(count) => lane.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a publisher's connection"),
            }
        }
        while let Some((status, body, used)) = http::parse(&lane.answer)? {
            ensure!(
                (200..300).contains(&status),
                "publish: {status} {}",
                String::from_utf8_lossy(&body)
            );
            lane.answer.drain(..used);
            lane.is_busy = false;
            self.answered += 1;
        }
        if is_over {
            // Some servers close behind each answer.
            ensure!(!lane.is_busy, "the server closed a publisher's connection");
            *lane = Lane::connect(self.port, number, &self.registry)?;
        }
        Ok(())
    }
}

impl Lane {
    fn connect(port: u16, number: usize, registry: &Registry) -> Result<Self> {
        let stream = connect::connect(port).context("the publisher's connection")?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, Token(PUBLISHER + number), Interest::READABLE)?;
        Ok(Self {
            stream,
            is_busy: false,
            unsent: Vec::new(),
            answer: Vec::new(),
        })
    }

    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a publisher's connection"),
            }
        }
        Ok(())
    }
}
