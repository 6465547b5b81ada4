//! The little HTTP that the scenarios need, over blocking sockets, so that the client costs next to nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::connect::connect;

/// One keep-alive connection.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
    port: u16,
    key: String,
}

impl Client {
    /// Connects to 127.0.0.1.
    pub(crate) fn connect(port: u16, key: &str) -> Result<Self> {
        Ok(Self {
            stream: connect(port)?,
            read: Vec::new(),
            port,
            key: key.to_owned(),
        })
    }

    /// A whole POST request, to be sent again and again.
    pub(crate) fn prepare(&self, path: &str, body: &str) -> Vec<u8> {
        self.request("POST", path, body)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            self.key,
            body.len()
        )
        .into_bytes()
    }

    /// Sends a prepared request and reads the answer: status and body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.stream.write_all(request)?;
        loop {
            if let Some((status, body, used)) = parse(&self.read)? {
                self.read.drain(..used);
                return Ok((status, body));
            }
            let mut chunk = [0; 16 * 1024];
            let count = self.stream.read(&mut chunk).context("waiting for an answer")?;
            if count == 0 {
                bail!("the server closed the connection");
            }
            self.read.extend_from_slice(&chunk[..count]);
        }
    }

    /// POSTs and expects success.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<Value> {
        self.expect("POST", path, body)
    }

    /// PUTs and expects success.
    pub(crate) fn put(&mut self, path: &str, body: &str) -> Result<Value> {
        self.expect("PUT", path, body)
    }

    fn expect(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let request = self.request(method, path, body);
        let (status, body) = self.exchange(&request)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

/// Status, body and length of the first whole answer in `bytes`, which must have a Content-Length or no body.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(u16, Vec<u8>, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).context("the answer's head")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the answer's status")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    let used = end + 4 + length;
    Ok((bytes.len() >= used).then(|| (status, bytes[end + 4..used].to_vec(), used)))
}

/// One GET on a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut client = Client::connect(port, "")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    client.exchange(request.as_bytes())
}

/// A user's token with the right to subscribe to everything.
pub(crate) fn token(port: u16, key: &str, user: &str) -> Result<String> {
    let body = format!(r#"{{"user":"{user}","ttl":3600,"topics":{{"subscribe":["*"]}}}}"#);
    let answer = Client::connect(port, key)?.post("/v1/tokens", &body)?;
    Ok(answer["token"]
        .as_str()
        .context("a token in the answer")?
        .to_owned())
}
