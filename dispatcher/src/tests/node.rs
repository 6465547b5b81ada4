use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use carillon_backends::embedded::{EmbeddedBus, EmbeddedQueue};
use carillon_domain::{
    Address, Caller, ChannelKind, Clock as _, Envelope, EnvelopeKind, ExternalUserId, KeyCaller, KeyId,
    Principal, Scope, SegmentName, Subject, TenantId, Timestamp, TopicGrants, UserCaller, UserId,
    ports::{ApiKeys, Audience, AudiencePage, Bus as _, Directory, Incoming, Profile, Queue, Unavailable},
};
use carillon_runtime::lifecycle::Stop;
use carillon_sql::Database;
use carillon_testkit::{FixedClock, PlainTemplates, TestDatabase};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::Notify, task::JoinHandle};
use tower::ServiceExt as _;

use crate::{Dispatcher, DispatcherConfig, DispatcherPorts};

/// A dispatcher with its workers, and everything around it.
pub(crate) struct Node {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) names: Arc<Names>,
    pub(crate) heard: Arc<Recorder>,
    pub(crate) revoked: Arc<Revoked>,
    router: Router,
    stop: Stop,
    workers: Vec<JoinHandle<()>>,
    database: Database,
    config: DispatcherConfig,
    channels: Vec<Arc<dyn carillon_domain::ports::Channel>>,
    _keep: Option<Arc<TestDatabase>>,
}

/// How a node of a test differs from the default.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) config: Option<fn(&mut DispatcherConfig)>,
    pub(crate) queue: Option<Arc<dyn Queue>>,
    /// Media outside the inbox.
    pub(crate) channels: Vec<Arc<dyn carillon_domain::ports::Channel>>,
    /// The template engine; the plain one unless given.
    pub(crate) templates: Option<Arc<dyn carillon_domain::ports::Templates>>,
    /// Without workers nothing is committed or planned.
    pub(crate) idle: bool,
}

