//! Opening connections, many at a time.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::{Interest, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

use super::{
    Worker,
    connection::{Connection, Stage},
    now,
};
use crate::{
    commands::{Connected, recorded},
    wire,
};

/// How long no connection may come to its end of being opened.
const STANDSTILL: Duration = Duration::from_secs(15);

/// What is under way.
pub(super) struct Opening {
    tokens: Vec<String>,
    group: usize,
    in_flight: usize,
    /// What new connections expect.
    first: u64,
    pub(super) opened: usize,
    times: Histogram<u64>,
    failure: Option<String>,
}

impl Opening {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            tokens: Vec::new(),
            group: 1,
            in_flight: 1,
            first: 0,
            opened: 0,
            times: Histogram::new(3)?,
            failure: None,
        })
    }

    pub(super) fn begin(
        &mut self,
        tokens: Vec<String>,
        group: usize,
        in_flight: usize,
        first: u64,
    ) -> Result<()> {
        *self = Self {
            tokens,
            group: group.max(1),
            in_flight: in_flight.max(1),
            first,
            ..Self::new()?
        };
        Ok(())
    }

    /// What went wrong since it was begun.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }
}

impl Worker {
    /// Opens so many connections, new ones or those that are closed, and waits until they are open.
    pub(super) fn open(&mut self, count: usize, again: bool) -> Result<Connected> {
        let numbers: Vec<usize> = if again {
            (0..self.connections.len())
                .filter(|number| self.connections[*number].stage == Stage::Closed)
                .take(count)
                .collect()
        } else {
            let first = self.connections.len();
            (first..first + count).collect()
        };
        ensure!(numbers.len() == count, "only {} are closed", numbers.len());
        let begin = Instant::now();
        let (mut begun, mut progress) = (0, (0, begin));
        while self.opening.opened < count {
            while begun < count && begun - self.opening.opened < self.opening.in_flight {
                self.begin(numbers[begun])
                    .with_context(|| format!("connection {}", numbers[begun]))?;
                begun += 1;
            }
            self.turn(Some(Duration::ZERO))?;
            if let Some(failure) = self.opening.failure() {
                bail!("{failure}");
            }
            if self.opening.opened > progress.0 {
                progress = (self.opening.opened, Instant::now());
            }
            ensure!(
                progress.1.elapsed() < STANDSTILL,
                "{} of {count} are open, and no other for {STANDSTILL:?}",
                self.opening.opened
            );
        }
        Ok(Connected {
            took_ns: begin.elapsed().as_nanos() as u64,
            times: recorded(&self.opening.times),
        })
    }

    pub(super) fn begin(&mut self, number: usize) -> Result<()> {
        if number == self.connections.len() {
            self.connections.push(Connection::new(self.opening.first));
        }
        let plan = self.plan.as_ref().context("no plan")?;
        let server = std::net::SocketAddr::from(([127, 0, 0, 1], plan.port));
        let begun = now();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        self.sources.bind(&socket)?;
        // It goes on in the background; what fails there comes as an event. Without a free port nothing would come.
        if let Err(error) = socket.connect(&server.into())
            && error.kind() == std::io::ErrorKind::AddrNotAvailable
        {
            return Err(error).context("no free port");
        }
        socket.set_tcp_nodelay(true)?;
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(
            &mut stream,
            Token(number),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let connection = &mut self.connections[number];
        connection.stream = Some(stream);
        connection.stage = Stage::Connecting;
        connection.begun = begun;
        Ok(())
    }

    /// The connection is there: asks.
    pub(super) fn greet(&mut self, number: usize) -> Result<()> {
        if self.connections[number].stage != Stage::Connecting {
            return Ok(());
        }
        let request = self
            .plan
            .as_ref()
            .map(|plan| self.filled(&plan.request, number))
            .context("no plan")?;
        if let Some(stream) = &mut self.connections[number].stream {
            if let Some(error) = stream.take_error()? {
                self.opening.fail(format!("connection {number}: {error}"));
                return Ok(());
            }
            stream.write_all(request.as_bytes())?;
        }
        self.connections[number].stage = Stage::Head;
        self.only_read(number)
    }

    /// Sends this frame of the plan, if there is one.
    pub(super) fn greeting(&mut self, number: usize, step: usize) -> Result<()> {
        let Some(frame) = self
            .plan
            .as_ref()
            .and_then(|plan| plan.frames.get(step))
            .map(|frame| self.filled(frame, number))
        else {
            return self.opened(number);
        };
        self.connections[number].stage = Stage::Greeting(step);
        if !frame.is_empty() {
            self.say(number, &wire::text(frame.as_bytes()))?;
        }
        Ok(())
    }

    pub(super) fn opened(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        connection.stage = Stage::Open;
        self.opening.opened += 1;
        Ok(self
            .opening
            .times
            .record(now().saturating_sub(connection.begun))?)
    }

    fn filled(&self, text: &str, number: usize) -> String {
        let token = match self.opening.tokens.as_slice() {
            [] => "",
            tokens => &tokens[number % tokens.len()],
        };
        let group = number / self.opening.group;
        let epoch = self
            .plan
            .as_ref()
            .and_then(|plan| plan.epochs.get(group))
            .map_or("", String::as_str);
        let last = self.connections[number].sequence.next.saturating_sub(1);
        text.replace("{token}", token)
            .replace("{n}", &number.to_string())
            .replace("{group}", &group.to_string())
            .replace("{epoch}", epoch)
            .replace("{offset}", &last.to_string())
    }
}
