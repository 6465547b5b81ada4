//! What the store takes and gives for deliveries outside the inbox, the same for every backend.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{
    Address, Category, ChannelKind, CollapseKey, Content, DeliveryId, DeviceId, EndpointId, EventId,
    ExternalUserId, NotificationId, Priority, RedriveId, TenantId, Timestamp, UserId,
    ports::{Lane, Operation, TemplateSource},
};

/// A strand of a tenant's lane: what deliveries are handed out by. The strand is empty where nothing must stay in
/// order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneKey {
    pub(crate) tenant: TenantId,
    pub(crate) channel: ChannelKind,
    pub(crate) lane: Lane,
    pub(crate) strand: Arc<str>,
}

/// A lane with work that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueLane {
    pub(crate) key: LaneKey,
    pub(crate) due_at: Timestamp,
}

/// How much to hand out of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LanePick {
    pub(crate) key: LaneKey,
    /// Deliveries at the most; of a strand it is one in any case.
    pub(crate) limit: u32,
}

/// A lane that nothing can be handed out of before a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParkedLane {
    pub(crate) key: LaneKey,
    pub(crate) until: Timestamp,
}

/// What a delivery brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Brings {
    /// A notification to a person.
    Notification(NotificationId),
    /// An event to a program.
    Event(EventId),
}

impl std::fmt::Display for Brings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Notification(id) => id.fmt(f),
            Self::Event(id) => id.fmt(f),
        }
    }
}

impl std::str::FromStr for Brings {
    type Err = carillon_domain::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(EventId::PREFIX) {
            text.parse().map(Self::Event)
        } else {
            text.parse().map(Self::Notification)
        }
    }
}

/// Where a delivery outside the inbox stands. It only moves forward; but a redrive makes a dead one pending again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeliveryState {
    /// Waits for an attempt, or is being tried.
    Pending,
    /// A provider took it.
    Accepted,
    /// The receiver has it.
    Delivered,
    /// It was taken back.
    Recalled,
    /// It will not be tried again: a dead letter.
    Dead,
    /// It was not sent, and that is no failure.
    Skipped,
    /// Its sender took the notification back first.
    Cancelled,
    /// A newer notification took its place first.
    Superseded,
    /// Waits in a digest.
    Gathered,
    /// It went out with a digest.
    Digested,
}

