//! The reading side of one WebSocket: a small task that mostly waits. It takes one command after another, so that a
//! client's own order is kept and a client cannot ask faster than it is answered.

use std::{io::ErrorKind, sync::Arc};

use bytes::Bytes;
use carillon_domain::TenantId;

use super::frame::{self, Decoder, Event, Violation};
use crate::{connection::Connection, hub::Hub, session::Input};

/// How much is read at a time, on the stack: between two reads a connection holds no buffer.
const SCRATCH: usize = 8 * 1024;

enum Read {
    Events(Vec<Event>),
    Nothing,
    Broken(Violation),
    End,
}

/// Reads until the connection is over. `ahead` is what came behind the handshake. The future is what an idle connection
/// holds: it captures what it needs between two reads (an `async fn` would keep its arguments twice), and what a command
/// needs is boxed.
pub(super) fn drive(
    hub: Arc<Hub>,
    connection: Arc<Connection>,
    tenant: TenantId,
    ahead: &Bytes,
) -> impl Future<Output = ()> + Send + use<> {
    let limit = hub.shared.config.max_message.as_usize();
    let mut decoder = Decoder::default();
    // Without anything ahead, look before waiting: rustls may hold what the socket gave it long ago.
    let first = match ahead.is_empty() {
        true => read(&connection, &mut decoder, limit, false),
        false => decode(&mut decoder, &mut ahead.to_vec(), limit),
    };
    async move {
        let mut next = first;
        // After a violation nothing that comes can be understood; the peer's end is still waited for.
        let mut deaf = false;
        loop {
            match next {
                Read::Events(events) => {
                    hub.input(&connection, Input::Heard);
                    deaf |= !Box::pin(listen(&hub, &connection, &tenant, events)).await;
                }
                Read::Nothing => {
                    if connection.readable().await.is_err() {
                        break;
                    }
                }
                Read::Broken(violation) => {
                    connection.end(frame::close(Some(violation.code()), violation.reason()));
                    hub.hush(&connection);
                    deaf = true;
                }
                Read::End => break,
            }
            next = read(&connection, &mut decoder, limit, deaf);
        }
        hub.forget(&connection);
    }
}

/// False when nothing more is to be heard.
async fn listen(hub: &Arc<Hub>, connection: &Arc<Connection>, tenant: &TenantId, events: Vec<Event>) -> bool {
    let mut is_open = true;
    for event in events {
        is_open &= take(hub, connection, tenant, event).await;
    }
    is_open
}

/// False when nothing more is to be heard.
async fn take(hub: &Arc<Hub>, connection: &Arc<Connection>, tenant: &TenantId, event: Event) -> bool {
    match event {
        Event::Text(text) => {
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                hub.shared.metrics.commands.increment(1);
                if let Some(work) = hub.input(connection, Input::Command(line)) {
                    // Boxed: the task that waits for the next command is small, whatever a command needs.
                    Box::pin(hub.work_through(connection, tenant, work)).await;
                }
            }
            true
        }
        Event::Ping(payload) => {
            connection.send(&frame::pong(&payload));
            true
        }
        Event::Pong => true,
        Event::Close(code) => {
            connection.end_after_peer(frame::close(code, ""));
            hub.hush(connection);
            false
        }
    }
}

fn read(connection: &Connection, decoder: &mut Decoder, limit: usize, deaf: bool) -> Read {
    let mut scratch = [0; SCRATCH];
    match connection.read(&mut scratch) {
        Ok(0) => Read::End,
        Ok(_) if deaf => Read::Events(Vec::new()),
        Ok(count) => decode(decoder, &mut scratch[..count], limit),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Read::Nothing,
        Err(_) => Read::End,
    }
}

fn decode(decoder: &mut Decoder, bytes: &mut [u8], limit: usize) -> Read {
    let mut events = Vec::new();
    match decoder.push(bytes, limit, &mut events) {
        Ok(()) => Read::Events(events),
        // What was said before the fault is not answered any more.
        Err(violation) => Read::Broken(violation),
    }
}
