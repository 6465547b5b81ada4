//! What the store takes and gives: rows and commands, the same for every backend.

mod commands;
mod mailboxes;
mod notifications;
mod plans;
mod recipients;
mod topics;

use std::time::Duration;

use carillon_domain::{Envelope, ExternalUserId, TenantId, UserId};

pub(crate) use commands::*;
pub(crate) use mailboxes::*;
pub(crate) use notifications::*;
pub(crate) use plans::*;
pub(crate) use recipients::*;
pub(crate) use topics::*;

/// Whose mailbox.
pub(crate) type UserKey = (TenantId, UserId);

/// What the store itself must keep within bounds when it appends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreLimits {
    /// Changes that a mailbox log keeps at least; an eighth more before it is cut, 16 at the most.
    pub(crate) log_count: u64,
    /// Publications that a topic's history keeps at least; an eighth more before it is cut, 16 at the most.
    pub(crate) topic_count: u64,
    /// Devices per user whose confirmations are kept.
    pub(crate) devices: usize,
    /// How long it is tried to tell an endpoint of an event.
    pub(crate) event_ttl: Duration,
    /// An endpoint that nothing but failed for so long is disabled.
    pub(crate) disable_after: Duration,
    /// Recipients that one transaction ends when a notification is withdrawn.
    pub(crate) withdrawal_page: usize,
    /// How often a transaction begins anew that the database broke off for the sake of another.
    pub(crate) anew: u32,
}

/// What a transaction changed that others should see.
#[derive(Debug)]
pub(crate) struct Committed<T> {
    pub(crate) value: T,
    /// For the bus, in order.
    pub(crate) envelopes: Vec<Envelope>,
    /// Whether something follows: endpoints are told, something is taken back, others are done with it too.
    pub(crate) told: bool,
}

/// Whom to erase.
#[derive(Debug, Clone)]
pub(crate) struct Erasure {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// The tenant's own id, as long as somebody still knows it.
    pub(crate) name: Option<ExternalUserId>,
}

/// What the janitor takes away, each bounded by its own retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Ended notifications with their recipients, deliveries and receipts.
    Notifications,
    /// Idempotency keys.
    Idempotency,
    /// Changes in mailbox logs.
    Log,
    /// Rows of entries that were deleted or recalled.
    GoneEntries,
    /// Publications in topics' histories.
    TopicLog,
    /// Topics without history that nobody uses.
    Topics,
    /// Confirmations that newer ones of the same device replaced.
    Confirmations,
    /// Devices that no longer confirm.
    Devices,
    /// Notes on who was erased.
    Erased,
    /// Alerts that no cap counts any more.
    Alerts,
    /// Versions of deleted templates that no notification needs.
    TemplateVersions,
    /// Deleted templates without versions.
    Templates,
}

impl Sweep {
    pub(crate) const ALL: [Self; 12] = [
        Self::Notifications,
        Self::Idempotency,
        Self::Log,
        Self::GoneEntries,
        Self::TopicLog,
        Self::Topics,
        Self::Confirmations,
        Self::Devices,
        Self::Erased,
        Self::Alerts,
        Self::TemplateVersions,
        Self::Templates,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Notifications => "notifications",
            Self::Idempotency => "idempotency",
            Self::Log => "log",
            Self::GoneEntries => "gone_entries",
            Self::TopicLog => "topic_log",
            Self::Topics => "topics",
            Self::Confirmations => "confirmations",
            Self::Devices => "devices",
            Self::Erased => "erased",
            Self::Alerts => "alerts",
            Self::TemplateVersions => "template_versions",
            Self::Templates => "templates",
        }
    }
}

/// How many notifications stand in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) planned: u64,
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
    /// Rows in the outbox: as many as are accepted.
    pub(crate) outbox: u64,
    /// How long the oldest due row of the outbox has waited.
    pub(crate) lag: Duration,
}
