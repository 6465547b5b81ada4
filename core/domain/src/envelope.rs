//! What travels on the bus and down a socket.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ChangeKind, EnvelopeId, Position, PublisherInfo, TenantId, TopicName, UserId};

/// What travels on the bus and down a socket. Six fields; what one kind needs is a typed field of that kind,
/// never parsed from the body.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Its own id.
    pub id: EnvelopeId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who listens for it.
    pub subject: Subject,
    /// Its place in the mailbox log or topic history; `None` in live-only topics and in control envelopes.
    pub position: Option<Position>,
    /// What it is.
    pub kind: EnvelopeKind,
    /// JSON, encoded once.
    pub body: Bytes,
}

/// What an envelope is about, and what a node with interested sockets listens to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A topic.
    Topic(TopicName),
    /// A user's mailbox.
    Mailbox(UserId),
    /// Every node: revocations.
    Control,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Mailbox(user) => write!(f, "mailbox {user}"),
            Self::Control => f.write_str("control"),
        }
    }
}

/// The kinds of envelope.
#[derive(Debug, Clone, PartialEq)]
pub enum EnvelopeKind {
    /// A mailbox change; the body is [`crate::Change`] as JSON.
    Change(ChangeKind),
    /// A publication in a topic; the body is its data.
    Publication {
        /// Who published, when a client did.
        publisher: Option<PublisherInfo>,
    },
    /// Tokens ended: connections that used them end too. The body is empty.
    Revoked(Revocation),
}

/// Which tokens ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// All of a user's, issued until now.
    User(UserId),
    /// One, by its `jti`.
    Token(String),
}
