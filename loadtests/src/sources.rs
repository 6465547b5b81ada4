//! Where connections come from: an address and a port of our own choosing, so that the kernel neither runs out of ports
//! nor searches for a free one. `IP_BIND_ADDRESS_NO_PORT` is for that too, but no safe function sets it: neither socket2 0.6
//! nor rustix 1.1 has it, and setting it by number needs `unsafe`. What it would save is this file.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Below the range from which the kernel chooses by itself.
const FIRST_PORT: u16 = 10_000;
const PORTS: u32 = 22_000;
/// 127.0.N.2 and up.
const FIRST_HOST: u32 = 2;
const HOSTS: u32 = 250;

/// The sources of one worker.
#[derive(Debug)]
pub(crate) struct Sources {
    worker: u8,
    at: u32,
}

impl Sources {
    /// Workers with different numbers have no source in common.
    pub(crate) fn of(worker: u8) -> Self {
        Self { worker, at: 0 }
    }

    /// The next one; the same comes again after five million, when the kernel has long forgotten it.
    pub(crate) fn next(&mut self) -> SocketAddrV4 {
        let host = FIRST_HOST + self.at / PORTS % HOSTS;
        let port = u32::from(FIRST_PORT) + self.at % PORTS;
        self.at += 1;
        SocketAddrV4::new(Ipv4Addr::new(127, 0, self.worker, host as u8), port as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_not_used_twice_and_the_next_address_follows_the_last_port() {
        let mut sources = Sources::of(0);
        assert_eq!(sources.next().to_string(), "127.0.0.2:10000");
        let mut seen: std::collections::HashSet<_> = (1..PORTS).map(|_| sources.next()).collect();
        assert_eq!(sources.next().to_string(), "127.0.0.3:10000");
        assert_eq!(seen.len(), PORTS as usize - 1);
        assert!(seen.insert(Sources::of(1).next()));
    }
}
