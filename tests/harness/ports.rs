use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the ephemeral range, so that no outgoing connection takes a port between the choice and the use.
const FIRST: u16 = 23_100;
const COUNT: u16 = 380;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than COUNT");
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT);
}
