use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{
    Address, Capabilities, ChannelKind, DeliveryId, ExternalUserId, NotificationId, TenantId, Timestamp,
    UserId,
};
use carillon_sql::StoreError;

use super::records::{DueLane, Ended, LeasedDelivery};

/// The durable state of channels that workers bring.
#[async_trait]
pub(crate) trait RemoteStore: Send + Sync + 'static {
    /// Writes a channel down; one that is there gets the new capabilities.
    async fn announce_channel(&self, row: &RemoteChannelRow) -> Result<(), StoreError>;

    /// Takes a channel back; answers whether it was announced.
    async fn withdraw_channel(
        &self,
        tenant: Option<&TenantId>,
        kind: &ChannelKind,
    ) -> Result<bool, StoreError>;

    /// Channels that serve all tenants, and those of one; by kind, a tenant's own after those for all.
    async fn remote_channels(&self, tenant: Option<&TenantId>) -> Result<Vec<RemoteChannelRow>, StoreError>;

    /// Tenants that have announced a channel themselves: its work is their own workers'.
    async fn announcers(&self, kind: &ChannelKind) -> Result<Vec<TenantId>, StoreError>;

    /// A worker of a channel asked for work.
    async fn channel_seen(
        &self,
        tenant: Option<&TenantId>,
        kind: &ChannelKind,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// A tenant's lanes of one channel, the first due first, whether due or not.
    async fn lanes_of(
        &self,
        tenant: &TenantId,
        channel: &ChannelKind,
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError>;

    /// Of these leases those that still hold: the last ones handed out, with an attempt that runs.
    async fn held(
        &self,
        channel: &ChannelKind,
        leases: &[LeaseKey],
    ) -> Result<Vec<LeasedDelivery>, StoreError>;

    /// Makes leases that still hold end at `until`. Those whose attempt began before `oldest` are refused, and those of what
    /// was withdrawn or ended meanwhile. Answers which
    /// ones go on.
    async fn extend_leases(
        &self,
        held: &[Arc<LeasedDelivery>],
        oldest: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(TenantId, DeliveryId)>, StoreError>;

    /// Whose a delivery by email is: one relay sends for all tenants, and what comes back names none.
    async fn email_tenant(&self, id: DeliveryId) -> Result<Option<TenantId>, StoreError>;

    /// Notes news from the far end, in order. Answers one per item; none where there is no such delivery.
    async fn receive_news(
        &self,
        now: Timestamp,
        channel: &ChannelKind,
        news: &[News],
    ) -> Result<NewsNoted, StoreError>;
}

/// A row of `remote_channels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteChannelRow {
    /// Nobody: it serves all tenants.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) kind: ChannelKind,
    pub(crate) capabilities: Capabilities,
    /// Which forms it wants; none for all.
    pub(crate) forms: Option<Vec<FormName>>,
    pub(crate) seen_at: Option<Timestamp>,
    pub(crate) announced_at: Timestamp,
}

/// A template's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormName {
    /// An email's subject.
    Subject,
    /// Plain text.
    Text,
    /// HTML.
    Html,
    /// A push's short text.
    Short,
}

/// A delivery and the number of its attempt, which fences: it never comes again, whatever is redriven.
pub(crate) type LeaseKey = (TenantId, DeliveryId, u32);

/// News from the far end about one delivery.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) tenant: TenantId,
    pub(crate) about: About,
    pub(crate) says: Says,
}

/// Which delivery.
#[derive(Debug, Clone)]
pub(crate) enum About {
    /// By our id.
    Delivery(DeliveryId),
    /// By the far end's; of several the newest.
    Provider(String),
}

/// What it says.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// It arrived.
    Delivered,
    /// It was on a screen.
    Seen,
    /// The person read it.
    Read,
    /// The person followed its link.
    Clicked,
    /// The person put it away.
    Dismissed,
    /// The person did something about it.
    Acted,
    /// It will never arrive, and why.
    Failed(String),
    /// A mail server sent it back after it was taken.
    Bounced {
        /// Whether its address is dead: it is suppressed.
        hard: bool,
        /// The server's words.
        detail: Option<String>,
    },
    /// A mail server sent a copy back that went on to another mailbox: whose it was has it.
    CopyBounced {
        /// The server's words.
        detail: Option<String>,
    },
}

impl Says {
    /// The receipt's kind.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Seen => "seen",
            Self::Read => "read",
            Self::Clicked => "clicked",
            Self::Dismissed => "dismissed",
            Self::Acted => "acted",
            Self::Failed(_) | Self::Bounced { .. } | Self::CopyBounced { .. } => FAILED,
        }
    }

    /// What failed.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::Failed(reason) => Some(reason.clone()),
            Self::Bounced { detail, .. } | Self::CopyBounced { detail } => Some(match detail {
                None => "bounced".to_owned(),
                Some(detail) => format!("bounced: {detail}"),
            }),
            _ => None,
        }
    }
}

/// The kind of a receipt of what will never arrive.
const FAILED: &str = "failed";

/// What news came to.
#[derive(Debug, Default)]
pub(crate) struct NewsNoted {
    /// One per item.
    pub(crate) noted: Vec<Option<NotedDelivery>>,
    pub(crate) ended: Vec<Ended>,
}

/// The delivery that news was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotedDelivery {
    pub(crate) id: DeliveryId,
    /// None of an event.
    pub(crate) notification: Option<NotificationId>,
    pub(crate) user: Option<UserId>,
    /// The tenant's own id of the user.
    pub(crate) name: Option<ExternalUserId>,
    pub(crate) address: Address,
}
