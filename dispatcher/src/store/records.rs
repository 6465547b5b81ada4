//! What the store takes and gives: rows and commands, the same for every backend.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_domain::{
    Acknowledgement, Address, Category, ChangeKind, ChannelKind, CollapseKey, Counts, DeliveryId, DeviceId,
    DeviceName, EntryId, Envelope, Epoch, ExternalUserId, NotificationId, NotificationState, PlainAddress,
    Position, Priority, PublisherInfo, Target, TemplateName, TenantId, Timestamp, TopicName, UserId,
    ports::Lane,
};

use super::outside::AttemptDetail;

/// Whose mailbox.
pub(crate) type UserKey = (TenantId, UserId);

/// What the store itself must keep within bounds when it appends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreLimits {
    /// Changes that a mailbox log keeps at least; an eighth more before it is cut.
    pub(crate) log_count: u64,
    /// Publications that a topic's history keeps at least; an eighth more before it is cut.
    pub(crate) topic_count: u64,
    /// Devices per user whose confirmations are kept.
    pub(crate) devices: usize,
    /// How long it is tried to tell an endpoint of an event.
    pub(crate) event_ttl: Duration,
    /// An endpoint that nothing but failed for so long is disabled.
    pub(crate) disable_after: Duration,
    /// How often a transaction begins anew that the database broke off for the sake of another.
    pub(crate) anew: u32,
}

/// A notification as accepted.
#[derive(Debug, Clone)]
pub(crate) struct NewNotification {
    pub(crate) id: NotificationId,
    pub(crate) category: Category,
    pub(crate) priority: Priority,
    pub(crate) collapse_key: Option<CollapseKey>,
    /// [`carillon_domain::Content`] as JSON.
    pub(crate) content: Arc<str>,
    /// `Vec<Target>` as JSON.
    pub(crate) targets: Arc<str>,
    /// `Vec<ChannelKind>` as JSON, where the request names them.
    pub(crate) channels: Option<Arc<str>>,
    /// What `content` was rendered from.
    pub(crate) template: Option<TemplateUse>,
    pub(crate) created_at: Timestamp,
    pub(crate) send_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// A template as a notification uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateUse {
    pub(crate) name: TemplateName,
    /// Fixed when the notification was accepted.
    pub(crate) version: u64,
    /// A JSON object.
    pub(crate) data: Arc<str>,
}

/// One request's notifications: accepted together or not at all.
#[derive(Debug, Clone)]
pub(crate) struct AcceptRequest {
    pub(crate) tenant: TenantId,
    pub(crate) notifications: Vec<NewNotification>,
    pub(crate) claim: Option<Claim>,
}

impl AcceptRequest {
    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        let rows: usize = self
            .notifications
            .iter()
            .map(|n| {
                let data = n.template.as_ref().map_or(0, |template| template.data.len());
                n.content.len() + n.targets.len() + data + 256
            })
            .sum();
        rows + self.claim.as_ref().map_or(0, |claim| claim.body.len())
    }
}

/// An idempotency key and the answer that it will stand for.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) route: &'static str,
    pub(crate) key: Arc<str>,
    /// SHA-256 of the request's body, in hex.
    pub(crate) fingerprint: String,
    pub(crate) status: u16,
    pub(crate) body: Arc<str>,
    pub(crate) expires_at: Timestamp,
}

/// What became of an [`AcceptRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AcceptReply {
    /// Committed.
    Accepted,
    /// The key was used with the same body: the first answer.
    Replayed { status: u16, body: String },
    /// The key was used with another body.
    Mismatch,
}

/// One row of the outbox, handed out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    /// Fences: only the last one handed out may plan.
    pub(crate) token: i64,
}

