use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    script::Script,
    wait::{eventually, within},
};

/// What the relay does with a message.
#[derive(Debug, Clone)]
pub(crate) enum MailReply {
    /// Takes it.
    Take,
    /// Answers `RCPT` with this line.
    Refuse(&'static str),
    /// Takes it after a while.
    After(Duration),
    /// Says nothing to `RCPT`, and keeps the connection.
    Silence,
}

/// A message as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    /// `ENVID` of RFC 3461.
    pub(crate) envelope: String,
    /// Everything, with lines ended by CRLF.
    pub(crate) raw: String,
}

impl Mail {
    /// A header on one line; empty when absent.
    pub(crate) fn header(&self, name: &str) -> String {
        let head = self.raw.split("\r\n\r\n").next().unwrap_or_default();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    }

    /// The id of the delivery, out of `Message-ID`.
    pub(crate) fn delivery(&self) -> String {
        let id = self.header("message-id");
        let id = id.trim_start_matches('<').split('@').next();
        id.unwrap_or_default().to_owned()
    }
}

/// An SMTP server on the loopback interface: it takes everything, or does per recipient what a test scripts.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    port: u16,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// By recipient.
    scripts: HashMap<String, Script<MailReply>>,
    seen: HashMap<String, Vec<Mail>>,
    /// How often each recipient was named.
    tried: HashMap<String, u64>,
    /// Who signed in, with which password.
    credentials: Option<(String, String)>,
}

impl Relay {
    /// Listens until the test's runtime ends.
    pub(crate) async fn start() -> Self {
        Self::start_at(0).await
    }

