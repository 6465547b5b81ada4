//! One conversation with an SMTP server (RFC 5321), as a client: with `PIPELINING` (RFC 2920) a message costs two writes.
//!
//! Nothing here has a deadline of its own: the attempt has one, and drops the conversation when it passes.

use std::{fmt::Write as _, io};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    AuthMechanism,
    classify::Stage,
    reply::{MAX_REPLY, Malformed, Reply},
    tls::RelayTls,
};

/// Why a conversation did not end with the message taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server said so.
    #[error("{reply}")]
    Refused {
        /// To what.
        stage: Stage,
        /// Its answer.
        reply: Reply,
    },
    /// The connection did not come about, or broke.
    #[error("{error}")]
    Broken {
        /// When.
        stage: Stage,
        /// How.
        error: io::Error,
    },
    /// The server cannot do what is required of it.
    #[error("the relay does not offer {0}")]
    Lacks(&'static str),
    /// The server said more before TLS than it was asked for: somebody in between may have said it.
    #[error("the relay said something between STARTTLS and TLS")]
    Injected,
    /// The server told beforehand that it takes nothing so large.
    #[error("the message has {size} bytes, and the relay takes {limit}")]
    TooLarge {
        /// Of the message, in bytes.
        size: usize,
        /// In bytes.
        limit: u64,
    },
    /// A line of the message ends otherwise than by CRLF, or it has a NUL: servers would disagree where it ends.
    #[error("the message has line ends or characters that mail cannot carry")]
    Lines,
    /// The password or token cannot be read; why is the operator's matter alone.
    #[error("the relay's credentials cannot be read")]
    Secret,
    /// All connections that we may have are busy.
    #[error("all connections to the relay are busy")]
    Busy,
}

/// Who signs in.
pub(super) struct Credentials {
    pub(super) mechanism: AuthMechanism,
    pub(super) username: String,
    pub(super) secret: String,
}

impl Credentials {
    fn plain(&self) -> String {
        BASE64_STANDARD.encode(format!("\0{}\0{}", self.username, self.secret))
    }

    fn xoauth2(&self) -> String {
        BASE64_STANDARD.encode(format!(
            "user={}\x01auth=Bearer {}\x01\x01",
            self.username, self.secret
        ))
    }
}

/// From whom and to whom, and what the relay may put on a bounce.
pub(super) struct Envelope<'w> {
    pub(super) from: &'w str,
    pub(super) to: &'w str,
    pub(super) id: &'w str,
}

/// A conversation.
pub(super) struct Conversation {
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    offers: Offers,
    /// A refused recipient leaves a transaction open; the next message begins with `RSET`.
    is_open: bool,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the server said that it can do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offers {
    pipelining: bool,
    starttls: bool,
    /// RFC 3461: our id comes back in bounces.
    dsn: bool,
    /// RFC 1870, in bytes; 0 means that it does not say how much.
    size: Option<u64>,
    plain: bool,
    login: bool,
    xoauth2: bool,
}

impl Offers {
    /// From the lines of an answer to `EHLO`, which a [`Reply`] joins by spaces: keywords do not depend on line ends.
    fn read(text: &str) -> Self {
        let mut offers = Self::default();
        let mut words = text.split_ascii_whitespace().peekable();
        while let Some(word) = words.next() {
            match word.to_ascii_uppercase().as_str() {
                "PIPELINING" => offers.pipelining = true,
                "STARTTLS" => offers.starttls = true,
                "DSN" => offers.dsn = true,
                "SIZE" => offers.size = Some(words.peek().and_then(|limit| limit.parse().ok()).unwrap_or(0)),
                "PLAIN" => offers.plain = true,
                "LOGIN" => offers.login = true,
                "XOAUTH2" => offers.xoauth2 = true,
                _ => {}
            }
        }
        offers
    }
}

impl Conversation {
    /// Greets the server over a fresh connection.
    pub(super) async fn open(
        tcp: TcpStream,
        implicit: Option<&RelayTls>,
        hello: &str,
        stage: &mut Stage,
    ) -> Result<Self, Failure> {
        let stream = match implicit {
            None => Stream::Plain(tcp),
            Some(tls) => Stream::Tls(Box::new(handshake(tls, tcp).await?)),
        };
        let mut conversation = Self {
            stream,
            input: Vec::with_capacity(1_024),
            output: Vec::with_capacity(8 * 1_024),
            offers: Offers::default(),
            is_open: false,
        };
        *stage = Stage::Greeting;
        conversation.expect(Stage::Greeting).await?;
        *stage = Stage::Hello;
        conversation.hello(hello).await?;
        Ok(conversation)
    }

