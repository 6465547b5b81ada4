//! The one way in which the load generator opens a connection: nothing that it waits for lasts for ever.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// How long one read or write may take: a server that is idle for so long will not answer any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// More is no head of an answer.
const HEAD: usize = 16 * 1024;

/// A connection to 127.0.0.1 whose reads and writes fail after [`PATIENCE`].
///
/// # Errors
/// When nobody listens there.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    impatient(&stream)?;
    Ok(stream)
}

/// Gives an accepted connection the same deadlines.
///
/// # Errors
/// When the socket is broken.
pub(crate) fn impatient(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Reads the head of an answer to its empty line and not a byte further, however long it is; what follows stays in the
/// socket.
///
/// # Errors
/// When it does not end in time, or within 16 KiB.
pub(crate) fn read_head(stream: &mut impl Read) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < HEAD, "an answer's head has no end");
        // Byte by byte: what is behind the head is for others.
        let mut byte = [0];
        stream.read_exact(&mut byte).with_context(|| {
            format!(
                "the answer's head broke off after {:?}",
                String::from_utf8_lossy(&head)
            )
        })?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpListener};

    use super::*;

    #[test]
    fn a_head_is_read_to_its_end_whatever_its_length_and_no_further() -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut client = connect(listener.local_addr()?.port())?;
        let (mut server, _) = listener.accept()?;
        for filler in ["", "X-Filler: something\r\n"] {
            write!(
                server,
                "HTTP/1.1 101 Switching Protocols\r\n{filler}\r\nfirst frame"
            )?;
            assert!(read_head(&mut client)?.starts_with("HTTP/1.1 101"));
            let mut rest = [0; 11];
            client.read_exact(&mut rest)?;
            assert_eq!(&rest, b"first frame");
        }
        Ok(())
    }

    #[test]
    fn a_server_that_says_nothing_more_fails_the_read() -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let mut client = connect(listener.local_addr()?.port())?;
        client.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (mut server, _) = listener.accept()?;
        server.write_all(b"HTTP/1.1 101")?;
        let error = format!("{:#}", read_head(&mut client).expect_err("no head"));
        assert!(error.contains("HTTP/1.1 101"), "{error}");
        Ok(())
    }
}