    /// The same at a port that a server was told before.
    pub(crate) async fn start_at(port: u16) -> Self {
        // One that stops leaves its port a little later.
        let listener = eventually("the relay's port", || async {
            TcpListener::bind(("127.0.0.1", port)).await.ok()
        })
        .await;
        let relay = Self {
            port: listener.local_addr().expect("an address").port(),
            state: Arc::default(),
            changed: watch::Sender::new(0),
            stop: CancellationToken::new(),
        };
        let serving = relay.clone();
        tokio::spawn(relay.stop.clone().run_until_cancelled_owned(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let relay = serving.clone();
                let stop = serving.stop.clone();
                tokio::spawn(stop.run_until_cancelled_owned(async move {
                    let _ = relay.serve(BufReader::new(socket)).await;
                }));
            }
        }));
        relay
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Goes away: nothing listens, and no connection stays.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// What to do with the next messages to `recipient`, one after the other; the last one stays.
    pub(crate) fn script(&self, recipient: &str, replies: impl IntoIterator<Item = MailReply>) {
        self.state()
            .scripts
            .insert(recipient.to_owned(), Script::once(replies));
    }

    /// The same, from the beginning again and again.
    pub(crate) fn cycle(&self, recipient: &str, replies: impl IntoIterator<Item = MailReply>) {
        self.state()
            .scripts
            .insert(recipient.to_owned(), Script::cycle(replies));
    }

    /// What was taken for `recipient` so far.
    pub(crate) fn seen(&self, recipient: &str) -> Vec<Mail> {
        self.state().seen.get(recipient).cloned().unwrap_or_default()
    }

    /// Everything that was taken so far, each with its recipient.
    pub(crate) fn all(&self) -> Vec<(String, Mail)> {
        let state = self.state();
        let of_one = |(to, seen): (&String, &Vec<Mail>)| {
            let to = to.clone();
            seen.clone().into_iter().map(move |mail| (to.clone(), mail))
        };
        state.seen.iter().flat_map(of_one).collect()
    }

    /// How often `recipient` was named, taken or not.
    pub(crate) fn tried(&self, recipient: &str) -> u64 {
        self.state().tried.get(recipient).copied().unwrap_or(0)
    }

    /// Who signed in last, and the password.
    pub(crate) fn credentials(&self) -> Option<(String, String)> {
        self.state().credentials.clone()
    }

    /// The first `count` messages to `recipient`, once there are as many.
    #[track_caller]
    pub(crate) fn wait(&self, recipient: &str, count: usize) -> impl Future<Output = Vec<Mail>> {
        let caller = std::panic::Location::caller();
        async move {
            let mut changed = self.changed.subscribe();
            within(&format!("{count} emails to {recipient} at {caller}"), async {
                loop {
                    let mut seen = self.seen(recipient);
                    if seen.len() >= count {
                        seen.truncate(count);
                        return seen;
                    }
                    changed.changed().await.expect("this relay sends");
                }
            })
            .await
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }

    fn next(&self, recipient: &str) -> MailReply {
        let mut state = self.state();
        *state.tried.entry(recipient.to_owned()).or_default() += 1;
        let script = state.scripts.get_mut(recipient);
        script.and_then(Script::next).unwrap_or(MailReply::Take)
    }

    async fn serve(&self, mut peer: BufReader<TcpStream>) -> std::io::Result<()> {
        say(&mut peer, "220 relay.example.net ready").await?;
        let (mut envelope, mut recipient, mut wait) = (String::new(), String::new(), Duration::ZERO);
        loop {
            let line = hear(&mut peer).await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "" | "QUIT" => return Ok(()),
                "EHLO" => {
                    say(
                        &mut peer,
                        "250-relay.example.net\r\n250-PIPELINING\r\n250-DSN\r\n250 AUTH PLAIN",
                    )
                    .await?;
                }
                "AUTH" => {
                    let text = rest.strip_prefix("PLAIN ").unwrap_or_default();
                    let text = BASE64_STANDARD.decode(text).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let mut parts = text.split('\0').skip(1).map(str::to_owned);
                    self.state().credentials = parts.next().zip(parts.next());
                    say(&mut peer, "235 2.7.0 signed in").await?;
                }
                "MAIL" => {
                    (recipient, wait) = (String::new(), Duration::ZERO);
                    envelope = rest
                        .split("ENVID=")
                        .nth(1)
                        .unwrap_or_default()
                        .split(' ')
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    say(&mut peer, "250 2.1.0 OK").await?;
                }
                "RCPT" => {
                    let to = rest.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    match self.next(&to) {
                        MailReply::Take => recipient = to,
                        MailReply::After(after) => (recipient, wait) = (to, after),
                        MailReply::Refuse(line) => {
                            say(&mut peer, line).await?;
                            continue;
                        }
                        MailReply::Silence => {
                            // Until the other side gives up.
                            let mut rest = Vec::new();
                            peer.read_to_end(&mut rest).await?;
                            return Ok(());
                        }
                    }
                    say(&mut peer, "250 2.1.5 OK").await?;
                }
                "DATA" if recipient.is_empty() => say(&mut peer, "503 5.5.1 no recipient").await?,
                "DATA" => {
                    say(&mut peer, "354 go on").await?;
                    let raw = hear_message(&mut peer).await?;
                    tokio::time::sleep(wait).await;
                    let mail = Mail {
                        envelope: std::mem::take(&mut envelope),
                        raw,
                    };
                    let to = std::mem::take(&mut recipient);
                    self.state().seen.entry(to).or_default().push(mail);
                    self.changed.send_modify(|count| *count += 1);
                    say(&mut peer, "250 2.0.0 Ok: queued as 4XqT7v2Zk9z1P").await?;
                }
                _ => say(&mut peer, "250 2.0.0 OK").await?,
            }
        }
    }
}

async fn say(peer: &mut BufReader<TcpStream>, line: &str) -> std::io::Result<()> {
    peer.get_mut().write_all(format!("{line}\r\n").as_bytes()).await
}

/// The next line without its end; empty when the client left.
async fn hear(peer: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = Vec::new();
    peer.read_until(b'\n', &mut line).await?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// A message up to the line with a dot alone; dots that were doubled are single again.
async fn hear_message(peer: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut message = String::new();
    loop {
        let mut line = Vec::new();
        peer.read_until(b'\n', &mut line).await?;
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(message);
        }
        message.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
