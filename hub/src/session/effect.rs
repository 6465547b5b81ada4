//! What goes into a session and what comes out.

use std::time::Duration;

use bytes::Bytes;
use carillon_domain::{
    DeviceName, Position, Principal, PublisherInfo, Timestamp, TopicName, UserId,
    ports::{AuthError, RpcError, SubscriptionGrant},
};
use uuid::Uuid;

use super::Channel;
use crate::{
    feed::Resume,
    protocol::{codes::Close, json::EncodedPublication},
};

/// A session's own number for one of its subscriptions.
pub(crate) type Token = u32;

/// When something happens: monotonic for intervals, wall-clock time for tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Since the hub began.
    pub(crate) elapsed: Duration,
    pub(crate) wall: Timestamp,
}

pub(crate) enum Input<'a> {
    /// One line of a text frame.
    Command(&'a str),
    /// The client sent something, whatever it was.
    Heard,
    /// The work that was asked for is done.
    Answer(Answer),
    /// A subscription's place was lost.
    Lost(Token),
}

#[derive(Debug)]
pub(crate) enum Effect {
    /// Say one line of JSON.
    Send(String),
    /// The reply is said: bring the subscription up to date and let it go live.
    Start(Token),
    /// Give up the subscription.
    Leave(Token),
    /// Ask soon what is due: a deadline may have come nearer.
    Wake,
    /// Close with this code. The last effect.
    Close(Close),
    /// Do this and come back with its [`Answer`]. The last effect.
    Work(Work),
}

/// What a session cannot do by itself. The answer comes in the variant of the same name.
#[derive(Debug)]
pub(crate) enum Work {
    /// Check a token and admit its user.
    Authenticate { token: String },
    /// Check the token that prolongs the connection.
    Refresh { token: String },
    /// Check a subscription token.
    Subscription { token: String },
    /// Open held subscriptions.
    Open {
        user: UserId,
        device: Option<DeviceName>,
        requests: Vec<OpenRequest>,
    },
    /// Publish.
    Publish {
        topic: TopicName,
        data: Bytes,
        publisher: PublisherInfo,
    },
    /// Call a method.
    Call {
        principal: Principal,
        method: String,
        data: Bytes,
    },
}

/// One subscription to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenRequest {
    pub(crate) token: Token,
    pub(crate) channel: Channel,
    pub(crate) resume: Resume,
}

pub(crate) enum Answer {
    Authenticate(Result<(Principal, Uuid), Refusal>),
    Refresh(Result<Principal, AuthError>),
    Subscription(Result<SubscriptionGrant, AuthError>),
    /// In the order of the requests.
    Open(Vec<Option<Opened>>),
    Publish(Result<(), PublishFailed>),
    /// `None`: there is no such method.
    Call(Option<Result<Bytes, RpcError>>),
}

/// Why nobody was let in.
pub(crate) enum Refusal {
    Credential(AuthError),
    /// The user has as many connections as allowed.
    Limit,
}

/// Why nothing was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishFailed {
    TooLarge,
    Unavailable,
}

/// A held subscription.
pub(crate) struct Opened {
    /// Where it begins; `None` in a live-only topic.
    pub(crate) position: Option<Position>,
    /// Whether nothing is missing since the position that was presented.
    pub(crate) recovered: bool,
    /// The first of what was missed; the rest follows by itself.
    pub(crate) publications: Vec<EncodedPublication>,
}