    async fn hello(&mut self, name: &str) -> Result<(), Failure> {
        let reply = self.ask(Stage::Hello, &["EHLO ", name]).await?;
        self.offers = Offers::read(&reply.text);
        Ok(())
    }

    /// Secures the conversation, or ends it.
    pub(super) async fn start_tls(mut self, tls: &RelayTls, hello: &str) -> Result<Self, Failure> {
        let Stream::Plain(_) = self.stream else {
            return Ok(self);
        };
        if !self.offers.starttls {
            return Err(Failure::Lacks("STARTTLS"));
        }
        self.ask(Stage::Hello, &["STARTTLS"]).await?;
        // What came along in the clear would be taken for the secured server's answers.
        if !self.input.is_empty() {
            return Err(Failure::Injected);
        }
        let Stream::Plain(tcp) = self.stream else {
            return Err(Failure::Lacks("STARTTLS"));
        };
        self.stream = Stream::Tls(Box::new(handshake(tls, tcp).await?));
        // What it offered in the clear counts for nothing.
        self.hello(hello).await?;
        Ok(self)
    }

    /// Signs in. Of the answers only the codes are kept: a server may quote what it was told, whole, in part or encoded,
    /// and reasons are read by others.
    pub(super) async fn sign_in(&mut self, credentials: &Credentials) -> Result<(), Failure> {
        let Credentials { username, secret, .. } = credentials;
        let reply = match credentials.mechanism {
            AuthMechanism::None => return Ok(()),
            AuthMechanism::Plain if !self.offers.plain => return Err(Failure::Lacks("AUTH PLAIN")),
            AuthMechanism::Plain => self.ask_quietly(&["AUTH PLAIN ", &credentials.plain()]).await?,
            AuthMechanism::Login if !self.offers.login => return Err(Failure::Lacks("AUTH LOGIN")),
            AuthMechanism::Login => {
                let reply = self.ask_quietly(&["AUTH LOGIN"]).await?;
                refuse_unless(334, Stage::SignIn, reply)?;
                let reply = self.ask_quietly(&[&BASE64_STANDARD.encode(username)]).await?;
                refuse_unless(334, Stage::SignIn, reply)?;
                self.ask_quietly(&[&BASE64_STANDARD.encode(secret)]).await?
            }
            AuthMechanism::Xoauth2 if !self.offers.xoauth2 => return Err(Failure::Lacks("AUTH XOAUTH2")),
            AuthMechanism::Xoauth2 => {
                let reply = self
                    .ask_quietly(&["AUTH XOAUTH2 ", &credentials.xoauth2()])
                    .await?;
                // The reason comes as a challenge; the refusal follows an empty answer.
                if reply.code == 334 {
                    self.ask_quietly(&[]).await?
                } else {
                    reply
                }
            }
        };
        refuse_unless(235, Stage::SignIn, reply).map(drop)
    }

    /// One command of signing in and its answer, whatever it is, without its text.
    async fn ask_quietly(&mut self, command: &[&str]) -> Result<Reply, Failure> {
        self.output.clear();
        self.queue(command);
        self.flush(Stage::SignIn).await?;
        let mut reply = self.reply(Stage::SignIn).await?;
        reply.text.clear();
        Ok(reply)
    }

    /// Hands a message over. After a refusal of this message alone the conversation can go on; after anything else it
    /// must be dropped, see [`Failure::ends_conversation`].
    pub(super) async fn send(
        &mut self,
        envelope: &Envelope<'_>,
        content: &[u8],
        stage: &mut Stage,
    ) -> Result<Reply, Failure> {
        if let Some(limit) = self.offers.size
            && limit > 0
            && content.len() as u64 > limit
        {
            let size = content.len();
            return Err(Failure::TooLarge { size, limit });
        }
        if !has_whole_lines(content) {
            return Err(Failure::Lines);
        }
        *stage = Stage::Sender;
        self.offer(envelope, content.len()).await?;
        *stage = Stage::Content;
        self.output.clear();
        stuff(content, &mut self.output);
        self.flush(Stage::Content).await?;
        let reply = self.reply(Stage::Content).await?;
        self.is_open = false;
        refuse_unless(250, Stage::Content, reply)
    }

