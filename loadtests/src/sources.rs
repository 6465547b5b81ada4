//! Where connections come from: addresses of our own, so that there are more ports than one address has. The kernel chooses
//! the port once it knows where the connection goes (`IP_BIND_ADDRESS_NO_PORT`, ip(7)): what another program uses towards
//! somewhere else is not in the way, and nothing is searched for twice.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::Socket;

/// Connections of each address before the next one's turn: fewer than the kernel has ports to choose from by default
/// (28,232), so that it finds one soon.
const EACH: u32 = 20_000;
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

    /// Binds a socket that is going to connect to the next one; the same comes again after five million, when the kernel
    /// has long forgotten it.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(crate) fn bind(&mut self, socket: &Socket) -> Result<()> {
        let source = SocketAddrV4::new(self.next(), 0);
        setsockopt(socket, IpBindAddressNoPort, &true).context("IP_BIND_ADDRESS_NO_PORT")?;
        socket
            .bind(&source.into())
            .with_context(|| format!("the source {source}"))
    }

    fn next(&mut self) -> Ipv4Addr {
        let host = FIRST_HOST + self.at / EACH % HOSTS;
        self.at = self.at.wrapping_add(1);
        Ipv4Addr::new(127, 0, self.worker, host as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn the_next_address_follows_when_one_has_had_its_connections() {
        let mut sources = Sources::of(3);
        for _ in 0..EACH {
            assert_eq!(sources.next().to_string(), "127.0.3.2");
        }
        assert_eq!(sources.next().to_string(), "127.0.3.3");
    }

    #[test]
    fn the_kernel_chooses_the_port_when_the_socket_connects() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        Sources::of(7).bind(&socket).expect("bound");
        let local = || socket.local_addr().ok()?.as_socket_ipv4();
        assert_eq!(local(), Some(SocketAddrV4::new(Ipv4Addr::new(127, 0, 7, 2), 0)));
        let server = listener.local_addr().expect("an address");
        socket.connect(&server.into()).expect("connected");
        assert!(local().is_some_and(|local| local.port() != 0));
    }
}
