//! The other rooms as the hub sees them, in memory, and a server around the hub.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_domain::{
    Caller, ChangeKind, Clock, DeviceName, Envelope, EnvelopeId, EnvelopeKind, Epoch, ExternalUserId,
    LoggedChange, Position, Principal, Publication, PublisherInfo, Revocation, Subject, SystemClock,
    TenantId, Timestamp, TopicGrants, TopicName, UserCaller, UserId,
    ports::{
        AuthError, Authenticate, Bus, Gap, Inbox, Incoming, NewPublication, PublishError, Rpc, RpcError,
        Since, SubscriptionGrant, Topics, Unavailable,
    },
};
use carillon_hub::{Hub, HubConfig, HubPorts};
use carillon_runtime::{
    edge::{Access, Edge, EdgeConfig, ListenAddress, TlsConfig},
    lifecycle::Stop,
};
use tokio_util::sync::CancellationToken;

/// A log of one mailbox or topic.
struct Log<T> {
    epoch: Epoch,
    items: Vec<T>,
    /// How many of the oldest are gone.
    trimmed: usize,
}

impl<T: Clone> Log<T> {
    fn new() -> Self {
        Self {
            epoch: Epoch::random(),
            items: Vec::new(),
            trimmed: 0,
        }
    }

    fn at(&self, seq: usize) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: seq as u64,
        }
    }

    fn head(&self) -> Position {
        self.at(self.items.len())
    }

    fn since(&self, from: &Position, limit: usize) -> Since<T> {
        let gap = if from.epoch != self.epoch {
            Some(Gap::Epoch)
        } else if from.seq > self.items.len() as u64 {
            Some(Gap::Future)
        } else if (from.seq as usize) < self.trimmed {
            Some(Gap::Trimmed)
        } else {
            None
        };
        if gap.is_some() {
            return Since {
                items: Vec::new(),
                position: self.head(),
                more: false,
                gap,
            };
        }
        let from = from.seq as usize;
        let to = self.items.len().min(from + limit);
        Since {
            items: self.items[from..to].to_vec(),
            position: self.at(to),
            more: to < self.items.len(),
            gap,
        }
    }
}

type Confirmed = HashMap<(UserId, DeviceName), Position>;