impl DeliveryState {
    pub(crate) const ALL: [Self; 10] = [
        Self::Pending,
        Self::Accepted,
        Self::Delivered,
        Self::Recalled,
        Self::Dead,
        Self::Skipped,
        Self::Cancelled,
        Self::Superseded,
        Self::Gathered,
        Self::Digested,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Recalled => "recalled",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Gathered => "gathered",
            Self::Digested => "digested",
        }
    }

    /// Whether it is still to be sent.
    pub(crate) const fn waits(self) -> bool {
        matches!(self, Self::Pending | Self::Gathered)
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A delivery outside the inbox, new.
#[derive(Debug, Clone)]
pub(crate) struct OutsideRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: DeliveryId,
    pub(crate) brings: Brings,
    /// Nobody for an event.
    pub(crate) user: Option<UserId>,
    /// The step of the plan that it belongs to; 0 for an event.
    pub(crate) step: u32,
    /// The tenant's own id of the user; none of an event and of a plain address.
    pub(crate) name: Option<ExternalUserId>,
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    pub(crate) device: Option<DeviceId>,
    /// What fails together with it; empty for one that has no address.
    pub(crate) lane: Lane,
    pub(crate) locale: Option<Arc<str>>,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<Cow<'static, str>>,
    /// The far end's id of what it replaces.
    pub(crate) provider_id: Option<String>,
    /// What a newer notification that takes its place has in common with it.
    pub(crate) collapse: Option<Arc<str>>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// A row of `delivery_queue`, new.
#[derive(Debug, Clone)]
pub(crate) struct WorkRow {
    pub(crate) key: LaneKey,
    pub(crate) delivery: DeliveryId,
    /// The order within a strand: microseconds of when it was written serve.
    pub(crate) ord: i64,
    pub(crate) operation: Operation,
    pub(crate) due_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// Attempts that were made before.
    pub(crate) earlier: u32,
    /// In which the recipient's quiet hours put off its first attempt, by name; none where they do not.
    pub(crate) zone: Option<Arc<str>>,
}

impl WorkRow {
    /// The work of a new delivery: due at once, in order of its planning.
    pub(crate) fn of(row: &OutsideRow, strand: Arc<str>, operation: Operation) -> Self {
        Self {
            key: LaneKey {
                tenant: row.tenant.clone(),
                channel: row.channel.clone(),
                lane: row.lane.clone(),
                strand,
            },
            delivery: row.id,
            ord: row.created_at.as_micros(),
            operation,
            due_at: row.created_at,
            expires_at: row.expires_at,
            earlier: 0,
            zone: None,
        }
    }
}

/// A delivery that was handed out for one attempt.
#[derive(Debug, Clone)]
pub(crate) struct LeasedDelivery {
    pub(crate) key: LaneKey,
    pub(crate) id: DeliveryId,
    pub(crate) brings: Brings,
    pub(crate) user: Option<UserId>,
    /// The tenant's own id of the user.
    pub(crate) name: Option<ExternalUserId>,
    pub(crate) address: Address,
    pub(crate) locale: Option<Arc<str>>,
    pub(crate) operation: Operation,
    pub(crate) provider_id: Option<String>,
    /// How many attempts its retry policy has seen with this one.
    pub(crate) token: u32,
    /// Attempts before this work was opened.
    pub(crate) earlier: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

impl LeasedDelivery {
    /// The registered endpoint that it is for. On any other channel the same text is an address like others.
    pub(crate) fn endpoint(&self) -> Option<EndpointId> {
        if self.key.channel.as_str() != ChannelKind::WEBHOOK {
            return None;
        }
        self.address.as_str().parse().ok()
    }

    /// The attempt's number, from 1. Fences: only the last one handed out may settle.
    pub(crate) fn number(&self) -> u32 {
        self.earlier.saturating_add(self.token)
    }
}

/// What was handed out.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) leased: Vec<LeasedDelivery>,
    /// What ended instead: suppressed, too late, its endpoint disabled.
    pub(crate) ended: Vec<Ended>,
    /// Picked lanes, and those that work of them was moved to, that have more due; they are parked.
    pub(crate) more: Vec<LaneKey>,
}

/// What an attempt said, as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Settlement {
    pub(crate) delivery: Arc<LeasedDelivery>,
    pub(crate) ended_at: Timestamp,
    /// [`carillon_domain::Outcome::as_str`].
    pub(crate) outcome: &'static str,
    pub(crate) status: Option<u16>,
    /// At most 1 KiB.
    pub(crate) reason: Option<String>,
    /// At most 1 KiB.
    pub(crate) excerpt: Option<String>,
    pub(crate) provider_id: Option<String>,
    pub(crate) verdict: Verdict,
    /// Whether anything was sent: what was not says nothing about the far end.
    pub(crate) is_sent: bool,
    /// Whether its channel can take back what it delivered.
    pub(crate) recalls: bool,
}

/// What follows of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The far end has it, or took it back.
    Done {
        /// By a provider that will pass it on.
        accepted: bool,
    },
    /// Another attempt.
    Again(Timestamp),
    /// No other attempt.
    Dead,
    /// No other attempt, and its address is not used again.
    Gone,
    /// It was not sent, and that is no failure.
    Skipped,
    /// It was not begun in time: it is handed out anew, as if this attempt had not been.
    Unsent,
}

/// A delivery that ended in this transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) tenant: TenantId,
    pub(crate) id: DeliveryId,
    pub(crate) brings: Brings,
    pub(crate) user: Option<UserId>,
    /// The tenant's own id of the user.
    pub(crate) name: Option<ExternalUserId>,
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    pub(crate) operation: Operation,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<String>,
    /// Whether its address is to be retired.
    pub(crate) gone: bool,
    /// Whether somebody took it first and it was lost after that.
    pub(crate) bounced: bool,
}

/// What became of settlements.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// How many came too late: another attempt was begun meanwhile, or the delivery was withdrawn.
    pub(crate) stale: u64,
    /// Those of them whose lease was not the last one.
    pub(crate) refused: Vec<(TenantId, DeliveryId)>,
    pub(crate) ended: Vec<Ended>,
    /// Endpoints that are told nothing any more, and why.
    pub(crate) disabled: Vec<(TenantId, EndpointId, String)>,
}

/// What the messages of leased deliveries are made of.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) notifications: HashMap<(TenantId, NotificationId), Arc<NotificationSource>>,
    /// Of digests among them, members that were answered or taken back since.
    pub(crate) over: HashMap<(TenantId, NotificationId), HashSet<NotificationId>>,
    pub(crate) templates: HashMap<TemplateKey, Arc<StoredTemplate>>,
    pub(crate) events: HashMap<(TenantId, EventId), EventSource>,
    /// Registered endpoints by their id as text.
    pub(crate) endpoints: HashMap<(TenantId, String), EndpointSource>,
    /// Secrets that sign, newest first, by their endpoint; the tenant's own under the empty name.
    pub(crate) secrets: HashMap<(TenantId, String), Vec<SealedSecret>>,
}

