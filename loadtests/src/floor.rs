//! The floor: the barest server that could do the job. It reads a request's head, answers 101, and whenever a byte comes
//! on a connection that asked for `/control` it sends one prepared frame to each socket, one `write` each.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use anyhow::Result;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

/// The answer to every handshake.
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// How long a frame's payload is; as the fan-out scenario's.
pub(crate) const PAYLOAD: usize = 128;

/// One WebSocket text frame of [`PAYLOAD`] bytes.
pub(crate) fn frame() -> Vec<u8> {
    let mut frame = vec![0x81, 126, 0, PAYLOAD as u8];
    frame.resize(4 + PAYLOAD, b'x');
    frame
}

/// Serves until killed.
pub(crate) fn serve(port: u16) -> Result<()> {
    const LISTENER: Token = Token(usize::MAX);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut greeting: HashMap<usize, TcpStream> = HashMap::new();
    let mut sockets: HashMap<usize, TcpStream> = HashMap::new();
    let mut control: HashMap<usize, TcpStream> = HashMap::new();
    let mut next = 0;
    let frame = frame();
    let mut buffer = [0; 4096];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry()
                        .register(&mut stream, Token(next), Interest::READABLE)?;
                    greeting.insert(next, stream);
                    next += 1;
                }
                continue;
            }
            let id = event.token().0;
            if let Some(mut stream) = greeting.remove(&id) {
                match stream.read(&mut buffer) {
                    Ok(0) => {}
                    Ok(count) if buffer[..count].starts_with(b"GET /control") => {
                        stream.write_all(SWITCHING)?;
                        control.insert(id, stream);
                    }
                    Ok(_) => {
                        stream.write_all(SWITCHING)?;
                        sockets.insert(id, stream);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        greeting.insert(id, stream);
                    }
                    Err(_) => {}
                }
            } else if let Some(stream) = control.get_mut(&id) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => {
                        control.remove(&id);
                    }
                    Ok(rounds) => {
                        for _ in 0..rounds {
                            for socket in sockets.values_mut() {
                                // The client reads at once: what does not fit would show up as a missing frame.
                                let _ = socket.write(&frame);
                            }
                        }
                    }
                }
            } else if let Some(stream) = sockets.get_mut(&id)
                && matches!(stream.read(&mut buffer), Ok(0))
            {
                sockets.remove(&id);
            }
        }
    }
}