/// The stores, the credentials, the bus.
pub(crate) struct World {
    mailboxes: Mutex<HashMap<UserId, Log<LoggedChange>>>,
    topics: Mutex<HashMap<TopicName, Log<Publication>>>,
    confirmed: Mutex<Confirmed>,
    tokens: Mutex<HashMap<String, Result<Principal, &'static str>>>,
    tickets: Mutex<HashMap<String, String>>,
    users: Mutex<HashMap<String, UserId>>,
    pub(crate) bus: TestBus,
    pub(crate) reads: AtomicUsize,
    /// Microseconds that the clock is ahead.
    pub(crate) ahead: AtomicI64,
    pub(crate) away: Mutex<bool>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            mailboxes: Mutex::default(),
            topics: Mutex::default(),
            confirmed: Mutex::default(),
            tokens: Mutex::default(),
            tickets: Mutex::default(),
            users: Mutex::default(),
            bus: TestBus::default(),
            reads: AtomicUsize::new(0),
            ahead: AtomicI64::new(0),
            away: Mutex::new(false),
        })
    }

    pub(crate) fn user(&self, name: &str) -> UserId {
        let mut users = self.users.lock().unwrap();
        *users
            .entry(name.to_owned())
            .or_insert_with(|| UserId::at(SystemClock.now()))
    }

    /// What a token of ours for `name` says.
    pub(crate) fn caller(&self, name: &str) -> UserCaller {
        let grants = r#"{"subscribe": ["room.*", "live.*"], "publish": ["room.*", "live.*"]}"#;
        UserCaller {
            id: self.user(name),
            external: name.parse::<ExternalUserId>().unwrap(),
            device: None,
            topics: serde_json::from_str::<TopicGrants>(grants).unwrap(),
            channels: Vec::new(),
            jti: Some(format!("jti-{name}")),
            issued_at: None,
            expires_at: None,
            own_token: true,
            info: None,
        }
    }

    /// A token for `name`, changed by `with`.
    pub(crate) fn token_with(&self, name: &str, with: impl FnOnce(&mut UserCaller)) -> String {
        let mut caller = self.caller(name);
        with(&mut caller);
        let principal = Principal {
            tenant: TenantId::default(),
            caller: Caller::User(Arc::new(caller)),
        };
        let mut tokens = self.tokens.lock().unwrap();
        let token = format!("token-{name}-{}", tokens.len());
        tokens.insert(token.clone(), Ok(principal));
        token
    }

    pub(crate) fn token(&self, name: &str) -> String {
        self.token_with(name, |_| {})
    }

    /// From now on the token is answered so: `expired`, `revoked`, `away`.
    pub(crate) fn spoil(&self, token: &str, how: &'static str) {
        self.tokens.lock().unwrap().insert(token.to_owned(), Err(how));
    }

    pub(crate) fn ticket(&self, token: &str) -> String {
        let ticket = format!("ticket-{}", self.tickets.lock().unwrap().len());
        self.tickets
            .lock()
            .unwrap()
            .insert(ticket.clone(), token.to_owned());
        ticket
    }

    pub(crate) fn confirm(&self, user: &str, device: &str, position: &str) {
        let key = (self.user(user), device.parse().unwrap());
        self.confirmed
            .lock()
            .unwrap()
            .insert(key, position.parse().unwrap());
    }

    /// Writes a change to a mailbox; its envelope is the caller's to send.
    pub(crate) fn log(&self, name: &str, text: &str) -> Envelope {
        let user = self.user(name);
        let mut mailboxes = self.mailboxes.lock().unwrap();
        let log = mailboxes.entry(user).or_insert_with(Log::new);
        let position = log.at(log.items.len() + 1);
        let body = Bytes::from(format!("{{\"type\":\"added\",\"text\":{text:?}}}"));
        log.items.push(LoggedChange {
            position: position.clone(),
            kind: ChangeKind::Added,
            body: body.clone(),
        });
        Envelope {
            id: EnvelopeId::at(SystemClock.now()),
            tenant: TenantId::default(),
            subject: Subject::Mailbox(user),
            position: Some(position),
            kind: EnvelopeKind::Change(ChangeKind::Added),
            body,
        }
    }

    /// Writes a change and sends its envelope.
    pub(crate) fn ring(&self, name: &str, text: &str) -> Position {
        let envelope = self.log(name, text);
        let position = envelope.position.clone().unwrap();
        self.bus.send(vec![envelope]);
        position
    }

    /// The oldest `count` changes of a mailbox are gone.
    pub(crate) fn trim(&self, name: &str, count: usize) {
        let user = self.user(name);
        self.mailboxes.lock().unwrap().get_mut(&user).unwrap().trimmed = count;
    }

    /// The mailbox's numbering begins anew.
    pub(crate) fn renumber(&self, name: &str) {
        let user = self.user(name);
        self.mailboxes.lock().unwrap().insert(user, Log::new());
    }

    pub(crate) fn publication(&self, topic: &str, data: &str, publisher: Option<PublisherInfo>) -> Envelope {
        let topic: TopicName = topic.parse().unwrap();
        let data = Bytes::from(data.to_owned());
        let position = if topic.as_str().starts_with("live.") {
            None
        } else {
            let mut topics = self.topics.lock().unwrap();
            let log = topics.entry(topic.clone()).or_insert_with(Log::new);
            let position = log.at(log.items.len() + 1);
            log.items.push(Publication {
                position: Some(position.clone()),
                data: data.clone(),
                publisher: publisher.clone(),
                at: SystemClock.now(),
            });
            Some(position)
        };
        Envelope {
            id: EnvelopeId::at(SystemClock.now()),
            tenant: TenantId::default(),
            subject: Subject::Topic(topic),
            position,
            kind: EnvelopeKind::Publication { publisher },
            body: data,
        }
    }

    pub(crate) fn publish(&self, topic: &str, data: &str) -> Option<Position> {
        let envelope = self.publication(topic, data, None);
        let position = envelope.position.clone();
        self.bus.send(vec![envelope]);
        position
    }

    pub(crate) fn revoke(&self, what: Revocation) {
        self.bus.send(vec![Envelope {
            id: EnvelopeId::at(SystemClock.now()),
            tenant: TenantId::default(),
            subject: Subject::Control,
            position: None,
            kind: EnvelopeKind::Revoked(what),
            body: Bytes::new(),
        }]);
    }

    fn read(&self) -> Result<(), Unavailable> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if *self.away.lock().unwrap() {
            Err(Unavailable::new("reading", "the store is away"))
        } else {
            Ok(())
        }
    }
}

