//! The far end of deliveries: listens on several ports, one thread, never sleeps while it measures. A client of the server
//! that sleeps would make the server pay for waking it.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

/// What is spoken at the far end.
pub(crate) trait Service {
    /// What is kept of a connection.
    type Talk: Default;

    /// What a new connection is told before it says anything.
    fn greeting(&self) -> &'static [u8];

    /// Takes whole requests off `input` and writes their answers to `output`. `host` counts the ports from 0.
    ///
    /// # Errors
    /// When what came is not understood.
    fn take(
        &mut self,
        host: usize,
        talk: &mut Self::Talk,
        input: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> Result<()>;

    /// How many different deliveries have come.
    fn distinct(&self) -> usize;
}

/// Ports of 127.0.0.1 with a service on them. Nothing is taken or answered but in [`FarEnd::turn`]: until then, whoever
/// calls waits.
pub(crate) struct FarEnd<S: Service> {
    poll: Poll,
    events: Events,
    listeners: Vec<TcpListener>,
    open: Vec<Option<Caller<S::Talk>>>,
    buffer: Vec<u8>,
    most_open: usize,
    /// What is spoken.
    pub(crate) service: S,
}

struct Caller<T> {
    stream: TcpStream,
    host: usize,
    talk: T,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl<S: Service> FarEnd<S> {
    /// Listens on `hosts` free ports.
    pub(crate) fn listen(hosts: usize, service: S) -> Result<Self> {
        let poll = Poll::new()?;
        let mut listeners = Vec::with_capacity(hosts);
        for host in 0..hosts {
            let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            poll.registry()
                .register(&mut listener, Token(host), Interest::READABLE)?;
            listeners.push(listener);
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            listeners,
            open: Vec::new(),
            buffer: vec![0; 64 * 1024],
            most_open: 0,
            service,
        })
    }

    /// The ports, in the order in which hosts are counted.
    pub(crate) fn ports(&self) -> Result<Vec<u16>> {
        self.listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect()
    }

    /// How many connections were open at the same time, at the most.
    pub(crate) fn most_open(&self) -> usize {
        self.most_open
    }

    /// Takes and answers what has come, after waiting at most `wait` for something.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<()> {
        self.poll.poll(&mut self.events, Some(wait))?;
        let hosts = self.listeners.len();
        for event in &self.events {
            let token = event.token().0;
            if token < hosts {
                while let Ok((mut stream, _)) = self.listeners[token].accept() {
                    stream.set_nodelay(true)?;
                    // Answers are small: what a socket does not take at once is a fault, and ends the run.
                    stream.write_all(self.service.greeting())?;
                    let place = self.open.iter().position(Option::is_none);
                    let place = place.unwrap_or_else(|| {
                        self.open.push(None);
                        self.open.len() - 1
                    });
                    self.poll
                        .registry()
                        .register(&mut stream, Token(hosts + place), Interest::READABLE)?;
                    self.open[place] = Some(Caller {
                        stream,
                        host: token,
                        talk: S::Talk::default(),
                        input: Vec::new(),
                        output: Vec::new(),
                    });
                    let open = self.open.iter().flatten().count();
                    self.most_open = self.most_open.max(open);
                }
                continue;
            }
            let place = &mut self.open[token - hosts];
            let Some(caller) = place else { continue };
            if !caller.serve(&mut self.service, &mut self.buffer)? {
                *place = None;
            }
        }
        Ok(())
    }

    /// Goes on until so many different deliveries have come.
    ///
    /// # Errors
    /// When they have not come within `limit`.
    pub(crate) fn receive(&mut self, wanted: usize, limit: Duration) -> Result<()> {
        let begin = Instant::now();
        while self.service.distinct() < wanted {
            if begin.elapsed() > limit {
                bail!("{} of {wanted} came within {limit:?}", self.service.distinct());
            }
            self.turn(Duration::ZERO)?;
        }
        Ok(())
    }
}

impl<T> Caller<T> {
    /// Answers whether the connection lives on.
    fn serve<S: Service<Talk = T>>(&mut self, service: &mut S, buffer: &mut [u8]) -> Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A caller that gave up.
                Err(_) => return Ok(false),
            }
        }
        service.take(self.host, &mut self.talk, &mut self.input, &mut self.output)?;
        if !self.output.is_empty() {
            let written = self.stream.write_all(&self.output);
            self.output.clear();
            return Ok(written.is_ok());
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpStream};

    use super::*;
    use crate::receiver::Receiver;

    #[test]
    fn who_calls_waits_until_the_far_end_has_its_turn_and_a_repeat_counts_once() -> Result<()> {
        let mut far_end = FarEnd::listen(2, Receiver::default())?;
        let mut callers = Vec::new();
        for port in far_end.ports()? {
            let mut caller = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            caller.write_all(
                b"POST / HTTP/1.1\r\nwebhook-id: dlv_1\r\nwebhook-signature: v1,x\r\ncontent-length: 2\r\n\r\n{}",
            )?;
            callers.push(caller);
        }
        assert_eq!(far_end.service.distinct(), 0);
        far_end.receive(1, Duration::from_secs(5))?;
        let begin = Instant::now();
        while far_end.service.requests() < 2 && begin.elapsed() < Duration::from_secs(5) {
            far_end.turn(Duration::from_millis(10))?;
        }
        assert_eq!((far_end.service.distinct(), far_end.service.requests()), (1, 2));
        for mut caller in callers {
            let mut answer = [0; 12];
            caller.read_exact(&mut answer)?;
            assert_eq!(&answer, b"HTTP/1.1 204");
        }
        assert!(far_end.receive(2, Duration::ZERO).is_err());
        Ok(())
    }
}
