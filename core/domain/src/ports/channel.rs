use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    AckKind, Address, Capabilities, Category, ChannelKind, CollapseKey, Content, DeliveryId, Invalid,
    NotificationId, Outcome, Priority, TenantId, Timestamp,
};

/// A delivery medium. It tries once and says what happened: it neither retries nor keeps anything; whether there is
/// another attempt is the delivery's retry policy's decision alone.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Which medium.
    fn kind(&self) -> ChannelKind;

    /// What it can do beside delivering.
    fn capabilities(&self) -> Capabilities;

    /// The canonical spelling of an address and the lane that it belongs to, or why it is none. Pure: no network.
    fn check(&self, address: &str) -> Result<CheckedAddress, Invalid>;

    /// One attempt. Must end by itself within [`Self::patience`]; dropped earlier, it must leave nothing behind.
    async fn attempt(&self, work: &Work) -> Report;

    /// The longest that one attempt takes; a lease is longer.
    fn patience(&self) -> Duration;

    /// The most attempts that it makes at a time in one lane, from 1; nothing where it has no bound of its own. More than
    /// that would only wait within the channel.
    fn width(&self) -> Option<usize> {
        None
    }
}

/// An address as its channel spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedAddress {
    /// The canonical spelling: two spellings of one address become one.
    pub address: Address,
    /// What fails together: a provider's name, or an endpoint's host with its port. Breakers and widths are per lane.
    pub lane: Lane,
}

/// What fails together within a channel: at most 255 bytes.
pub type Lane = Arc<str>;

/// What to do at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bring it.
    Deliver,
    /// Put it in the place of what was delivered before under the same collapse key.
    Replace,
    /// Take back what was delivered.
    Recall,
}

impl Operation {
    /// As written in stores and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Replace => "replace",
            Self::Recall => "recall",
        }
    }

    /// From [`Self::as_str`].
    pub fn from_stored(text: &str) -> Option<Self> {
        [Self::Deliver, Self::Replace, Self::Recall]
            .into_iter()
            .find(|operation| operation.as_str() == text)
    }
}

/// One attempt's worth of work.
#[derive(Debug, Clone)]
pub struct Work {
    /// Whose.
    pub tenant: TenantId,
    /// The delivery: stable over attempts and redrives, so the far end can tell a repeat (`webhook-id`, `Message-ID`).
    pub delivery: DeliveryId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What to do.
    pub operation: Operation,
    /// Where.
    pub address: Address,
    /// The far end's own id of what is replaced or recalled.
    pub provider_id: Option<String>,
    /// What it says.
    pub message: Message,
    /// When the delivery was planned.
    pub created_at: Timestamp,
    /// After this it is not sent any more.
    pub expires_at: Timestamp,
    /// What signs it, newest first: a webhook endpoint's secrets.
    pub keys: Vec<SigningKey>,
}

/// What goes out.
#[derive(Debug, Clone)]
pub enum Message {
    /// A notification for a person.
    Notification(Box<NotificationMessage>),
    /// An event for a program: the JSON body, exactly as it is to be sent and signed.
    Event {
        /// For example `delivery.dead`.
        kind: Arc<str>,
        /// JSON.
        body: Arc<str>,
    },
}

/// A notification as one recipient gets it, in his language.
#[derive(Debug, Clone)]
pub struct NotificationMessage {
    /// Which one.
    pub notification: NotificationId,
    /// Its category.
    pub category: Category,
    /// Its priority.
    pub priority: Priority,
    /// Its collapse key.
    pub collapse_key: Option<CollapseKey>,
    /// Title, body, url, actions, data: as sent, or as its template's in-app form gave.
    pub content: Arc<Content>,
    /// What its template's forms gave for this channel; without a template, or a form, title and body serve.
    pub forms: Forms,
    /// BCP 47, as the template was chosen.
    pub locale: Option<Arc<str>>,
    /// Whom it is for, as the tenant calls him; nobody for a plain address.
    pub user: Option<crate::ExternalUserId>,
    /// Where one click turns this category and channel off for the recipient.
    pub unsubscribe: Option<String>,
    /// Where the recipient chooses what he gets, without signing in.
    pub preferences: Option<String>,
}

/// A template's rendered forms. None is in-app: that one becomes the content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forms {
    /// An email's subject: one line.
    pub subject: Option<String>,
    /// Plain text.
    pub text: Option<String>,
    /// HTML, escaped where data went in.
    pub html: Option<String>,
    /// A push's short text.
    pub short: Option<String>,
}

/// A key that signs for an address, as it was handed to its owner (`whsec_...`, `whsk_...`). Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Arc<str>);

impl SigningKey {
    /// From its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text; for signing only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

/// What an attempt reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it said.
    pub outcome: Outcome,
    /// The far end's status: HTTP's or SMTP's three digits.
    pub status: Option<u16>,
    /// The beginning of what the far end answered, at most 1 KiB, control characters replaced; for the attempt log.
    pub excerpt: Option<String>,
    /// That whoever got it answered at once, for himself: he is sent nothing more.
    pub acknowledged: Option<Answer>,
}

/// How a receiver acknowledged what it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How.
    pub kind: AckKind,
    /// Which action, when [`AckKind::Acted`] named one.
    pub action: Option<String>,
}

impl Report {
    /// Only an outcome.
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            status: None,
            excerpt: None,
            acknowledged: None,
        }
    }
}
