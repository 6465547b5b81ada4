//! The floor of deliveries: the barest client that could do the job. An event loop over as many kept connections, which
//! sends what one delivery of the same run sent, again and again, with another id each time. It keeps nothing, plans
//! nothing and signs nothing.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    far_end::{FarEnd, Service},
    process::{own_cpu, pinned},
    receiver::find,
};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Digits of an id that are written anew for each delivery: the last ones of 32.
const DIGITS: usize = 8;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Speech {
    /// Requests with `webhook-id`, answered without a body.
    Http,
    /// Messages with `Message-ID`, offered by pipelined commands.
    Smtp,
}

/// What the process is told; the sample comes on standard input, as a line of base64 for each step of a delivery.
#[derive(Debug, Args)]
pub(crate) struct Bare {
    /// What is spoken.
    #[arg(long)]
    speech: Speech,
    /// Ports on 127.0.0.1, separated by commas.
    #[arg(long, value_delimiter = ',')]
    ports: Vec<u16>,
    /// How many connections, in turn over the ports.
    #[arg(long)]
    connections: usize,
    /// How many deliveries in all.
    #[arg(long)]
    count: usize,
}

/// Runs the bare client against a far end that is there; answers its CPU time for `count` deliveries, connecting included.
///
/// # Errors
/// When it fails, or something is missing at the far end.
pub(crate) fn measure<S: Service>(
    far_end: &mut FarEnd<S>,
    speech: Speech,
    steps: &[&[u8]],
    connections: usize,
    count: usize,
) -> Result<Duration> {
    let wanted = far_end.service.distinct() + count;
    let ports: Vec<_> = far_end.ports()?.iter().map(u16::to_string).collect();
    let speech = match speech {
        Speech::Http => "http",
        Speech::Smtp => "smtp",
    };
    let mut child = pinned(&std::env::current_exe()?)
        .args(["bare", "--speech", speech, "--ports", &ports.join(",")])
        .args([
            "--connections",
            &connections.to_string(),
            "--count",
            &count.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the bare client")?;
    let mut input = child.stdin.take().context("the bare client's input")?;
    for step in steps {
        writeln!(input, "{}", STANDARD.encode(step))?;
    }
    drop(input);
    let came = far_end.receive(wanted, LIMIT);
    if came.is_err() {
        // It would wait for its answers; the error says what is missing.
        let _ = child.kill();
    }
    // The last answers are on their way: it ends by itself.
    let output = child.wait_with_output()?;
    came.context("the bare client's deliveries")?;
    let text = String::from_utf8(output.stdout)?;
    let nanos = text.trim().parse().context("the bare client's CPU time")?;
    Ok(Duration::from_nanos(nanos))
}

/// The process itself: prints its CPU time in nanoseconds.
#[expect(clippy::print_stdout, reason = "the answer to whoever started it")]
pub(crate) fn run(bare: &Bare) -> Result<()> {
    let mut steps = Vec::new();
    for line in std::io::stdin().lines() {
        steps.push(STANDARD.decode(line?)?);
    }
    let name: &[u8] = match bare.speech {
        Speech::Http => b"webhook-id: ",
        Speech::Smtp => b"Message-ID: <",
    };
    let last = steps.last_mut().context("no sample")?;
    let begin = find(last, name).context("a sample without an id")? + name.len();
    let length = last[begin..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count();
    ensure!(length > DIGITS, "an id that is too short");
    let place = begin + length - DIGITS;
    let mut work = Work {
        speech: bare.speech,
        steps,
        place,
        count: bare.count,
        begun: 0,
        stamped: 0,
    };
    let before = own_cpu()?;
    send(bare, &mut work)?;
    println!("{}", (own_cpu()? - before).as_nanos());
    Ok(())
}

struct Kept {
    stream: TcpStream,
    /// What it waits for.
    step: Step,
    answer: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    /// The answer to this step of the sample.
    Sample(usize),
    Done,
}

/// What is sent, and how much of it was begun.
struct Work {
    speech: Speech,
    /// The last one has the id.
    steps: Vec<Vec<u8>>,
    /// Where the id's last digits are.
    place: usize,
    count: usize,
    begun: usize,
    stamped: usize,
}

/// Sends all deliveries.
fn send(bare: &Bare, work: &mut Work) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut kept = Vec::with_capacity(bare.connections);
    for number in 0..bare.connections.min(bare.count) {
        let port = bare.ports[number % bare.ports.len()];
        let stream = std::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(number), Interest::READABLE)?;
        let mut one = Kept {
            stream,
            step: Step::Greeting,
            answer: Vec::new(),
        };
        if work.speech == Speech::Http {
            one.begin(work)?;
        }
        kept.push(one);
    }
    let mut buffer = [0; 16 * 1024];
    let mut ended = 0;
    while ended < work.count {
        poll.poll(&mut events, Some(LIMIT))?;
        ensure!(!events.is_empty(), "no answer within {LIMIT:?}");
        for event in &events {
            let one = &mut kept[event.token().0];
            match one.stream.read(&mut buffer) {
                Ok(0) => bail!("the far end closed a connection"),
                Ok(count) => one.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if !one.is_answered(work.speech) {
                continue;
            }
            one.answer.clear();
            match one.step {
                Step::Greeting => {
                    one.stream.write_all(b"EHLO bare.example\r\n")?;
                    one.step = Step::Hello;
                }
                Step::Hello => one.begin(work)?,
                Step::Sample(at) if at + 1 < work.steps.len() => one.write(work, at + 1)?,
                Step::Sample(_) => {
                    ended += 1;
                    one.begin(work)?;
                }
                Step::Done => bail!("an answer that nobody asked for"),
            }
        }
    }
    Ok(())
}

impl Kept {
    /// Begins the next delivery, if there is one.
    fn begin(&mut self, work: &mut Work) -> Result<()> {
        if work.begun == work.count {
            self.step = Step::Done;
            return Ok(());
        }
        work.begun += 1;
        self.write(work, 0)
    }

    fn write(&mut self, work: &mut Work, at: usize) -> Result<()> {
        let is_last = at + 1 == work.steps.len();
        let step = &mut work.steps[at];
        if is_last {
            let id = format!("{:0DIGITS$x}", work.stamped);
            work.stamped += 1;
            step[work.place..work.place + DIGITS].copy_from_slice(id.as_bytes());
        }
        self.stream.write_all(step)?;
        self.step = Step::Sample(at);
        Ok(())
    }

    fn is_answered(&self, speech: Speech) -> bool {
        let lines = || self.answer.iter().filter(|byte| **byte == b'\n').count();
        match (speech, self.step) {
            (Speech::Http, _) => self.answer.ends_with(b"\r\n\r\n"),
            (Speech::Smtp, Step::Hello) => {
                find(&self.answer, b"\n250 ").is_some() && self.answer.ends_with(b"\n")
            }
            // Sender, recipient and data.
            (Speech::Smtp, Step::Sample(0)) => lines() == 3,
            (Speech::Smtp, _) => lines() == 1,
        }
    }
}
