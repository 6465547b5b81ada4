//! The seams between the rooms. Each is small enough that its in-process version is a page; all are held as
//! `Arc<dyn ...>`. The hot path, fan-out to sockets on one node, is concrete code in the hub, behind no port.

mod api_keys;
mod authenticate;
mod bounces;
mod bus;
mod channel;
mod directory;
mod inbox;
mod queue;
mod rpc;
mod seal;
mod signing;
mod suppressed;
mod templates;
mod topics;
mod verifier;

pub use api_keys::ApiKeys;
pub use authenticate::{AuthError, Authenticate, SubscriptionGrant};
pub use bounces::{Bounce, Bounces};
pub use bus::{Bus, Incoming};
pub use channel::{
    Answer, Channel, CheckedAddress, Forms, Lane, Message, NotificationMessage, Operation, Report,
    SigningKey, Work,
};
pub use directory::{Audience, AudiencePage, Directory, Erase, Profile, ProfileDevice};
pub use inbox::{Gap, Inbox, Since};
pub use queue::{Job, JobHandle, Queue};
pub use rpc::{Rpc, RpcError};
pub use seal::Seal;
pub use signing::{NewSigningKey, SigningKeys, SigningKind};
pub use suppressed::Suppressed;
pub use templates::{InAppSource, Rendered, TemplateFault, TemplateSource, Templates};
pub use topics::{NewPublication, PublishError, Topics};
pub use verifier::{Verification, Verifier};

/// A backend did not do what it should: it is away, slow or broken. The caller may try again later.
///
/// What went wrong is for the log, never for a caller.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed")]
pub struct Unavailable {
    /// What was tried, for the log.
    pub operation: &'static str,
    /// Why it failed, for the log.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Unavailable {
    /// `operation` failed because of `source`.
    pub fn new(operation: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            operation,
            source: source.into(),
        }
    }
}