/// Hands envelopes to the hub; tells what it listens to.
#[derive(Default)]
pub(crate) struct TestBus {
    incoming: OnceLock<Arc<dyn Incoming>>,
    pub(crate) listened: Mutex<BTreeSet<String>>,
}

impl TestBus {
    pub(crate) fn send(&self, envelopes: Vec<Envelope>) {
        if let Some(incoming) = self.incoming.get() {
            incoming.receive_all(envelopes);
        }
    }
}

/// The world as each of the ports.
pub(crate) struct Room(pub(crate) Arc<World>);

#[async_trait]
impl Bus for Room {
    async fn publish(&self, envelopes: Vec<Envelope>) -> Result<(), Unavailable> {
        self.0.bus.send(envelopes);
        Ok(())
    }

    async fn listen(&self, _: &TenantId, subject: &Subject) -> Result<(), Unavailable> {
        let new = self.0.bus.listened.lock().unwrap().insert(format!("{subject:?}"));
        assert!(new, "listened twice to {subject:?}");
        Ok(())
    }

    async fn unlisten(&self, _: &TenantId, subject: &Subject) -> Result<(), Unavailable> {
        let known = self
            .0
            .bus
            .listened
            .lock()
            .unwrap()
            .remove(&format!("{subject:?}"));
        assert!(known, "did not listen to {subject:?}");
        Ok(())
    }

    fn incoming(&self, incoming: Arc<dyn Incoming>) {
        assert!(self.0.bus.incoming.set(incoming).is_ok(), "only once");
    }
}

#[async_trait]
impl Inbox for Room {
    async fn head(&self, _: &TenantId, user: UserId) -> Result<Position, Unavailable> {
        self.0.read()?;
        Ok(self
            .0
            .mailboxes
            .lock()
            .unwrap()
            .entry(user)
            .or_insert_with(Log::new)
            .head())
    }

    async fn since(
        &self,
        _: &TenantId,
        user: UserId,
        from: &Position,
        limit: usize,
    ) -> Result<Since<LoggedChange>, Unavailable> {
        self.0.read()?;
        tokio::task::yield_now().await;
        Ok(self
            .0
            .mailboxes
            .lock()
            .unwrap()
            .entry(user)
            .or_insert_with(Log::new)
            .since(from, limit))
    }

    async fn confirmed(
        &self,
        _: &TenantId,
        user: UserId,
        device: &DeviceName,
    ) -> Result<Option<Position>, Unavailable> {
        Ok(self
            .0
            .confirmed
            .lock()
            .unwrap()
            .get(&(user, device.clone()))
            .cloned())
    }
}

#[async_trait]
impl Topics for Room {
    async fn publish(
        &self,
        _: &TenantId,
        publications: Vec<NewPublication>,
    ) -> Result<Vec<Option<Position>>, PublishError> {
        let mut positions = Vec::new();
        for publication in publications {
            let data = std::str::from_utf8(&publication.data).unwrap();
            let envelope = self
                .0
                .publication(publication.topic.as_str(), data, publication.publisher);
            positions.push(envelope.position.clone());
            self.0.bus.send(vec![envelope]);
        }
        Ok(positions)
    }

    async fn head(&self, _: &TenantId, topic: &TopicName) -> Result<Option<Position>, Unavailable> {
        self.0.read()?;
        if topic.as_str().starts_with("live.") {
            return Ok(None);
        }
        Ok(Some(
            self.0
                .topics
                .lock()
                .unwrap()
                .entry(topic.clone())
                .or_insert_with(Log::new)
                .head(),
        ))
    }

    async fn since(
        &self,
        _: &TenantId,
        topic: &TopicName,
        from: &Position,
        limit: usize,
    ) -> Result<Option<Since<Publication>>, Unavailable> {
        self.0.read()?;
        tokio::task::yield_now().await;
        if topic.as_str().starts_with("live.") {
            return Ok(None);
        }
        Ok(Some(
            self.0
                .topics
                .lock()
                .unwrap()
                .entry(topic.clone())
                .or_insert_with(Log::new)
                .since(from, limit),
        ))
    }
}

