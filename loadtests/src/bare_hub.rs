//! The floor of the hub's scenarios: the barest server that could do the job. It accepts, answers 101 or an event stream's
//! head without looking, and for each POST writes the prepared frames to each socket of the topic, one `write` each. What
//! does not fit is dropped, and the client finds it missing.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use anyhow::{Context as _, Result};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::wire;

const LISTENER: Token = Token(usize::MAX);
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Sockets of one topic, by what they speak.
#[derive(Default)]
struct Topic {
    websockets: Vec<usize>,
    streams: Vec<usize>,
}

struct Hub {
    sockets: Vec<Option<TcpStream>>,
    /// Bytes of requests that are not whole.
    asking: HashMap<usize, Vec<u8>>,
    topics: HashMap<String, Topic>,
}

/// Serves until killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut hub = Hub {
        sockets: Vec::new(),
        asking: HashMap::new(),
        topics: HashMap::new(),
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let id = hub.sockets.len();
                    poll.registry()
                        .register(&mut stream, Token(id), Interest::READABLE)?;
                    hub.asking.insert(id, Vec::new());
                    hub.sockets.push(Some(stream));
                }
            } else {
                hub.read(event.token().0, &mut buffer)?;
            }
        }
    }
}

impl Hub {
    fn read(&mut self, id: usize, buffer: &mut [u8]) -> Result<()> {
        loop {
            let Some(stream) = &mut self.sockets[id] else {
                return Ok(());
            };
            match stream.read(buffer) {
                Ok(count) if count > 0 => {
                    // What subscribers say is of no interest.
                    if let Some(asking) = self.asking.get_mut(&id) {
                        asking.extend_from_slice(&buffer[..count]);
                        self.answer(id)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(_) | Err(_) => {
                    self.forget(id);
                    return Ok(());
                }
            }
        }
    }

    fn forget(&mut self, id: usize) {
        self.sockets[id] = None;
        self.asking.remove(&id);
    }

    fn answer(&mut self, id: usize) -> Result<()> {
        let Some(bytes) = self.asking.get(&id) else {
            return Ok(());
        };
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(());
        };
        let head = std::str::from_utf8(&bytes[..end])?;
        let path = head.split(' ').nth(1).context("a request without a path")?;
        let (way, topic) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let reply = match way {
            "publish" => {
                let length: usize = head
                    .rsplit_once("Content-Length: ")
                    .and_then(|(_, rest)| rest.lines().next()?.parse().ok())
                    .context("a POST without a length")?;
                let Some(body) = bytes.get(end + 4..end + 4 + length) else {
                    return Ok(());
                };
                if let Some(topic) = self.topics.get_mut(topic) {
                    topic.publish(&mut self.sockets, body);
                }
                self.asking.insert(id, Vec::new());
                DONE
            }
            "sse" => {
                self.topics.entry(topic.to_owned()).or_default().streams.push(id);
                self.asking.remove(&id);
                STREAM
            }
            _ => {
                let topic = self.topics.entry(topic.to_owned()).or_default();
                topic.websockets.push(id);
                self.asking.remove(&id);
                SWITCHING
            }
        };
        if let Some(stream) = &mut self.sockets[id] {
            // Who has gone by now does not want it.
            let _ = stream.write(reply);
        }
        Ok(())
    }
}

impl Topic {
    fn publish(&mut self, sockets: &mut [Option<TcpStream>], body: &[u8]) {
        let (mut frames, mut events) = (Vec::new(), Vec::new());
        for line in body.split(|byte| *byte == b'\n') {
            if !self.websockets.is_empty() {
                frames.extend(wire::from_server(line));
            }
            if !self.streams.is_empty() {
                events.extend_from_slice(b"data: ");
                events.extend_from_slice(line);
                events.extend_from_slice(b"\n\n");
            }
        }
        send(&mut self.websockets, sockets, &frames);
        send(&mut self.streams, sockets, &events);
    }
}

fn send(ids: &mut Vec<usize>, sockets: &mut [Option<TcpStream>], bytes: &[u8]) {
    ids.retain(|id| match &mut sockets[*id] {
        Some(stream) => {
            let _ = stream.write(bytes);
            true
        }
        None => false,
    });
}
