//! Recipients of a notification with their deliveries and receipts: new rows, and how they are shown.

use carillon_domain::{
    Acknowledgement, DeliveryId, DeviceId, DeviceName, EntryId, NotificationId, PlainAddress, Position,
    TenantId, Timestamp, UserId,
};

use crate::store::outside::AttemptDetail;

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