/// A stored notification.
#[derive(Debug, Clone)]
pub(crate) struct NotificationRow {
    pub(crate) tenant: TenantId,
    pub(crate) id: NotificationId,
    pub(crate) state: NotificationState,
    pub(crate) category: Category,
    pub(crate) priority: Priority,
    pub(crate) collapse_key: Option<CollapseKey>,
    pub(crate) content: Arc<str>,
    pub(crate) targets: Vec<StoredTarget>,
    /// Where the request names them.
    pub(crate) channels: Option<Vec<ChannelKind>>,
    /// What `content` was rendered from, in the template's default locale.
    pub(crate) template: Option<TemplateUse>,
    pub(crate) created_at: Timestamp,
    pub(crate) send_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// JSON of `Vec<PublishedTo>`.
    pub(crate) topics: Option<String>,
}

/// A target as stored: as it came, or what an erasure left of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum StoredTarget {
    Known(Target),
    Erased { erased: bool },
}

/// Where a topic target was published.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct PublishedTo {
    pub(crate) topic: TopicName,
    pub(crate) position: Option<Position>,
}

/// A notification that is to be planned now.
#[derive(Debug, Clone)]
pub(crate) struct PlanJob {
    pub(crate) lease: Lease,
    pub(crate) notification: Arc<NotificationRow>,
    /// Its user targets, resolved, without repeats, and its plain addresses.
    pub(crate) users: Vec<Addressee>,
    /// Its topic targets, and whether each keeps a history.
    pub(crate) topics: Vec<(TopicName, bool)>,
    /// How much of the notification this is.
    pub(crate) part: PlanPart,
}

/// One recipient of a notification, and where it goes for him.
#[derive(Debug, Clone)]
pub(crate) struct Addressee {
    pub(crate) user: UserId,
    /// Whether it goes to his inbox.
    pub(crate) in_app: bool,
    /// The in-app form in his language, where that is another text than the notification's own content.
    pub(crate) content: Option<Arc<str>>,
    /// The locale that was chosen for him from the notification's template.
    pub(crate) locale: Option<Arc<str>>,
    /// The plain address that he is: nobody whom we know.
    pub(crate) plain: Option<PlainAddress>,
    /// Where it goes outside the inbox.
    pub(crate) outside: Vec<Outgoing>,
}

impl Addressee {
    /// A user who gets it in his inbox alone, as it came.
    #[cfg(test)]
    pub(crate) fn in_app(user: UserId) -> Self {
        Self {
            user,
            in_app: true,
            content: None,
            locale: None,
            plain: None,
            outside: Vec::new(),
        }
    }
}

/// One way outside the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) channel: ChannelKind,
    pub(crate) address: Address,
    pub(crate) device: Option<DeviceId>,
    /// Empty where it is skipped.
    pub(crate) lane: Lane,
    /// What must stay in order within the lane; mostly empty.
    pub(crate) strand: Arc<str>,
    /// Why it is not sent, whatever the store knows.
    pub(crate) skip: Option<&'static str>,
    /// Whether the channel can put it in the place of an older one.
    pub(crate) replaces: bool,
}

/// Which part of a notification a job plans: what is too much for one transaction is planned in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanPart {
    /// All that is left of it.
    Whole,
    /// More follows: the notification stays accepted, and its outbox row where it is.
    More,
    /// The last of several.
    Last,
}

impl PlanJob {
    /// Its topics that keep a history.
    pub(crate) fn kept_topics(&self) -> impl Iterator<Item = (TenantId, TopicName)> + '_ {
        self.topics
            .iter()
            .filter(|(_, kept)| *kept)
            .map(|(topic, _)| (self.lease.tenant.clone(), topic.clone()))
    }

    /// Whether a part of the notification may have been planned before: under this lease, or under one that was lost.
    pub(crate) fn resumes(&self) -> bool {
        self.lease.token > 1 || self.part != PlanPart::Whole
    }

    /// The mailboxes that it goes to.
    pub(crate) fn mailboxes(&self) -> impl Iterator<Item = UserKey> + '_ {
        self.users
            .iter()
            .filter(|addressee| addressee.in_app)
            .map(|addressee| (self.lease.tenant.clone(), addressee.user))
    }

    /// All of its recipients.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = UserKey> + '_ {
        self.users
            .iter()
            .map(|addressee| (self.lease.tenant.clone(), addressee.user))
    }

    /// Where it would go outside the inbox unless the store knows something against it.
    pub(crate) fn sendable(&self) -> impl Iterator<Item = (&Addressee, &Outgoing)> + '_ {
        self.users.iter().flat_map(|addressee| {
            addressee
                .outside
                .iter()
                .filter(|outgoing| outgoing.skip.is_none())
                .map(move |outgoing| (addressee, outgoing))
        })
    }

    /// What its collapse key names within a recipient's deliveries.
    pub(crate) fn collapse(&self) -> Option<Arc<str>> {
        let key = self.notification.collapse_key.as_ref()?;
        // A category has no slash, so no two pairs read alike.
        Some(Arc::from(format!("{}/{key}", self.notification.category)))
    }
}