    /// `MAIL`, `RCPT` and `DATA`: afterwards the server waits for the message.
    async fn offer(&mut self, envelope: &Envelope<'_>, size: usize) -> Result<(), Failure> {
        let reset = std::mem::replace(&mut self.is_open, true);
        let Envelope { from, to, id } = envelope;
        let size = match self.offers.size {
            Some(_) => format!(" SIZE={size}"),
            None => String::new(),
        };
        let dsn = match self.offers.dsn {
            true => format!(" RET=HDRS ENVID={id}"),
            false => String::new(),
        };
        // A bounce of what was forwarded names both addresses then: ours, and the one that failed.
        let report = match self.offers.dsn {
            true => format!(" NOTIFY=FAILURE,DELAY ORCPT=rfc822;{}", xtext(to)),
            false => String::new(),
        };
        let sender = ["MAIL FROM:<", from, ">", &size, &dsn];
        let recipient = ["RCPT TO:<", to, ">", &report];
        if !self.offers.pipelining {
            if reset {
                self.ask(Stage::Sender, &["RSET"]).await?;
            }
            let reply = self.ask(Stage::Sender, &sender).await?;
            refuse_unless(250, Stage::Sender, reply)?;
            let reply = self.ask(Stage::Recipient, &recipient).await?;
            refuse_unless(250, Stage::Recipient, reply)?;
            let reply = self.ask(Stage::Data, &["DATA"]).await?;
            return refuse_unless(354, Stage::Data, reply).map(drop);
        }
        self.output.clear();
        if reset {
            self.queue(&["RSET"]);
        }
        self.queue(&sender);
        self.queue(&recipient);
        self.queue(&["DATA"]);
        self.flush(Stage::Sender).await?;
        if reset {
            self.expect(Stage::Sender).await?;
        }
        // Every answer is read, so that question and answer stay in step; the first refusal counts.
        let mut judged = Ok(());
        let mut waits_for_content = false;
        for (code, stage) in [(250, Stage::Sender), (250, Stage::Recipient), (354, Stage::Data)] {
            let reply = match self.reply(stage).await {
                Ok(reply) => reply,
                Err(failure) => return judged.and(Err(failure)),
            };
            let closes = reply.code == 421;
            waits_for_content = reply.code == 354;
            judged = judged.and_then(|()| refuse_unless(code, stage, reply).map(drop));
            if closes {
                return judged;
            }
        }
        if waits_for_content && judged.is_err() {
            // It waits for a message to nobody: an empty one ends that (RFC 2920, 3.1).
            self.output.clear();
            self.output.extend_from_slice(b".\r\n");
            self.flush(Stage::Data).await?;
            self.reply(Stage::Data).await?;
            self.is_open = false;
        }
        judged
    }

    /// Says good-bye without waiting for the answer.
    pub(super) async fn quit(mut self) {
        self.output.clear();
        self.queue(&["QUIT"]);
        let _ = self.flush(Stage::Hello).await;
    }

    /// One command and its positive answer.
    async fn ask(&mut self, stage: Stage, command: &[&str]) -> Result<Reply, Failure> {
        self.output.clear();
        self.queue(command);
        self.flush(stage).await?;
        self.expect(stage).await
    }

    async fn expect(&mut self, stage: Stage) -> Result<Reply, Failure> {
        let reply = self.reply(stage).await?;
        if reply.is_positive() {
            Ok(reply)
        } else {
            Err(Failure::Refused { stage, reply })
        }
    }

