//! Who is calling.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    ChannelKind, ExternalUserId, Invalid, KeyId, Scope, TenantId, Timestamp, TopicGrants, TopicName, UserId,
};

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
    /// A channel's worker that serves every tenant, by a key of the operator's; the principal's tenant is only the one
    /// that the path named. A worker of one tenant is a [`Self::Key`] with the scope [`Scope::Channel`].
    Worker(Arc<WorkerCaller>),
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

/// A channel's worker that serves every tenant.
#[derive(Debug, Clone)]
pub struct WorkerCaller {
    /// The key's id.
    pub id: KeyId,
    /// Which channels it may bring.
    pub channels: Vec<ChannelKind>,
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
