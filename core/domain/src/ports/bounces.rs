use crate::{DeliveryId, Invalid};

/// Understands what mail servers say of messages that they took before: delivery status notifications (RFC 3464).
pub trait Bounces: Send + Sync + 'static {
    /// What a raw message says, recipient by recipient, or why it is none. The message may come from anybody.
    fn read(&self, raw: &[u8]) -> Result<Vec<Bounce>, Invalid>;
}

/// What became of an email after a server took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounce {
    /// Which delivery, where the message says so.
    pub delivery: Option<DeliveryId>,
    /// Whose mailbox it is about: of a forwarded copy, not the delivery's own address.
    pub address: String,
    /// Whether it is lost; else it is delayed, or arrived.
    pub failed: bool,
    /// Whether its address is dead: writing to it again is of no use.
    pub hard: bool,
    /// Status and words of the server, at most about 1 KiB.
    pub detail: Option<String>,
}
