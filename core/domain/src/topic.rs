//! Topics: pub/sub addresses, private to their tenant.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{ExternalUserId, Invalid, Position, Timestamp};

/// A topic's name: 1-255 printable ASCII characters without space, `*`, `>`, `"`, `\` and `,`; names that begin
/// with `carillon:` are reserved. The Centrifugo wire protocol calls a topic a `channel`; our code does not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// What a reserved name begins with, for example the wire's `carillon:inbox`.
    pub const RESERVED: &'static str = "carillon:";

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>' | b'"' | b'\\' | b',')
}

impl FromStr for TopicName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.starts_with(Self::RESERVED) {
            return Err(Invalid("topic names that begin with carillon: are reserved"));
        }
        if matches!(text.len(), 1..=255) && text.bytes().all(is_topic_byte) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Invalid(
                "a topic is 1-255 printable ASCII characters without space, *, >, comma, quote or backslash",
            ))
        }
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for TopicName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl utoipa::PartialSchema for TopicName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .min_length(Some(1))
            .max_length(Some(255))
            .into()
    }
}

impl utoipa::ToSchema for TopicName {}

/// Who published, when a connected client did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherInfo {
    /// The publishing user.
    pub user: ExternalUserId,
    /// The publishing session (the Centrifugo protocol's client id).
    pub client: String,
}

/// One publication in a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Where it stands in the topic's history; `None` in a live-only topic.
    pub position: Option<Position>,
    /// The payload, JSON, encoded once.
    pub data: Bytes,
    /// Who published, when a client did.
    pub publisher: Option<PublisherInfo>,
    /// When it was accepted.
    pub at: Timestamp,
}