#[async_trait]
impl Authenticate for Room {
    async fn bearer(&self, _: &TenantId, credential: &str) -> Result<Principal, AuthError> {
        match self.0.tokens.lock().unwrap().get(credential) {
            Some(Ok(principal)) => Ok(principal.clone()),
            Some(Err("expired")) => Err(AuthError::Expired),
            Some(Err("revoked")) => Err(AuthError::Revoked),
            Some(Err(_)) => Err(Unavailable::new("authenticating", "away").into()),
            None => Err(AuthError::Invalid),
        }
    }

    async fn ticket(&self, tenant: &TenantId, ticket: &str) -> Result<(Principal, String), AuthError> {
        let token = self
            .0
            .tickets
            .lock()
            .unwrap()
            .remove(ticket)
            .ok_or(AuthError::Invalid)?;
        Ok((self.bearer(tenant, &token).await?, format!("cookie-{token}")))
    }

    async fn stream_cookie(&self, tenant: &TenantId, cookie: &str) -> Result<Principal, AuthError> {
        self.bearer(tenant, cookie.strip_prefix("cookie-").ok_or(AuthError::Invalid)?)
            .await
    }

    async fn subscription(&self, _: &TenantId, token: &str) -> Result<SubscriptionGrant, AuthError> {
        let mut parts = token.split('/');
        let (Some("sub"), Some(user), Some(topic)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(AuthError::Invalid);
        };
        let expires_at = parts.next().map(|millis| {
            SystemClock
                .now()
                .after(Duration::from_millis(millis.parse().unwrap()))
        });
        Ok(SubscriptionGrant {
            user: user.parse().unwrap(),
            topic: topic.parse().unwrap(),
            expires_at,
        })
    }
}

#[async_trait]
impl Rpc for Room {
    async fn call(&self, _: &Principal, method: &str, data: Bytes) -> Option<Result<Bytes, RpcError>> {
        match method {
            "echo" => Some(Ok(data)),
            "slow" => {
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                Some(Ok(data))
            }
            "fail" => Some(Err(RpcError {
                code: 107,
                message: "bad".into(),
                temporary: false,
            })),
            _ => None,
        }
    }
}

impl Clock for Room {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemClock.now().as_micros() + self.0.ahead.load(Ordering::Relaxed))
    }
}

/// A hub behind an edge on a port of its own.
pub(crate) struct Server {
    pub(crate) world: Arc<World>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) address: SocketAddr,
    stop: Stop,
    run: CancellationToken,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(HubConfig::default(), TlsConfig::default())
    }

    pub(crate) fn configured(set: impl FnOnce(&mut HubConfig)) -> Self {
        let mut config = HubConfig::default();
        set(&mut config);
        Self::with(config, TlsConfig::default())
    }

    pub(crate) fn with(config: HubConfig, tls: TlsConfig) -> Self {
        let world = World::new();
        let room = Arc::new(Room(Arc::clone(&world)));
        let hub = Hub::new(
            config,
            HubPorts {
                authenticate: Arc::clone(&room) as _,
                inbox: Arc::clone(&room) as _,
                topics: Arc::clone(&room) as _,
                bus: Arc::clone(&room) as _,
                rpc: Arc::clone(&room) as _,
                clock: Arc::clone(&room) as _,
            },
        );
        room.incoming(Arc::clone(&hub) as _);
        let listen = vec![ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())];
        let edge = Edge::bind(
            &EdgeConfig {
                listen,
                tls,
                ..EdgeConfig::default()
            },
            Access::Public,
        )
        .unwrap();
        let Some(ListenAddress::Tcp(address)) = edge.addresses().pop() else {
            panic!("a TCP address")
        };
        let (stop, run) = (Stop::new(), CancellationToken::new());
        let (router, _) = hub.routes().split_for_parts();
        tokio::spawn(edge.serve(router, stop.clone()));
        tokio::spawn(Arc::clone(&hub).run(run.clone()));
        Self {
            world,
            hub,
            address,
            stop,
            run,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.finish();
        self.stop.abort();
        self.run.cancel();
    }
}

/// Waits until `is_so`, at most ten seconds.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "not within ten seconds: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
