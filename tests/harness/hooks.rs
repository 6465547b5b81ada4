use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{script::Script, wait::within};

/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(200);
/// What a flood is written in.
static CHUNK: [u8; 64 * 1_024] = [b'x'; 64 * 1_024];

/// What a receiver does with a request that it has read.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers with a status and these header lines, each ended by CRLF.
    Status(u16, String),
    /// Says nothing, and keeps the connection.
    Silence,
    /// Sends an answer byte by byte.
    Drip,
    /// Resets the connection.
    Reset,
    /// Announces more than it sends, and closes.
    TooShort,
    /// Sends more than it announces: another answer, which was not asked for.
    TooLong,
    /// A success with a body of so many bytes.
    Flood(u64),
    /// Waits for [`Hooks::release`], then answers 204.
    Hold,
}

impl Reply {
    /// An answer without headers of its own.
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, String::new())
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    /// `webhook-id`.
    pub(crate) id: String,
    /// `webhook-timestamp`.
    pub(crate) timestamp: String,
    /// `webhook-signature`: one or several.
    pub(crate) signature: String,
    /// The body, byte for byte.
    pub(crate) body: String,
    /// Whether the answer was a success.
    pub(crate) taken: bool,
}

impl Hook {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The signatures, each without its version.
    pub(crate) fn signatures(&self, version: &str) -> Vec<&str> {
        self.signature
            .split(' ')
            .filter_map(|one| one.strip_prefix(version)?.strip_prefix(','))
            .collect()
    }

    /// What is signed.
    pub(crate) fn signed(&self) -> String {
        format!("{}.{}.{}", self.id, self.timestamp, self.body)
    }
}

/// A receiver of webhooks on a loopback port of its own: it answers 204, or per path what a test scripts.
#[derive(Debug, Clone)]
pub(crate) struct Hooks {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    released: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// By path without its query.
    scripts: HashMap<String, Script<Reply>>,
    /// By path.
    seen: HashMap<String, Vec<Hook>>,
    /// Bytes of floods that were taken.
    flooded: u64,
}

