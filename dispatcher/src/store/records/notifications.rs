//! Notifications: how they are accepted, handed out, shown and withdrawn.

use std::sync::Arc;

use carillon_domain::{
    BundleKey, Category, ChannelKind, CollapseKey, NotificationId, NotificationState, Position, Priority,
    Target, TemplateName, TenantId, Timestamp, TopicName, UserId,
};

/// A notification as accepted.
#[derive(Debug, Clone)]
pub(crate) struct NewNotification {
    pub(crate) id: NotificationId,
    pub(crate) category: Category,
    pub(crate) priority: Priority,
    pub(crate) collapse_key: Option<CollapseKey>,
    /// What its alerts are bundled by, where they wait for digests.
    pub(crate) digest_key: Option<BundleKey>,
    /// [`carillon_domain::Content`] as JSON.
    pub(crate) content: Arc<str>,
    /// `Vec<Target>` as JSON.
    pub(crate) targets: Arc<str>,
    /// `Vec<ChannelKind>` as JSON, where the request names them.
    pub(crate) channels: Option<Arc<str>>,
    /// What `content` was rendered from.
    pub(crate) template: Option<TemplateUse>,
    /// The plan as JSON, where the request brings one.
    pub(crate) plan: Option<Arc<str>>,
    /// Whether the request says that it passes preferences, quiet hours, holds and caps.
    pub(crate) critical: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) send_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

impl NewNotification {
    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        let data = self.template.as_ref().map_or(0, |template| template.data.len());
        let plan = self.plan.as_ref().map_or(0, |plan| plan.len());
        self.content.len() + self.targets.len() + data + plan + 256
    }

    /// When its outbox row may be handed out, and its lease's number; see
    /// [`Store::accept`](crate::store::Store::accept).
    pub(crate) fn first_due(&self, now: Timestamp, leased: Option<Timestamp>) -> (Timestamp, i64) {
        match leased {
            Some(until) if self.send_at <= now => (until, 1),
            _ => (self.send_at, 0),
        }
    }
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
        let rows: usize = self.notifications.iter().map(NewNotification::weight).sum();
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
    /// What its alerts are bundled by, where they wait for digests.
    pub(crate) digest_key: Option<BundleKey>,
    pub(crate) content: Arc<str>,
    pub(crate) targets: Vec<StoredTarget>,
    /// Where the request names them.
    pub(crate) channels: Option<Vec<ChannelKind>>,
    /// What `content` was rendered from, in the template's default locale.
    pub(crate) template: Option<TemplateUse>,
    /// The plan as JSON: as the request brings it, and from the first planning on the one that is climbed.
    pub(crate) plan: Option<Arc<str>>,
    /// Whether the request says that it passes preferences, quiet hours, holds and caps.
    pub(crate) critical: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) send_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// The period's name, where it is a digest.
    pub(crate) digest: Option<Arc<str>>,
    /// JSON of `Vec<PublishedTo>`.
    pub(crate) topics: Option<String>,
}

/// What was read of notifications.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Without those that are gone.
    pub(crate) rows: Vec<NotificationRow>,
    /// Whether others may be there that did not fit.
    pub(crate) more: bool,
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

/// What a list of notifications asks for, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct NotificationQuery {
    pub(crate) state: Option<NotificationState>,
    pub(crate) category: Option<Category>,
    pub(crate) user: Option<UserId>,
    pub(crate) before: Option<NotificationId>,
    pub(crate) limit: u32,
}
