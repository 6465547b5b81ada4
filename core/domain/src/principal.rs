//! Who is calling.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ExternalUserId, Invalid, KeyId, TenantId, Timestamp, TopicGrants, TopicName, UserId};

/// Who is calling, and for which tenant: the answer of `Authenticate`.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The tenant whose keys verified the credential.
    pub tenant: TenantId,
    /// The caller.
    pub caller: Caller,
}

/// The kinds of caller.
#[derive(Debug, Clone)]
pub enum Caller {
    /// An end user, by JWT, ticket or stream cookie.
    User(Arc<UserCaller>),
    /// A backend, by API key.
    Key(Arc<KeyCaller>),
    /// Whoever may open the internal listener.
    Operator,
}

/// An end user.
#[derive(Debug, Clone)]
pub struct UserCaller {
    /// The internal id.
    pub id: UserId,
    /// The tenant's own id.
    pub external: ExternalUserId,
    /// The device that the token names, if it does.
    pub device: Option<DeviceName>,
    /// What may be subscribed and published to.
    pub topics: TopicGrants,
    /// Topics that the token subscribes on connect (Centrifugo's claims `channels` and `subs`).
    pub channels: Vec<TopicName>,
    /// The token's id, if it has one; revocations name it.
    pub jti: Option<String>,
    /// When the token was issued.
    pub issued_at: Option<Timestamp>,
    /// When the connection ends unless refreshed.
    pub expires_at: Option<Timestamp>,
    /// Whether Carillon issued the token; then the mailbox is subscribed without being asked for.
    pub own_token: bool,
    /// Centrifugo's claim `info`, JSON, shown to others in publications.
    pub info: Option<Box<str>>,
}

/// A backend.
#[derive(Debug, Clone)]
pub struct KeyCaller {
    /// The key's id.
    pub id: KeyId,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Scope {
    /// Send and cancel notifications.
    #[serde(rename = "notifications:write")]
    NotificationsWrite,
    /// Read notifications and what became of them.
    #[serde(rename = "notifications:read")]
    NotificationsRead,
    /// Publish to topics.
    #[serde(rename = "topics:publish")]
    TopicsPublish,
    /// Mint users' tokens.
    #[serde(rename = "tokens:write")]
    TokensWrite,
    /// Revoke tokens and end connections.
    #[serde(rename = "revocations:write")]
    RevocationsWrite,
    /// Erase users.
    #[serde(rename = "users:write")]
    UsersWrite,
    /// Create, list and revoke API keys of the tenant, with any scope: as good as all of them.
    #[serde(rename = "keys:write")]
    KeysWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::NotificationsWrite,
        Self::NotificationsRead,
        Self::TopicsPublish,
        Self::TokensWrite,
        Self::RevocationsWrite,
        Self::UsersWrite,
        Self::KeysWrite,
    ];

    /// What a key gets that asks for nothing: all but the making of further keys.
    pub const BACKEND: [Self; 6] = [
        Self::NotificationsWrite,
        Self::NotificationsRead,
        Self::TopicsPublish,
        Self::TokensWrite,
        Self::RevocationsWrite,
        Self::UsersWrite,
    ];

    /// As written in requests and stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotificationsWrite => "notifications:write",
            Self::NotificationsRead => "notifications:read",
            Self::TopicsPublish => "topics:publish",
            Self::TokensWrite => "tokens:write",
            Self::RevocationsWrite => "revocations:write",
            Self::UsersWrite => "users:write",
            Self::KeysWrite => "keys:write",
        }
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or(Invalid(
                "a scope is one of notifications:write, notifications:read, topics:publish, tokens:write, \
             revocations:write, users:write, keys:write",
            ))
    }
}

/// A device's name within its user: 1-64 characters of `A-Z a-z 0-9 . _ -`, chosen by the app.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(Arc<str>);

impl DeviceName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let valid = matches!(text.len(), 1..=64)
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if valid {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Invalid(
                "a device is 1-64 characters of A-Z, a-z, 0-9, ., _ and -",
            ))
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for DeviceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for DeviceName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[A-Za-z0-9._-]{1,64}$"))
            .into()
    }
}

impl utoipa::ToSchema for DeviceName {}