/// A template's name and version.
pub(crate) type TemplateKey = (TenantId, String, i64);

/// What a notification says.
#[derive(Debug, Clone)]
pub(crate) struct NotificationSource {
    pub(crate) category: Category,
    pub(crate) priority: Priority,
    pub(crate) collapse_key: Option<CollapseKey>,
    /// None where what is stored cannot be read.
    pub(crate) content: Option<Arc<Content>>,
    pub(crate) template: Option<(String, i64)>,
    /// The request's data, JSON.
    pub(crate) data: Option<String>,
}

/// A template's version.
#[derive(Debug, Clone)]
pub(crate) struct StoredTemplate {
    pub(crate) default_locale: String,
    /// By locale. None where what is stored cannot be read.
    pub(crate) locales: Option<HashMap<String, TemplateSource>>,
}

/// An event as endpoints are told it.
#[derive(Debug, Clone)]
pub(crate) struct EventSource {
    pub(crate) kind: Arc<str>,
    pub(crate) body: Arc<str>,
}

/// A registered endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointSource {
    pub(crate) url: String,
}

/// A row of `endpoint_secrets`.
#[derive(Debug, Clone)]
pub(crate) struct SealedSecret {
    pub(crate) id: String,
    pub(crate) sealed: String,
}

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeadFilter {
    /// These alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<Vec<DeliveryId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel: Option<ChannelKind>,
    /// The category of the notification that they bring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<Category>,
    /// Text that the reason contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<UserId>,
    /// Where they were to go: an address, or an endpoint's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<Address>,
    /// Dead since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
}

/// What a list of dead letters asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeadQuery {
    pub(crate) filter: DeadFilter,
    pub(crate) before: Option<DeliveryId>,
    pub(crate) limit: u32,
}

/// A delivery outside the inbox as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct OutsideDetail {
    pub(crate) id: DeliveryId,
    pub(crate) brings: Brings,
    pub(crate) user: Option<UserId>,
    pub(crate) channel: ChannelKind,
    pub(crate) address: String,
    pub(crate) lane: Option<String>,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    /// When the next attempt may begin; none while one runs, and none once it ended.
    pub(crate) next_at: Option<Timestamp>,
}

/// A row of `attempts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptDetail {
    pub(crate) number: u32,
    pub(crate) operation: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    /// Null while it runs.
    pub(crate) outcome: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) excerpt: Option<String>,
    pub(crate) next_at: Option<Timestamp>,
}

/// A row of `suppressions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuppressionRow {
    pub(crate) tenant: TenantId,
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    /// bounced, gone, manual
    pub(crate) reason: Cow<'static, str>,
    pub(crate) detail: Option<String>,
    /// Which delivery told.
    pub(crate) delivery: Option<DeliveryId>,
    pub(crate) at: Timestamp,
}

/// What a list of suppressions asks for, by channel and address.
#[derive(Debug, Clone, Default)]
pub(crate) struct SuppressionQuery {
    pub(crate) channel: Option<ChannelKind>,
    pub(crate) after: Option<(ChannelKind, Address)>,
    pub(crate) limit: u32,
}

/// What became of a delivery that was to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resent {
    Done,
    NotFound,
    /// Why not.
    Conflict(NotResendable),
}

/// Why a delivery is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotResendable {
    /// It is being tried, or ended without arriving and is no dead letter.
    State(DeliveryState),
    /// It is being taken back.
    Recalled,
    /// Its sender took its notification back.
    Cancelled,
    /// Its recipient answered.
    Acknowledged,
}

/// A row of `redrives`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedriveRow {
    pub(crate) id: RedriveId,
    pub(crate) filter: DeadFilter,
    pub(crate) is_done: bool,
    /// Dead letters that matched when it began.
    pub(crate) total: u64,
    /// Dead letters that it made pending again. Fewer than `total` where a resend was first, or their notification was
    /// cancelled meanwhile.
    pub(crate) done: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// What the janitor takes away of what is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutsideSweep {
    /// Events with their deliveries and attempts.
    Events,
    /// Redrives that are done.
    Redrives,
}

impl OutsideSweep {
    pub(crate) const ALL: [Self; 2] = [Self::Events, Self::Redrives];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Redrives => "redrives",
        }
    }
}

/// How many deliveries outside the inbox stand where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OutsideTally {
    /// All there are.
    pub(crate) all: u64,
    pub(crate) pending: u64,
    pub(crate) dead: u64,
    /// Pending ones without a row in the queue, and rows without a lane that says when they are due: always none.
    pub(crate) stranded: u64,
    /// Rows in the queue, by channel.
    pub(crate) queued: Vec<(String, u64)>,
    /// When the longest due lane was due.
    pub(crate) oldest_due: Option<Timestamp>,
}