    fn queue(&mut self, command: &[&str]) {
        for part in command {
            self.output.extend_from_slice(part.as_bytes());
        }
        self.output.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self, stage: Stage) -> Result<(), Failure> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(&self.output).await,
            Stream::Tls(stream) => match stream.write_all(&self.output).await {
                Ok(()) => stream.flush().await,
                Err(error) => Err(error),
            },
        };
        written.map_err(|error| Failure::Broken { stage, error })
    }

    async fn reply(&mut self, stage: Stage) -> Result<Reply, Failure> {
        let broken = |error| Failure::Broken { stage, error };
        loop {
            let parsed = Reply::parse(&self.input)
                .map_err(|Malformed| broken(io::Error::new(io::ErrorKind::InvalidData, Malformed)))?;
            if let Some((reply, length)) = parsed {
                self.input.drain(..length);
                return Ok(reply);
            }
            // Parsing refuses what is longer than this, so the buffer is bounded.
            self.input.reserve(1_024.min(MAX_REPLY));
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read_buf(&mut self.input).await,
                Stream::Tls(stream) => stream.read_buf(&mut self.input).await,
            };
            if read.map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl Failure {
    /// Whether the conversation cannot go on.
    pub(super) fn ends_conversation(&self) -> bool {
        match self {
            Self::Refused { reply, .. } => reply.code == 421,
            Self::TooLarge { .. } | Self::Lines => false,
            _ => true,
        }
    }

    /// Whether it tells only that a kept connection had ended meanwhile: nothing was handed over yet.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::Broken { stage, .. } => *stage == Stage::Sender,
            Self::Refused { stage, reply } => *stage == Stage::Sender && reply.code == 421,
            _ => false,
        }
    }
}

async fn handshake(tls: &RelayTls, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
    tls.connector
        .connect(tls.name.clone(), tcp)
        .await
        .map_err(|error| Failure::Broken {
            stage: Stage::Connect,
            error,
        })
}

/// 250 stands for every 25z.
fn refuse_unless(code: u16, stage: Stage, reply: Reply) -> Result<Reply, Failure> {
    if reply.code / 10 == code / 10 {
        Ok(reply)
    } else if reply.is_positive() {
        let error = io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {reply}"));
        Err(Failure::Broken { stage, error })
    } else {
        Err(Failure::Refused { stage, reply })
    }
}

/// RFC 3461, 4: printable ASCII, `+` and `=` as `+XX`.
fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'+' | b'=') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "+{byte:02X}");
        }
    }
    out
}

/// Whether CR and LF occur only together, and NUL nowhere.
pub(super) fn has_whole_lines(content: &[u8]) -> bool {
    let mut before = 0;
    let fits = content.iter().all(|&byte| {
        let fits = byte != 0 && (before == b'\r') == (byte == b'\n');
        before = byte;
        fits
    });
    fits && before != b'\r'
}

/// The message as it travels: a dot before each line that begins with one, and the line with the dot that ends it
/// (RFC 5321, 4.5.2).
pub(super) fn stuff(content: &[u8], out: &mut Vec<u8>) {
    out.reserve(content.len() + 16);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !content.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_the_beginning_of_lines_are_doubled() {
        for (content, expected) in [
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\n..b\r\n.", "a\r\n..\r\n...b\r\n..\r\n.\r\n"),
            ("", "\r\n.\r\n"),
        ] {
            let mut out = Vec::new();
            stuff(content.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{content:?}");
        }
    }

    #[test]
    fn an_address_is_written_as_xtext() {
        assert_eq!(xtext("o'b+a=c@example.org"), "o'b+2Ba+3Dc@example.org");
        assert_eq!(xtext("a b\u{e4}"), "a+20b+C3+A4");
    }

    #[test]
    fn a_message_with_bare_line_ends_is_not_sent() {
        for content in ["", "a", "a\r\n", "\r\n\r\n", "a\r\n.\r\nb"] {
            assert!(has_whole_lines(content.as_bytes()), "{content:?}");
        }
        for content in [
            "\r",
            "\n",
            "a\r.\r\nb",
            "a\n",
            "a\r\r\n",
            "\n\r",
            "a\0b",
            "a\r\n\r",
        ] {
            assert!(!has_whole_lines(content.as_bytes()), "{content:?}");
        }
    }

    #[test]
    fn what_a_server_offers_is_read_in_any_spelling() {
        let postfix = Offers::read(
            "mx.example.org PIPELINING SIZE 10240000 STARTTLS AUTH PLAIN LOGIN 8BITMIME DSN CHUNKING",
        );
        assert_eq!(
            postfix,
            Offers {
                pipelining: true,
                starttls: true,
                dsn: true,
                size: Some(10_240_000),
                plain: true,
                login: true,
                xoauth2: false
            }
        );
        assert_eq!(
            Offers::read("mx at your service size auth XOAUTH2"),
            Offers {
                size: Some(0),
                xoauth2: true,
                ..Offers::default()
            }
        );
        assert_eq!(Offers::read(""), Offers::default());
    }
}