/// What planning did with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanOutcome {
    /// Written.
    Planned,
    /// Written, and more of it follows.
    Partly,
    /// Its time to live had ended.
    Expired,
    /// Somebody else holds it, or it is planned or cancelled already.
    Stale,
}

/// What a transaction changed that others should see.
#[derive(Debug)]
pub(crate) struct Committed<T> {
    pub(crate) value: T,
    /// For the bus, in order.
    pub(crate) envelopes: Vec<Envelope>,
    /// Whether endpoints are told of something.
    pub(crate) told: bool,
}

/// What became of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancelled {
    NotFound,
    /// Cancelled now or before; so many open entries were recalled by this call.
    Done {
        recalled: u64,
        /// Deliveries outside the inbox that are being tried now, and cannot be stopped.
        in_flight: u64,
    },
    /// It expired before.
    Expired,
}

/// A row of `mailboxes`.
#[derive(Debug, Clone)]
pub(crate) struct MailboxRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) epoch: Epoch,
    pub(crate) last_seq: u64,
    pub(crate) floor_seq: u64,
    pub(crate) counts: Counts,
    pub(crate) oldest_at: Option<Timestamp>,
}

impl MailboxRow {
    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.last_seq,
        }
    }
}

/// A row of `mailbox_log`.
#[derive(Debug, Clone)]
pub(crate) struct LogRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) seq: u64,
    pub(crate) kind: ChangeKind,
    pub(crate) body: Bytes,
    pub(crate) at: Timestamp,
}

/// A row of `entries`.
#[derive(Debug, Clone)]
pub(crate) struct EntryRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) id: EntryId,
    pub(crate) notification: NotificationId,
    pub(crate) category: Category,
    pub(crate) collapse_key: Option<CollapseKey>,
    pub(crate) priority: Priority,
    /// Empty where only the state is read.
    pub(crate) content: Arc<str>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) arrived_at: Timestamp,
    pub(crate) seen_at: Option<Timestamp>,
    pub(crate) read_at: Option<Timestamp>,
    pub(crate) archived_at: Option<Timestamp>,
    pub(crate) snoozed_until: Option<Timestamp>,
    pub(crate) acknowledgement: Option<Acknowledgement>,
    pub(crate) seq: u64,
    pub(crate) gone_at: Option<Timestamp>,
}

impl EntryRow {
    pub(crate) fn key(&self) -> UserKey {
        (self.tenant.clone(), self.user)
    }

    /// Not archived, deleted or recalled: what a collapse key replaces.
    pub(crate) fn is_open(&self) -> bool {
        self.archived_at.is_none() && self.gone_at.is_none()
    }

    /// What it adds to the counts.
    pub(crate) fn counted(&self) -> Counts {
        if !self.is_open() || self.snoozed_until.is_some() {
            return Counts::default();
        }
        Counts {
            total: 1,
            unread: u64::from(self.read_at.is_none()),
            unseen: u64::from(self.seen_at.is_none()),
        }
    }
}

