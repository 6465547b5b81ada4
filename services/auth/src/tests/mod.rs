//! Identity from outside: through its ports and routes, on both stores.

mod at_rest;
mod attacks;
mod keys;
mod processes;
mod revocations;
mod signing_keys;
mod tickets;
mod tokens;

use std::sync::{Arc, Mutex};

use axum::{Extension, Router, body::Body};
use carillon_backends::embedded::EmbeddedBus;
use carillon_domain::{
    Caller, Envelope, EnvelopeKind, Principal, Revocation, Scope, TenantId, TopicGrants, UserCaller,
    ports::{AuthError, Authenticate, Bus as _, Incoming},
};
use carillon_runtime::http::AuthenticateHandle;
use carillon_sql::Database;
use carillon_testkit::{FixedClock, MemoryDirectory, TestDatabase};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{Auth, AuthConfig, AuthPorts, MasterKey, MintRequest, Minted};

pub(super) const MASTER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
pub(super) const SECRET: &str = "an excellent shared secret, forty-one chars";
pub(super) const PREVIOUS: &str = "the shared secret that was in use before it";

/// Runs each test on both stores.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World) $body:block)*) => {
        $( $(#[$meta])* async fn $name($world: World) $body )*

        mod sqlite {
            $( #[tokio::test] async fn $name() { super::$name(super::World::sqlite().await).await; } )*
        }

        mod postgres {
            $( #[tokio::test] async fn $name() { super::$name(super::World::postgres().await).await; } )*
        }
    };
}
pub(super) use on_both;

/// What the bus carried.
#[derive(Default)]
struct Heard(Mutex<Vec<Envelope>>);

impl Incoming for Heard {
    fn receive(&self, envelope: Envelope) {
        self.0.lock().unwrap().push(envelope);
    }
}

/// Identity on a database of its own.
pub(super) struct World {
    pub(super) auth: Arc<Auth>,
    pub(super) clock: Arc<FixedClock>,
    pub(super) directory: Arc<MemoryDirectory>,
    pub(super) database: TestDatabase,
    heard: Arc<Heard>,
}

impl World {
    pub(super) async fn sqlite() -> Self {
        Self::on(TestDatabase::sqlite().await, config()).await
    }

    pub(super) async fn postgres() -> Self {
        Self::on(TestDatabase::postgres("carillon_auth").await, config()).await
    }

    pub(super) async fn on(database: TestDatabase, config: AuthConfig) -> Self {
        let (clock, directory) = (
            Arc::new(FixedClock::default()),
            Arc::new(MemoryDirectory::default()),
        );
        let (bus, heard) = (Arc::new(EmbeddedBus::default()), Arc::new(Heard::default()));
        bus.incoming(Arc::clone(&heard) as _);
        let ports = AuthPorts {
            directory: directory.clone(),
            bus,
            clock: clock.clone(),
        };
        let auth = Auth::open(config, database.database.clone(), ports, master())
            .await
            .expect("opens");
        Self {
            auth,
            clock,
            directory,
            database,
            heard,
        }
    }

    /// Another process on the same database.
    pub(super) async fn beside(&self, config: AuthConfig) -> Arc<Auth> {
        self.beside_on(self.database.database.clone(), config, master())
            .await
            .expect("opens")
    }

    pub(super) async fn beside_on(
        &self,
        database: Database,
        config: AuthConfig,
        master: MasterKey,
    ) -> Result<Arc<Auth>, crate::OpenError> {
        let ports = AuthPorts {
            directory: self.directory.clone(),
            bus: Arc::new(EmbeddedBus::default()),
            clock: self.clock.clone(),
        };
        Auth::open(config, database, ports, master).await
    }

    pub(super) fn announced(&self) -> Vec<Revocation> {
        let heard = self.heard.0.lock().unwrap();
        let revocation = |envelope: &Envelope| match &envelope.kind {
            EnvelopeKind::Revoked(revocation) => Some(revocation.clone()),
            _ => None,
        };
        heard.iter().filter_map(revocation).collect()
    }

    pub(super) async fn mint(&self, tenant: &TenantId, user: &str) -> Minted {
        self.auth.mint(tenant, &request(user)).await.expect("minted")
    }

    pub(super) async fn token(&self, user: &str) -> String {
        self.mint(&default(), user).await.token.expose_secret().to_owned()
    }

    pub(super) async fn key(&self, tenant: &TenantId, scopes: &[Scope]) -> String {
        let (_, key) = self.auth.create_key(tenant, "tests", scopes).await.expect("made");
        key.expose_secret().to_owned()
    }

    pub(super) async fn bearer(&self, credential: &str) -> Result<Principal, AuthError> {
        self.auth.bearer(&default(), credential).await
    }

    /// One request to the routes, under `tenant`'s prefix.
    pub(super) async fn send(&self, tenant: &TenantId, request: Request<Body>) -> Answer {
        let handle = AuthenticateHandle(Arc::clone(&self.auth) as _);
        let (router, _) = self.auth.routes().split_for_parts();
        let router: Router = router.layer(Extension(handle)).layer(Extension(tenant.clone()));
        let response = router.oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).expect("JSON")
        };
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(super) async fn call(&self, method: Method, path: &str, credential: &str, body: Value) -> Answer {
        self.call_in(&default(), method, path, credential, body).await
    }

    /// One request as it comes in on the internal listener.
    pub(super) async fn as_operator(
        &self,
        tenant: &TenantId,
        method: Method,
        path: &str,
        body: Value,
    ) -> Answer {
        let operator = Principal {
            tenant: tenant.clone(),
            caller: Caller::Operator,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .extension(operator)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()));
        self.send(tenant, request.expect("a request")).await
    }

    pub(super) async fn call_in(
        &self,
        tenant: &TenantId,
        method: Method,
        path: &str,
        credential: &str,
        body: Value,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !credential.is_empty() {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        };
        self.send(tenant, request.body(body).expect("a request")).await
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.body
    }
}

pub(super) fn config() -> AuthConfig {
    AuthConfig {
        hmac_secret: Some(SECRET.into()),
        hmac_previous_secret: Some(PREVIOUS.into()),
        ..AuthConfig::default()
    }
}

pub(super) fn master() -> MasterKey {
    MasterKey::from_secret(&MASTER.into()).expect("a good key")
}

pub(super) fn default() -> TenantId {
    TenantId::default()
}

pub(super) fn acme() -> TenantId {
    "acme".parse().expect("a tenant")
}

pub(super) fn request(user: &str) -> MintRequest {
    MintRequest {
        user: user.parse().expect("a user"),
        ttl: None,
        device: None,
        topics: TopicGrants::default(),
    }
}

#[track_caller]
pub(super) fn user(principal: &Principal) -> Arc<UserCaller> {
    match &principal.caller {
        Caller::User(user) => Arc::clone(user),
        other => panic!("no user: {other:?}"),
    }
}
