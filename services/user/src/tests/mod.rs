//! Users from outside: through the port and the routes, on both stores.

mod activity;
mod audiences;
mod devices;
mod directory;
mod erasure;
mod profiles;
mod verification;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Extension, body::Body};
use carillon_domain::{
    Caller, Capabilities, ChannelKind, ExternalUserId, Invalid, KeyCaller, KeyId, Outcome, Principal, Scope,
    TenantId, Timestamp, TopicGrants, UserCaller, UserId,
    ports::{
        Channel, CheckedAddress, Directory as _, Erase, Report, Unavailable, Verification, Verifier, Work,
    },
};
use carillon_testkit::{FixedClock, OpenSeal, TestDatabase};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{UserConfig, UserPorts, Users};

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

/// Users on a database of their own.
pub(super) struct World {
    pub(super) users: Arc<Users>,
    pub(super) clock: Arc<FixedClock>,
    pub(super) database: TestDatabase,
    pub(super) letters: Arc<Letters>,
}

impl World {
    pub(super) async fn sqlite() -> Self {
        Self::on(TestDatabase::sqlite().await).await
    }

    pub(super) async fn postgres() -> Self {
        Self::on(TestDatabase::postgres("carillon_user").await).await
    }

    async fn on(database: TestDatabase) -> Self {
        let clock = Arc::new(FixedClock::default());
        let users = Users::open(UserConfig::default(), database.database.clone(), ports(&clock)).await;
        let (users, letters) = (users.expect("opens"), Arc::new(Letters::default()));
        users.verifies(letters.clone());
        Self {
            users,
            clock,
            database,
            letters,
        }
    }

    /// Another process on the same database.
    pub(super) async fn beside(&self) -> Arc<Users> {
        let database = self.database.database.clone();
        Users::open(UserConfig::default(), database, ports(&self.clock))
            .await
            .expect("opens")
    }

    pub(super) async fn call(&self, scope: Scope, method: Method, path: &str) -> (StatusCode, Value) {
        self.send(scope, method, path, Value::Null).await
    }

    pub(super) async fn send(
        &self,
        scope: Scope,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let key = KeyCaller {
            id: KeyId::at(Timestamp::default()),
            scopes: vec![scope],
        };
        self.send_by(Caller::Key(Arc::new(key)), method, path, body).await
    }

    /// As a user by his own token, which grants the topics `room.*` and names the device `pen`.
    pub(super) async fn send_as(
        &self,
        user: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let caller = self.caller(user).await;
        self.send_by(Caller::User(caller), method, path, body).await
    }

    pub(super) async fn caller(&self, user: &str) -> Arc<UserCaller> {
        let ids = self.users.resolve(&tenant(), &[name(user)]).await;
        Arc::new(UserCaller {
            id: ids.expect("resolved")[0],
            external: name(user),
            device: Some("pen".parse().expect("a device")),
            topics: TopicGrants {
                subscribe: vec!["room.*".parse().expect("a pattern")],
                publish: Vec::new(),
            },
            channels: Vec::new(),
            jti: None,
            issued_at: None,
            expires_at: None,
            own_token: true,
            info: None,
        })
    }

    async fn send_by(&self, caller: Caller, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let principal = Principal {
            tenant: tenant(),
            caller,
        };
        let (router, _) = self.users.routes().split_for_parts();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(if body.is_null() {
                Body::empty()
            } else {
                Body::from(body.to_string())
            })
            .expect("a request");
        let response = router
            .layer(Extension(principal))
            .oneshot(request)
            .await
            .expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        if bytes.is_empty() {
            return (parts.status, Value::Null);
        }
        (parts.status, serde_json::from_slice(&bytes).expect("JSON"))
    }
}

fn ports(clock: &Arc<FixedClock>) -> UserPorts {
    UserPorts {
        clock: clock.clone(),
        channels: vec![Arc::new(Post)],
        seal: Arc::new(OpenSeal),
    }
}

/// A channel whose addresses have one spelling: small letters, with an `@`. Nothing is delivered in these tests.
struct Post;

#[async_trait]
impl Channel for Post {
    fn kind(&self) -> ChannelKind {
        "email".parse().expect("a channel")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid> {
        if !address.contains('@') {
            return Err(Invalid("an address has an @"));
        }
        Ok(CheckedAddress {
            address: address.to_lowercase().parse()?,
            lane: "post".into(),
        })
    }

    async fn attempt(&self, _: &Work) -> Report {
        Report::new(Outcome::Accepted { provider_id: None })
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// What was sent to be verified; it can be out of order.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) sent: Mutex<Vec<Verification>>,
    pub(super) failures: AtomicUsize,
}

#[async_trait]
impl Verifier for Letters {
    async fn send(&self, verification: Verification) -> Result<(), Unavailable> {
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(Unavailable::new("sending", "out of order"));
        }
        self.sent.lock().unwrap().push(verification);
        Ok(())
    }
}

pub(super) fn tenant() -> TenantId {
    TenantId::default()
}

pub(super) fn name(text: &str) -> ExternalUserId {
    text.parse().expect("a user")
}

/// A room that counts what it was asked to forget, and can be out of order.
#[derive(Default)]
pub(super) struct Room {
    pub(super) asked: Mutex<Vec<UserId>>,
    pub(super) failures: AtomicUsize,
}

#[async_trait]
impl Erase for Room {
    async fn erase(&self, _: &TenantId, user: UserId) -> Result<(), Unavailable> {
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(Unavailable::new("forgetting", "out of order"));
        }
        self.asked.lock().unwrap().push(user);
        Ok(())
    }
}