/// A row of `recipients`, new.
#[derive(Debug, Clone)]
pub(crate) struct RecipientRow {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    pub(crate) user: UserId,
    pub(crate) state: RecipientState,
    pub(crate) reason: Option<&'static str>,
    pub(crate) entry: Option<EntryId>,
    pub(crate) seq: Option<u64>,
    pub(crate) plain: Option<PlainAddress>,
}

/// Where a notification stands for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecipientState {
    /// In the inbox, unanswered.
    Open,
    /// Answered.
    Acknowledged,
    /// Another notification took its place.
    Superseded,
    /// Its sender took it back.
    Cancelled,
    /// Its time was over first.
    Expired,
    /// The person was erased.
    Erased,
}

impl RecipientState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Erased => "erased",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        [
            Self::Open,
            Self::Acknowledged,
            Self::Superseded,
            Self::Cancelled,
            Self::Expired,
            Self::Erased,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// An open recipient that is open no longer.
#[derive(Debug, Clone)]
pub(crate) struct RecipientEnd {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    pub(crate) user: UserId,
    pub(crate) state: RecipientState,
    pub(crate) reason: Option<&'static str>,
    pub(crate) acknowledgement: Option<Acknowledgement>,
}

/// A row of `deliveries`, new.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryRow {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    pub(crate) user: UserId,
    pub(crate) id: DeliveryId,
    pub(crate) created_at: Timestamp,
}

/// A row of `receipts`, new unless its kind is there.
#[derive(Debug, Clone)]
pub(crate) struct ReceiptRow {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    pub(crate) user: UserId,
    pub(crate) kind: &'static str,
    pub(crate) at: Timestamp,
    pub(crate) device: Option<DeviceName>,
}

/// A row of `confirmations`, new.
#[derive(Debug, Clone)]
pub(crate) struct ConfirmationRow {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) device: DeviceName,
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    /// Its first one; not stored.
    pub(crate) new_device: bool,
}

/// A row of `topics`.
#[derive(Debug, Clone)]
pub(crate) struct TopicRow {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicName,
    pub(crate) epoch: Epoch,
    pub(crate) last_seq: u64,
    pub(crate) floor_seq: u64,
    pub(crate) oldest_at: Option<Timestamp>,
    pub(crate) used_at: Timestamp,
}

impl TopicRow {
    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.last_seq,
        }
    }
}

/// A row of `topic_log`.
#[derive(Debug, Clone)]
pub(crate) struct PublicationRow {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicName,
    pub(crate) seq: u64,
    pub(crate) data: Bytes,
    pub(crate) publisher: Option<PublisherInfo>,
    pub(crate) at: Timestamp,
}

/// Publications of one caller for topics that keep a history.
#[derive(Debug, Clone)]
pub(crate) struct TopicAppend {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicName,
    pub(crate) data: Bytes,
    pub(crate) publisher: Option<PublisherInfo>,
}

/// What a user (or the clock) does to a mailbox.
#[derive(Debug, Clone)]
pub(crate) struct MailboxCommand {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    pub(crate) device: Option<DeviceName>,
    pub(crate) operations: Vec<Operation>,
}

impl MailboxCommand {
    pub(crate) fn key(&self) -> UserKey {
        (self.tenant.clone(), self.user)
    }
}

/// One step of a [`MailboxCommand`].
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    /// Everything up to the position arrived on the command's device.
    Confirm(Position),
    /// Something happens to one entry.
    Entry(Which, EntryAction),
    /// The oldest unread entries become read; call again while `more`.
    ReadAll {
        category: Option<Category>,
        before: Option<Position>,
    },
}

/// Which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    Entry(EntryId),
    /// The entry that shows this notification.
    Notification(NotificationId),
}

/// What happens to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryAction {
    Seen,
    Read,
    Unread,
    Archive,
    Delete,
    Acted {
        action: Option<String>,
    },
    Snooze {
        until: Timestamp,
    },
    /// The clock: its time came.
    Wake,
    /// The janitor: its retention ended.
    Forget,
}

