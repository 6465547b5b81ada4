//! Connections to the relay: at most so many, kept open between messages.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use carillon_runtime::config::Secret;
use parking_lot::Mutex;
use tokio::{
    fs::File,
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout},
};

use super::{
    AuthMechanism, EmailConfig, EmailError, Security,
    address::domain_to_ascii,
    classify::Stage,
    reply::Reply,
    smtp::{Conversation, Credentials, Envelope, Failure},
    tls::RelayTls,
};

/// A password or token is no longer than this; a file that is longer is another file.
const MAX_SECRET: u64 = 64 * 1_024;

/// How long one waits for a connection of ours. Hardly ever: as many are tried at a time as there are connections.
pub(super) const QUEUE: Duration = Duration::from_secs(5);

/// How long a relay may take to hear that we leave.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// The relay, and the connections to it.
pub(super) struct Pool {
    host: String,
    port: u16,
    security: Security,
    tls: RelayTls,
    hello: String,
    mechanism: AuthMechanism,
    username: String,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    per_connection: u32,
    width: usize,
    slots: Semaphore,
    idle: Mutex<Unused>,
}

#[derive(Default)]
struct Unused {
    /// The longest unused first; the last one is taken first, so that few stay in use.
    list: Vec<Kept>,
    /// Whether somebody closes those that stay unused.
    is_watched: bool,
}

struct Kept {
    conversation: Conversation,
    messages: u32,
    since: Instant,
}

impl Pool {
    pub(super) fn new(config: &EmailConfig, host: &str, hello: &str) -> Result<Self, EmailError> {
        let host = match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => domain_to_ascii(host).map_err(|_| EmailError::Setting("host"))?,
        };
        Ok(Self {
            tls: RelayTls::new(&host, config.ca_file.as_deref())?,
            host,
            port: config.port(),
            security: config.security,
            hello: hello.to_owned(),
            mechanism: config.auth,
            username: config.username.clone().unwrap_or_default(),
            password: config.password.clone(),
            password_file: config.password_file.clone(),
            connect_timeout: config.connect_timeout.duration(),
            idle_timeout: config.idle_timeout.duration(),
            per_connection: config.messages_per_connection,
            width: config.connections,
            slots: Semaphore::new(config.connections),
            idle: Mutex::default(),
        })
    }

    /// Host and port.
    pub(super) fn lane(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Waits until one of the connections is free. That is no time of the relay's: what waits here was not tried.
    pub(super) async fn slot(&self) -> Result<SemaphorePermit<'_>, Failure> {
        match timeout(QUEUE, self.slots.acquire()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(Failure::Busy),
        }
    }

    /// How many messages can be under way.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// Sends over a kept connection or a new one. `stage` says how far it came, also when the future is dropped; the
    /// connection is dropped with it.
    pub(super) async fn send(
        self: &Arc<Self>,
        _slot: &SemaphorePermit<'_>,
        envelope: &Envelope<'_>,
        content: &[u8],
        stage: &mut Stage,
    ) -> Result<Reply, Failure> {
        let kept = self.idle.lock().list.pop();
        if let Some(mut kept) = kept {
            let sent = kept.conversation.send(envelope, content, stage).await;
            // The server may have ended it while nobody looked: one that was not used before then says more.
            if !sent.as_ref().is_err_and(Failure::is_stale) {
                self.put_back(kept, &sent);
                return sent;
            }
        }
        let mut fresh = Kept {
            conversation: self.connect(stage).await?,
            messages: 0,
            since: Instant::now(),
        };
        let sent = fresh.conversation.send(envelope, content, stage).await;
        self.put_back(fresh, &sent);
        sent
    }

    fn put_back(self: &Arc<Self>, mut used: Kept, sent: &Result<Reply, Failure>) {
        used.messages += 1;
        if sent.as_ref().is_err_and(Failure::ends_conversation) {
            return;
        }
        if used.messages >= self.per_connection {
            // Beside the delivery, which it must not hold up.
            tokio::spawn(timeout(GOOD_BYE, used.conversation.quit()));
            return;
        }
        used.since = Instant::now();
        let mut idle = self.idle.lock();
        idle.list.push(used);
        if !std::mem::replace(&mut idle.is_watched, true) {
            tokio::spawn(close_unused(Arc::downgrade(self), self.idle_timeout));
        }
    }

    async fn connect(&self, stage: &mut Stage) -> Result<Conversation, Failure> {
        *stage = Stage::Connect;
        let opened = timeout(self.connect_timeout, self.open(stage)).await;
        let conversation = opened.unwrap_or_else(|_| {
            Err(Failure::Broken {
                stage: *stage,
                error: io::ErrorKind::TimedOut.into(),
            })
        })?;
        metrics::counter!("carillon_email_connections_total").increment(1);
        Ok(conversation)
    }

    async fn open(&self, stage: &mut Stage) -> Result<Conversation, Failure> {
        let broken = |error| Failure::Broken {
            stage: Stage::Connect,
            error,
        };
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(broken)?;
        // A command goes out in one write and is answered before the next: nothing gains by waiting for more.
        tcp.set_nodelay(true).map_err(broken)?;
        let implicit = (self.security == Security::Tls).then_some(&self.tls);
        let mut conversation = Conversation::open(tcp, implicit, &self.hello, stage).await?;
        if self.security == Security::Starttls {
            conversation = conversation.start_tls(&self.tls, &self.hello).await?;
        }
        if self.mechanism != AuthMechanism::None {
            *stage = Stage::SignIn;
            let secret = self.secret().await?;
            conversation
                .sign_in(&Credentials {
                    mechanism: self.mechanism,
                    username: self.username.clone(),
                    secret,
                })
                .await?;
        }
        Ok(conversation)
    }

    async fn secret(&self) -> Result<String, Failure> {
        let Some(path) = &self.password_file else {
            return Ok(self
                .password
                .as_ref()
                .map(|secret| secret.expose().to_owned())
                .unwrap_or_default());
        };
        read_secret(path).await.map_err(|error| {
            tracing::error!(path = %path.display(), %error, "channels.email.password_file cannot be read");
            Failure::Secret
        })
    }
}

/// Closes connections that nobody used for `limit`; ends when there is none left.
async fn close_unused(pool: Weak<Pool>, limit: Duration) {
    loop {
        let Some(strong) = pool.upgrade() else {
            return;
        };
        let (unused, next) = {
            let mut idle = strong.idle.lock();
            let now = Instant::now();
            let count = idle.list.partition_point(|kept| kept.since + limit <= now);
            let unused: Vec<Kept> = idle.list.drain(..count).collect();
            let next = idle.list.first().map(|kept| kept.since + limit);
            idle.is_watched = next.is_some();
            (unused, next)
        };
        drop(strong);
        for kept in unused {
            tokio::spawn(timeout(GOOD_BYE, kept.conversation.quit()));
        }
        let Some(next) = next else {
            return;
        };
        sleep_until(next).await;
    }
}

async fn read_secret(path: &Path) -> io::Result<String> {
    let mut secret = String::new();
    let file = File::open(path).await?;
    file.take(MAX_SECRET).read_to_string(&mut secret).await?;
    secret.truncate(secret.trim_end().len());
    Ok(secret)
}
