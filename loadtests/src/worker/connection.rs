//! One connection, and what is made of the bytes that come on it.

use anyhow::{Result, bail, ensure};
use mio::{Poll, net::TcpStream};

use super::Worker;
use crate::{
    commands::Kind,
    marks::Found,
    sequence::Sequence,
    wire::{self, Frame},
};

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The request has not been sent.
    Connecting,
    /// Of the answer.
    Head,
    /// Waits for the message that this frame of the plan is for.
    Greeting(usize),
    /// Waits for what must come first on a stream.
    Ready,
    Open,
    Closed,
}

pub(super) struct Connection {
    pub(super) stream: Option<TcpStream>,
    /// What is not whole yet.
    carry: Vec<u8>,
    pub(super) stage: Stage,
    pub(super) sequence: Sequence,
    pub(super) is_stalled: bool,
    /// When it was begun, by the shared clock.
    pub(super) begun: u64,
}

impl Connection {
    /// One that is not there yet, and expects this number first.
    pub(super) fn new(next: u64) -> Self {
        Self {
            stream: None,
            carry: Vec::new(),
            stage: Stage::Closed,
            sequence: Sequence { next },
            is_stalled: false,
            begun: 0,
        }
    }

    pub(super) fn is_opening(&self) -> bool {
        !matches!(self.stage, Stage::Open | Stage::Closed)
    }

    /// Whether it must have got everything.
    pub(super) fn counts(&self) -> bool {
        self.stage == Stage::Open && !self.is_stalled
    }

    /// Its bytes stay in the socket from now on.
    pub(super) fn stall(&mut self, poll: &Poll) -> Result<()> {
        if let Some(stream) = &mut self.stream
            && !self.is_stalled
        {
            poll.registry().deregister(stream)?;
        }
        self.is_stalled = true;
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
        self.stage = Stage::Closed;
        self.carry = Vec::new();
        self.is_stalled = false;
    }
}

impl Worker {
    /// What came, at a time.
    #[inline]
    pub(super) fn take(&mut self, number: usize, bytes: &[u8], at: u64) -> Result<()> {
        let mut carry = std::mem::take(&mut self.connections[number].carry);
        let used = if carry.is_empty() {
            self.parse(number, bytes, at)?
        } else {
            carry.extend_from_slice(bytes);
            self.parse(number, &carry, at)?
        };
        if self.connections[number].stream.is_none() {
            return Ok(());
        }
        if carry.is_empty() {
            if used < bytes.len() {
                carry.extend_from_slice(&bytes[used..]);
            }
        } else {
            carry.drain(..used);
            if carry.is_empty() {
                // An idle connection holds nothing here, or memory would be the client's.
                carry = Vec::new();
            }
        }
        self.connections[number].carry = carry;
        Ok(())
    }

    /// Answers how many bytes need not come again.
    fn parse(&mut self, number: usize, bytes: &[u8], at: u64) -> Result<usize> {
        let mut from = 0;
        loop {
            let rest = &bytes[from..];
            let used = match self.connections[number].stage {
                Stage::Open if self.kind() == Kind::Sse => self.count(number, rest, at),
                Stage::Open | Stage::Greeting(_) => self.message(number, rest, at)?,
                Stage::Head => self.head(number, rest)?,
                Stage::Ready => self.ready(number, rest, at)?,
                Stage::Connecting => bail!("an answer before the question"),
                Stage::Closed => return Ok(bytes.len()),
            };
            if used == 0 {
                return Ok(from);
            }
            from += used;
            if from == bytes.len() {
                return Ok(from);
            }
        }
    }

    fn kind(&self) -> Kind {
        self.plan.as_ref().map_or(Kind::WebSocket, |plan| plan.kind)
    }

    fn head(&mut self, number: usize, bytes: &[u8]) -> Result<usize> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(0);
        };
        let wanted: &[u8] = match self.kind() {
            Kind::WebSocket => b"HTTP/1.1 101",
            Kind::Sse => b"HTTP/1.1 200",
        };
        ensure!(
            bytes.starts_with(wanted),
            "the answer was {}",
            String::from_utf8_lossy(bytes)
        );
        match self.kind() {
            Kind::WebSocket => self.greeting(number, 0)?,
            Kind::Sse if self.plan.as_ref().is_none_or(|plan| plan.ready.is_empty()) => {
                self.opened(number)?
            }
            Kind::Sse => self.connections[number].stage = Stage::Ready,
        }
        Ok(end + 4)
    }

    fn ready(&mut self, number: usize, bytes: &[u8], at: u64) -> Result<usize> {
        let ready = self.plan.as_ref().map_or("", |plan| &plan.ready).as_bytes();
        let Some(place) = bytes.windows(ready.len()).position(|window| window == ready) else {
            return Ok(0);
        };
        let used = place + ready.len();
        self.opened(number)?;
        // What was resumed may have come before.
        self.count(number, &bytes[..used], at);
        Ok(used)
    }

    /// One frame.
    #[inline]
    fn message(&mut self, number: usize, bytes: &[u8], at: u64) -> Result<usize> {
        let Some((frame, used)) = wire::frame(bytes)? else {
            return Ok(0);
        };
        match frame {
            Frame::Message(payload) => {
                if payload.len() < 4
                    && let Some(plan) = &self.plan
                    && payload == plan.ping.as_bytes()
                {
                    let answer = wire::text(plan.pong.as_bytes());
                    self.say(number, &answer)?;
                } else {
                    self.count(number, payload, at);
                    if let Stage::Greeting(step) = self.connections[number].stage {
                        ensure!(
                            !contains(payload, br#""error""#),
                            "the answer was {}",
                            String::from_utf8_lossy(payload)
                        );
                        self.greeting(number, step + 1)?;
                    }
                }
            }
            Frame::Ping(payload) => {
                let answer = wire::pong(payload);
                self.say(number, &answer)?;
            }
            Frame::Pong => {}
            Frame::Close(code) => {
                ensure!(
                    !self.connections[number].is_opening(),
                    "closed with {code} while it was opened"
                );
                self.lose(number);
            }
        }
        Ok(used)
    }

    /// Counts the publications in a payload or a piece of a stream; answers what need not come again.
    #[inline]
    fn count(&mut self, number: usize, bytes: &[u8], at: u64) -> usize {
        let mut from = 0;
        loop {
            match self.finder.find(bytes, from) {
                Found::Mark {
                    number: sent,
                    time,
                    end,
                } => {
                    let connection = &mut self.connections[number];
                    connection.sequence.arrive(sent, &mut self.tally.faults);
                    self.tally.received += 1;
                    // What it missed while it was away is not late.
                    if time >= connection.begun {
                        // A histogram that grows takes every value.
                        let _ = self.tally.latency.record(at.saturating_sub(time));
                    }
                    from = end;
                }
                Found::Partial(place) => return place,
                Found::Nothing => return bytes.len(),
            }
        }
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}