impl Node {
    pub(crate) async fn sqlite() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::on(Arc::new(TestDatabase::sqlite().await), setup).await
    }

    pub(crate) async fn on(keep: Arc<TestDatabase>, setup: Setup) -> Self {
        let database = keep.database.clone();
        let mut node = Self::start(database, Arc::default(), Arc::default(), setup).await;
        node._keep = Some(keep);
        node
    }

    async fn start(database: Database, clock: Arc<FixedClock>, names: Arc<Names>, setup: Setup) -> Self {
        let mut config = DispatcherConfig::default();
        // The clock stands still: who waits for it looks often.
        config.planner.poll = carillon_runtime::config::Span::from_millis(20);
        config.events.poll = carillon_runtime::config::Span::from_millis(20);
        config.schedules.poll = carillon_runtime::config::Span::from_millis(20);
        config.ladder.poll = carillon_runtime::config::Span::from_millis(20);
        config.delivery.poll = carillon_runtime::config::Span::from_millis(20);
        if let Some(change) = setup.config {
            change(&mut config);
        }
        assert_eq!(config.validate(), Ok(()));
        let channels = setup.channels.clone();
        let heard = Arc::new(Recorder::default());
        let bus = Arc::new(EmbeddedBus::default());
        bus.incoming(heard.clone());
        let revoked = Arc::new(Revoked::default());
        let ports = DispatcherPorts {
            api_keys: revoked.clone(),
            directory: names.clone(),
            queue: setup.queue.unwrap_or_else(|| Arc::new(EmbeddedQueue::default())),
            bus,
            channels: setup.channels,
            templates: setup.templates.or_else(|| Some(Arc::new(PlainTemplates))),
            seal: Some(Arc::new(carillon_testkit::OpenSeal)),
            keys: Some(Arc::new(carillon_testkit::CountedKeys::default())),
            bounces: Some(Arc::new(super::sources::Lines)),
            links: Some("https://bell.example.org/".parse().expect("a URL")),
            clock: clock.clone(),
        };
        let dispatcher = Dispatcher::open(config.clone(), database.clone(), ports)
            .await
            .expect("opens");
        let (router, _) = dispatcher.routes().split_for_parts();
        let stop = Stop::new();
        let workers = if setup.idle {
            Vec::new()
        } else {
            dispatcher.workers()
        };
        let workers = workers
            .into_iter()
            .map(|worker| {
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        result = worker.run(stop.clone()) => result.expect("runs"),
                        () = stop.aborted() => {}
                    }
                })
            })
            .collect();
        Self {
            dispatcher,
            clock,
            names,
            heard,
            revoked,
            router,
            stop,
            workers,
            database,
            config,
            channels,
            _keep: None,
        }
    }

    /// Ends this one where it stands, and starts another on what it left.
    pub(crate) async fn crash_and_restart(mut self) -> Self {
        self.stop.abort();
        for worker in std::mem::take(&mut self.workers) {
            worker.await.expect("no panic");
        }
        let mut next = Self::start(
            self.database.clone(),
            self.clock.clone(),
            self.names.clone(),
            Setup {
                channels: self.channels.clone(),
                ..Setup::default()
            },
        )
        .await;
        next._keep = self._keep.take();
        next
    }

    /// Another node on the same database, with the same users and clock.
    pub(crate) async fn beside(&self) -> Self {
        let _ = &self.config;
        Self::start(
            self.database.clone(),
            self.clock.clone(),
            self.names.clone(),
            Setup {
                channels: self.channels.clone(),
                ..Setup::default()
            },
        )
        .await
    }

    /// Nothing new is begun; answers once everything that ran came to its end.
    pub(crate) async fn finish(mut self) -> Self {
        self.stop.finish();
        for worker in std::mem::take(&mut self.workers) {
            worker.await.expect("no panic");
        }
        self
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A backend's request with every scope.
    pub(crate) async fn key(&self, method: Method, path: &str, body: Value) -> Answer {
        self.request(
            key(&TenantId::default(), &Scope::ALL),
            method,
            path,
            &[],
            Some(body),
        )
        .await
    }

    /// A user's request.
    pub(crate) async fn user(&self, user: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.request(self.principal(user), method, path, &[], body).await
    }

    pub(crate) fn principal(&self, user: &str) -> Principal {
        let external: ExternalUserId = user.parse().expect("a user");
        let id = self.names.of(&TenantId::default(), &external);
        Principal {
            tenant: TenantId::default(),
            caller: Caller::User(Arc::new(UserCaller {
                id,
                external,
                device: None,
                topics: TopicGrants::default(),
                channels: Vec::new(),
                jti: None,
                issued_at: None,
                expires_at: None,
                own_token: true,
                info: None,
            })),
        }
    }

    pub(crate) async fn request(
        &self,
        principal: Principal,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path).extension(principal);
        self.answer(request, headers, body).await
    }

    /// A request of somebody who proves himself by its headers alone.
    pub(crate) async fn stranger(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let request = Request::builder().method(Method::POST).uri(path);
        self.answer(request, headers, Some(body)).await
    }

    async fn answer(
        &self,
        mut request: http::request::Builder,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.ask(request.body(body).expect("a request")).await
    }

    pub(super) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            bytes,
        }
    }

    /// The routes as this principal calls them.
    pub(crate) fn router_of(&self, principal: Principal) -> Router {
        self.router.clone().layer(axum::Extension(principal))
    }

    /// A request of somebody who is not logged in.
    pub(crate) async fn click(&self, method: Method, path: &str, body: &'static str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body));
        self.ask(request.expect("a request")).await
    }

    /// Sends to users and answers the id, once it is planned.
    pub(crate) async fn send(&self, body: Value) -> String {
        let answer = self.key(Method::POST, "/v1/notifications", body).await;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        let id = answer.body["id"].as_str().expect("an id").to_owned();
        self.until_state(&id, "planned").await;
        id
    }

    pub(crate) async fn show(&self, id: &str) -> Value {
        let answer = self
            .key(Method::GET, &format!("/v1/notifications/{id}"), Value::Null)
            .await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body
    }

    pub(crate) async fn until_state(&self, id: &str, state: &str) {
        eventually(async || self.show(id).await["state"] == state).await;
    }

    pub(crate) async fn inbox(&self, user: &str) -> Value {
        self.user(user, Method::GET, "/v1/inbox", None).await.body
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

/// Keys that somebody revoked, in place of identity's own.
#[derive(Default)]
pub(crate) struct Revoked(Mutex<HashSet<(Option<TenantId>, KeyId)>>);

impl Revoked {
    /// Revokes the key by which a worker comes.
    pub(crate) fn revoke(&self, principal: &Principal) {
        let key = match &principal.caller {
            Caller::Key(key) => (Some(principal.tenant.clone()), key.id),
            Caller::Worker(worker) => (None, worker.id),
            Caller::User(_) | Caller::Operator => return,
        };
        self.0.lock().insert(key);
    }
}

#[async_trait]
impl ApiKeys for Revoked {
    async fn stands(&self, tenant: Option<&TenantId>, key: KeyId) -> Result<bool, Unavailable> {
        Ok(!self.0.lock().contains(&(tenant.cloned(), key)))
    }
}

/// An API key of a tenant.
pub(crate) fn key(tenant: &TenantId, scopes: &[Scope]) -> Principal {
    let id = KeyId::at(Timestamp::from_seconds(1_767_323_045));
    Principal {
        tenant: tenant.clone(),
        caller: Caller::Key(Arc::new(KeyCaller {
            id,
            scopes: scopes.to_vec(),
        })),
    }
}

/// What a request got.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) bytes: bytes::Bytes,
}

