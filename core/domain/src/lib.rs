//! The words of Carillon and the ports between its rooms.
//!
//! **Invariant**: this crate does no I/O and knows no runtime, database, broker or HTTP. Everything here is
//! data, or a trait small enough that its in-process version is a page.
//!
//! The words are fixed in `docs/architecture.md`; code, wire and documentation use the same ones.

mod acknowledgement;
mod channel;
mod content;
mod device;
mod envelope;
mod id;
mod mailbox;
mod notification;
mod outcome;
mod pattern;
mod position;
mod principal;
mod rule;
mod schedule;
mod scope;
mod segment;
mod source;
mod tenant;
mod time;
mod topic;
mod user;

pub mod ports;

pub use acknowledgement::{AckKind, Acknowledgement};
pub use channel::{Address, Capabilities, ChannelKind};
pub use content::{Action, Content};
pub use device::DeviceKind;
pub use envelope::{Envelope, EnvelopeKind, Revocation, Subject};
pub use id::{
    DeliveryId, DeviceId, DomainEventId, EndpointId, EntryId, EnvelopeId, EventId, IdError, KeyId,
    NotificationId, RedriveId, SecretId, UserId,
};
pub use mailbox::{Change, ChangeKind, Counts, Entry, EntryRef, LoggedChange, StateChange};
pub use notification::{
    BundleKey, Category, CollapseKey, MAX_TTL, NotificationState, PlainAddress, Priority, Target,
    TemplateName,
};
pub use outcome::{Fault, Outcome};
pub use pattern::{TopicGrants, TopicPattern};
pub use position::{Epoch, Position, PositionError};
pub use principal::{Caller, DeviceName, KeyCaller, Principal, UserCaller, WorkerCaller};
pub use rule::RuleName;
pub use schedule::ScheduleName;
pub use scope::Scope;
pub use segment::SegmentName;
pub use source::SourceName;
pub use tenant::TenantId;
pub use time::{Clock, SystemClock, Timestamp};
pub use topic::{Publication, PublisherInfo, TopicName};
pub use user::ExternalUserId;

/// Why a word could not be made from text: what was expected, fit to show to a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);