/// What became of an [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OperationResult {
    /// Done.
    Ok,
    /// There was nothing to do.
    Unchanged,
    /// There is no such entry, or the position is none of this mailbox.
    NotFound,
    /// The entry's state does not allow it.
    #[serde(skip)]
    Conflict,
}

/// The mailbox after a [`MailboxCommand`].
#[derive(Debug, Clone)]
pub(crate) struct MailboxReply {
    pub(crate) position: Position,
    pub(crate) counts: Counts,
    /// One per operation, in order.
    pub(crate) results: Vec<OperationResult>,
    /// Whether a [`Operation::ReadAll`] has more to do.
    pub(crate) more: bool,
}

/// Which entries a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum View {
    /// Neither archived nor snoozed.
    #[default]
    Inbox,
    Archived,
    Snoozed,
    /// All that are not deleted or recalled.
    All,
}

impl View {
    /// As a condition on a row of `entries e`.
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::Inbox => " AND e.gone_at IS NULL AND e.archived_at IS NULL AND e.snoozed_until IS NULL",
            Self::Archived => " AND e.gone_at IS NULL AND e.archived_at IS NOT NULL",
            Self::Snoozed => {
                " AND e.gone_at IS NULL AND e.archived_at IS NULL AND e.snoozed_until IS NOT NULL"
            }
            Self::All => " AND e.gone_at IS NULL",
        }
    }
}

/// What an inbox list asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntryQuery {
    pub(crate) view: View,
    pub(crate) unread: bool,
    pub(crate) category: Option<Category>,
    /// Only older than this one.
    pub(crate) before: Option<u64>,
    pub(crate) limit: u32,
}

/// What a list of notifications asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct NotificationQuery {
    pub(crate) state: Option<NotificationState>,
    pub(crate) category: Option<Category>,
    pub(crate) user: Option<UserId>,
    pub(crate) before: Option<NotificationId>,
    pub(crate) limit: u32,
}

/// One recipient of a notification with everything that happened.
#[derive(Debug, Clone)]
pub(crate) struct RecipientDetail {
    pub(crate) user: UserId,
    pub(crate) state: RecipientState,
    pub(crate) reason: Option<String>,
    pub(crate) entry: Option<EntryId>,
    pub(crate) position: Option<Position>,
    pub(crate) acknowledgement: Option<Acknowledgement>,
    pub(crate) plain: Option<PlainAddress>,
    pub(crate) deliveries: Vec<DeliveryDetail>,
    /// All but `delivered`.
    pub(crate) receipts: Vec<ReceiptDetail>,
    /// Which devices confirmed the change that brought it, and when.
    pub(crate) confirmed: Vec<(DeviceName, Timestamp)>,
}

/// One delivery as a recipient's detail shows it.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryDetail {
    pub(crate) id: DeliveryId,
    pub(crate) channel: String,
    pub(crate) address: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) created_at: Timestamp,
    /// When the next attempt may begin.
    pub(crate) next_at: Option<Timestamp>,
    /// The latest ones, in order.
    pub(crate) attempts: Vec<AttemptDetail>,
}

impl DeliveryDetail {
    /// Adds its next attempt. While one runs, no other follows yet.
    pub(crate) fn add(&mut self, attempt: AttemptDetail) {
        if attempt.outcome.is_none() {
            self.next_at = None;
        }
        self.attempts.push(attempt);
    }
}

/// One receipt as a recipient's detail shows it.
#[derive(Debug, Clone)]
pub(crate) struct ReceiptDetail {
    pub(crate) kind: String,
    pub(crate) at: Timestamp,
    pub(crate) device: Option<DeviceName>,
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
    /// Versions of deleted templates that no notification needs.
    TemplateVersions,
    /// Deleted templates without versions.
    Templates,
}

impl Sweep {
    pub(crate) const ALL: [Self; 11] = [
        Self::Notifications,
        Self::Idempotency,
        Self::Log,
        Self::GoneEntries,
        Self::TopicLog,
        Self::Topics,
        Self::Confirmations,
        Self::Devices,
        Self::Erased,
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