impl Answer {
    /// The pointers of a problem.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        self.body["errors"]
            .as_array()
            .map(|errors| {
                errors
                    .iter()
                    .filter_map(|error| error["pointer"].as_str())
                    .collect()
            })
            .unwrap_or_default()
    }
}

/// Waits until something is so; fails when it is not within a time that only a fault needs.
pub(crate) async fn eventually(condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A directory that knows everybody it was asked for.
#[derive(Default)]
pub(crate) struct Names(
    Mutex<HashMap<(TenantId, ExternalUserId), UserId>>,
    Mutex<HashMap<UserId, Profile>>,
    Mutex<Audiences>,
    /// How long a question for names waits.
    Mutex<Option<Duration>>,
);

/// Who belongs to what, since when, and after how many pages nobody can say any more.
#[derive(Default)]
struct Audiences {
    members: HashMap<Audience, BTreeMap<UserId, Timestamp>>,
    pages: Option<usize>,
}

impl Names {
    pub(crate) fn of(&self, tenant: &TenantId, user: &ExternalUserId) -> UserId {
        let new = || UserId::at(Timestamp::from_seconds(1_767_323_045));
        *self
            .0
            .lock()
            .entry((tenant.clone(), user.clone()))
            .or_insert_with(new)
    }

    /// Gives a user of the default tenant a language and addresses.
    pub(crate) fn describe(&self, user: &str, profile: Profile) {
        let user = self.of(&TenantId::default(), &user.parse().expect("a user"));
        self.1.lock().insert(user, profile);
    }

    /// Whoever asks for names waits so long.
    pub(crate) fn hesitate(&self, wait: Option<Duration>) {
        *self.3.lock() = wait;
    }

    /// Puts users of the default tenant into an audience, which exists from then on.
    pub(crate) fn join(&self, audience: &Audience, users: &[UserId], since: Timestamp) {
        let mut audiences = self.2.lock();
        let members = audiences.members.entry(audience.clone()).or_default();
        members.extend(users.iter().map(|user| (*user, since)));
    }

    /// After so many further pages of many users the directory is away; none: it is back.
    pub(crate) fn pages(&self, left: Option<usize>) {
        self.2.lock().pages = left;
    }

    pub(crate) fn forget(&self, user: &str) {
        self.0.lock().retain(|(_, known), _| known.as_str() != user);
    }
}

#[async_trait]
impl Directory for Names {
    async fn resolve(&self, tenant: &TenantId, users: &[ExternalUserId]) -> Result<Vec<UserId>, Unavailable> {
        Ok(users.iter().map(|user| self.of(tenant, user)).collect())
    }

    async fn find(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserId>, Unavailable> {
        Ok(self.0.lock().get(&(tenant.clone(), user.clone())).copied())
    }

    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Option<ExternalUserId>>, Unavailable> {
        let wait = *self.3.lock();
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
        let names = self.0.lock();
        let name = |id: &UserId| {
            names
                .iter()
                .find(|((of, _), known)| of == tenant && *known == id)
                .map(|((_, name), _)| name.clone())
        };
        Ok(users.iter().map(name).collect())
    }

    async fn profiles(&self, _: &TenantId, users: &[UserId]) -> Result<Vec<Profile>, Unavailable> {
        let profiles = self.1.lock();
        Ok(users
            .iter()
            .map(|user| profiles.get(user).cloned().unwrap_or_default())
            .collect())
    }

    async fn audience(
        &self,
        _: &TenantId,
        wanted: &[Audience],
        after: Option<UserId>,
        born_before: Timestamp,
        limit: usize,
    ) -> Result<AudiencePage, Unavailable> {
        let mut audiences = self.2.lock();
        if limit > 100
            && let Some(left) = &mut audiences.pages
        {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Unavailable::new("reading an audience", std::io::Error::other("away")))?;
        }
        let all: BTreeSet<UserId> = wanted
            .iter()
            .filter_map(|audience| audiences.members.get(audience))
            .flatten()
            .filter(|(user, since)| after.is_none_or(|after| **user > after) && **since <= born_before)
            .map(|(user, _)| *user)
            .collect();
        let users: Vec<UserId> = all.iter().copied().take(limit).collect();
        let next = users.last().copied().filter(|_| all.len() > users.len());
        Ok(AudiencePage { users, next })
    }

    async fn has_segment(&self, _: &TenantId, segment: &SegmentName) -> Result<bool, Unavailable> {
        let audience = Audience::Segment(segment.clone());
        Ok(self.2.lock().members.contains_key(&audience))
    }

    async fn retire(&self, _: &TenantId, _: &ChannelKind, _: &Address, _: &str) -> Result<(), Unavailable> {
        Ok(())
    }
}

/// What came over the bus.
#[derive(Default)]
pub(crate) struct Recorder {
    envelopes: Mutex<Vec<Envelope>>,
    came: OnceLock<Arc<Notify>>,
}

impl Recorder {
    fn came(&self) -> Arc<Notify> {
        self.came.get_or_init(Arc::default).clone()
    }

    pub(crate) fn all(&self) -> Vec<Envelope> {
        self.envelopes.lock().clone()
    }

    /// The changes of one mailbox, as words and positions, once there are so many.
    pub(crate) async fn changes(&self, user: UserId, count: usize) -> Vec<(String, u64)> {
        let came = self.came();
        loop {
            let notified = came.notified();
            let changes: Vec<_> = self
                .all()
                .into_iter()
                .filter(|envelope| envelope.subject == Subject::Mailbox(user))
                .map(|envelope| match envelope.kind {
                    EnvelopeKind::Change(kind) => (
                        kind.as_str().to_owned(),
                        envelope.position.expect("a position").seq,
                    ),
                    other => panic!("no change: {other:?}"),
                })
                .collect();
            if changes.len() >= count {
                return changes;
            }
            tokio::time::timeout(Duration::from_secs(20), notified)
                .await
                .expect("more changes come");
        }
    }
}

impl Incoming for Recorder {
    fn receive(&self, envelope: Envelope) {
        self.envelopes.lock().push(envelope);
        self.came().notify_one();
    }
}