impl Hooks {
    /// Listens until the test's runtime ends.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1").await
    }

    /// The same at another address; at `0.0.0.0` it is every address of the machine.
    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let hooks = Self {
            address: listener.local_addr().expect("an address"),
            state: Arc::default(),
            changed: watch::Sender::new(0),
            released: watch::Sender::new(false),
        };
        let serving = hooks.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let hooks = serving.clone();
                tokio::spawn(async move {
                    let _ = hooks.serve(socket).await;
                });
            }
        });
        hooks
    }

    /// Where `path` is; it begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same under another of its addresses.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// What to do with the next requests for `path`, one after the other; the last one stays.
    pub(crate) fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state()
            .scripts
            .insert(path.to_owned(), Script::once(replies));
    }

    /// The same, from the beginning again and again.
    pub(crate) fn cycle(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state()
            .scripts
            .insert(path.to_owned(), Script::cycle(replies));
    }

    /// Lets go what is held, now and later.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// What came for `path` so far.
    pub(crate) fn seen(&self, path: &str) -> Vec<Hook> {
        self.state().seen.get(path).cloned().unwrap_or_default()
    }

    /// Everything that came so far, each with its path.
    pub(crate) fn all(&self) -> Vec<(String, Hook)> {
        let state = self.state();
        let of_path = |(path, seen): (&String, &Vec<Hook>)| {
            let path = path.clone();
            seen.clone().into_iter().map(move |hook| (path.clone(), hook))
        };
        state.seen.iter().flat_map(of_path).collect()
    }

    /// How many bytes of floods were taken from us.
    pub(crate) fn flooded(&self) -> u64 {
        self.state().flooded
    }

    /// The first `count` requests for `path`, once there are as many.
    #[track_caller]
    pub(crate) fn wait(&self, path: &str, count: usize) -> impl Future<Output = Vec<Hook>> {
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{count} webhooks for {path} at {caller}");
            let mut changed = self.changed.subscribe();
            within(&what, async {
                loop {
                    let mut seen = self.seen(path);
                    if seen.len() >= count {
                        seen.truncate(count);
                        return seen;
                    }
                    changed.changed().await.expect("this receiver sends");
                }
            })
            .await
        }
    }

    /// The requests of one kind for `path`, once there are `count`.
    pub(crate) async fn wait_kind(&self, path: &str, kind: &str, count: usize) -> Vec<Hook> {
        let mut changed = self.changed.subscribe();
        within(&format!("{count} of {kind} for {path}"), async {
            loop {
                let mut seen = self.seen(path);
                seen.retain(|hook| hook.json()["type"] == kind);
                if seen.len() >= count {
                    return seen;
                }
                changed.changed().await.expect("this receiver sends");
            }
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }

    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let mut unread = Vec::new();
        while let Some((path, mut hook)) = request(&mut socket, &mut unread).await? {
            let reply = {
                let mut state = self.state();
                let name = path.split('?').next().unwrap_or_default();
                let script = state.scripts.get_mut(name);
                let reply = script.and_then(Script::next).unwrap_or(Reply::status(204));
                hook.taken = matches!(reply, Reply::Status(200..=299, _));
                state.seen.entry(path).or_default().push(hook);
                reply
            };
            self.changed.send_modify(|count| *count += 1);
            if !self.answer(&mut socket, reply).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers whether the connection goes on.
    async fn answer(&self, socket: &mut TcpStream, reply: Reply) -> std::io::Result<bool> {
        match reply {
            Reply::Status(204, _) => {
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
            Reply::Status(status, headers) => {
                let text = format!("said {status}");
                let answer = format!(
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{text}",
                    text.len()
                );
                socket.write_all(answer.as_bytes()).await?;
            }
            Reply::Silence => {
                // Until the other side gives up.
                let mut rest = Vec::new();
                let _ = socket.read_to_end(&mut rest).await;
                return Ok(false);
            }
            Reply::Drip => {
                for byte in b"HTTP/1.1 200 OK\r\nx-slow: as slow as it can be\r\ncontent-length: 0\r\n\r\n" {
                    socket.write_all(&[*byte]).await?;
                    tokio::time::sleep(DRIP).await;
                }
            }
            Reply::Reset => {
                socket.set_zero_linger()?;
                return Ok(false);
            }
            Reply::TooShort => {
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfew")
                    .await?;
                return Ok(false);
            }
            Reply::TooLong => {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
                socket.write_all(answer).await?;
            }
            Reply::Flood(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
                socket.write_all(head.as_bytes()).await?;
                let mut left = bytes;
                while left > 0 {
                    let size = usize::try_from(left).map_or(CHUNK.len(), |left| left.min(CHUNK.len()));
                    socket.write_all(&CHUNK[..size]).await?;
                    left -= size as u64;
                    self.state().flooded += size as u64;
                }
            }
            Reply::Hold => {
                let mut released = self.released.subscribe();
                released
                    .wait_for(|released| *released)
                    .await
                    .expect("this receiver sends");
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
        }
        Ok(true)
    }
}

/// Path and request; `None` when the client is gone.
async fn request(socket: &mut TcpStream, unread: &mut Vec<u8>) -> std::io::Result<Option<(String, Hook)>> {
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&unread[..end]).into_owned();
            let header = |name: &str| {
                head.lines()
                    .filter_map(|line| line.split_once(": "))
                    .find(|(found, _)| found.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
                    .unwrap_or_default()
            };
            let length = header("content-length").parse().unwrap_or(0);
            let whole = end + 4 + length;
            if unread.len() >= whole {
                let body = String::from_utf8_lossy(&unread[end + 4..whole]).into_owned();
                unread.drain(..whole);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let hook = Hook {
                    id: header("webhook-id"),
                    timestamp: header("webhook-timestamp"),
                    signature: header("webhook-signature"),
                    body,
                    taken: false,
                };
                return Ok(Some((path, hook)));
            }
        }
        let mut chunk = [0; 8 * 1_024];
        match socket.read(&mut chunk).await? {
            0 => return Ok(None),
            count => unread.extend_from_slice(&chunk[..count]),
        }
    }
}
