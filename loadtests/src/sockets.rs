//! Many WebSocket connections held by one thread that never sleeps while it measures: a client that sleeps makes the
//! server pay for waking it.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream as Blocking,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::connect::{connect, read_head};

/// While connections are opened, the pings of those that are there are answered this often.
const SERVED_EVERY: usize = 100;

/// Connections, and what arrives on them.
pub(crate) struct Sockets {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    open: Vec<Socket>,
}

struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
    frames: u64,
}

/// What each connection says after the handshake.
pub(crate) struct Greeting<'a> {
    /// A user's token; `None` for the floor, which wants no greeting.
    pub(crate) token: Option<&'a str>,
    /// The topic to subscribe to.
    pub(crate) topic: &'a str,
}

impl Sockets {
    /// Opens `count` connections one after the other, greeted and subscribed.
    pub(crate) fn open(port: u16, count: usize, greeting: &Greeting<'_>) -> Result<Self> {
        let mut sockets = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            open: Vec::new(),
        };
        sockets.add(port, count, greeting)?;
        Ok(sockets)
    }

    /// Opens `count` more.
    pub(crate) fn add(&mut self, port: u16, count: usize, greeting: &Greeting<'_>) -> Result<()> {
        for number in 0..count {
            if number % SERVED_EVERY == 0 {
                self.serve(Duration::ZERO)?;
            }
            let stream =
                handshake(port, greeting).with_context(|| format!("connection {}", self.open.len()))?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            self.poll
                .registry()
                .register(&mut stream, Token(self.open.len()), Interest::READABLE)?;
            self.open.push(Socket {
                stream,
                read: Vec::new(),
                frames: 0,
            });
        }
        Ok(())
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Reads without ever sleeping until `wanted` frames with a publication have come in all, or `limit` is over.
    pub(crate) fn read_frames(&mut self, wanted: u64, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        let already: u64 = self.open.iter().map(|socket| socket.frames).sum();
        let mut got = 0;
        while got < wanted {
            if begin.elapsed() > limit {
                bail!("{got} of {wanted} frames after {limit:?} ({already} before)");
            }
            got += self.serve(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Holds the connections for `time` and answers their pings; none may end.
    pub(crate) fn hold(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.serve(time.saturating_sub(begin.elapsed()))?;
        }
        Ok(())
    }

    /// Reads what has come, after waiting at most `wait` for something; answers how many frames it was. To be called
    /// every few seconds: a server lets go of who does not answer its pings.
    pub(crate) fn serve(&mut self, wait: Duration) -> Result<u64> {
        let mut got = 0;
        self.poll.poll(&mut self.events, Some(wait))?;
        for event in &self.events {
            let number = event.token().0;
            let socket = &mut self.open[number];
            loop {
                match socket.stream.read(&mut self.buffer) {
                    Ok(0) => bail!("connection {number} was closed"),
                    Ok(count) => {
                        let frames = socket.take(&self.buffer[..count]);
                        got += frames.with_context(|| format!("connection {number}"))?;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(got)
    }

    /// Whether each connection has had exactly `frames`.
    pub(crate) fn each_had(&self, frames: u64) -> bool {
        self.open.iter().all(|socket| socket.frames == frames)
    }
}

impl Socket {
    /// Counts the whole frames in what came; a ping (an empty object) does not count and is answered, since a long run
    /// would be cut off otherwise.
    fn take(&mut self, bytes: &[u8]) -> Result<u64> {
        self.read.extend_from_slice(bytes);
        let (mut at, mut counted) = (0, 0);
        while let Some((start, end)) = frame_at(&self.read, at)? {
            if end - start > 2 {
                counted += 1;
            } else {
                self.stream.write_all(&masked(b"{}"))?;
            }
            at = end;
        }
        self.read.drain(..at);
        self.frames += counted;
        Ok(counted)
    }
}

/// The payload of the whole, unmasked text frame that begins at `at`; `None` while it is not whole.
fn frame_at(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>> {
    let (start, length) = match bytes[at..] {
        [] | [_] => return Ok(None),
        [0x88, _, high, low, ..] => bail!("closed with {}", u16::from_be_bytes([high, low])),
        [kind, ..] if kind != 0x81 => bail!("a frame of kind {kind:#04x} instead of a text"),
        [_, 126, high, low, ..] => (at + 4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 126, ..] => return Ok(None),
        [_, 127, ..] => bail!("a frame above 64 KiB"),
        [_, short, ..] => (at + 2, usize::from(short)),
    };
    Ok((bytes.len() >= start + length).then_some((start, start + length)))
}

fn handshake(port: u16, greeting: &Greeting<'_>) -> Result<Blocking> {
    let mut stream = connect(port)?;
    let key = STANDARD.encode([7; 16]);
    write!(
        stream,
        "GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )?;
    let head = read_head(&mut stream)?;
    if !head.starts_with("HTTP/1.1 101") {
        bail!("handshake: {head}");
    }
    if let Some(token) = greeting.token {
        let hello = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
        let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{}"}}}}"#, greeting.topic);
        for (command, answer) in [(hello, r#""id":1"#), (subscribe, r#""id":2"#)] {
            stream.write_all(&masked(command.as_bytes()))?;
            let reply = read_frame(&mut stream)?;
            if !reply.contains(answer) || reply.contains(r#""error""#) {
                bail!("expected the answer to {answer}, got {reply}");
            }
        }
    }
    Ok(stream)
}

fn read_frame(stream: &mut Blocking) -> Result<String> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = if head[1] == 126 {
        let mut extended = [0; 2];
        stream.read_exact(&mut extended)?;
        usize::from(u16::from_be_bytes(extended))
    } else {
        usize::from(head[1])
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(String::from_utf8(payload)?)
}

/// A client's text frame (RFC 6455 section 5.3); the mask is zero, which is valid and costs nothing.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..126) => frame.push(0x80 | short as u8),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => unreachable!("greetings are short"),
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
