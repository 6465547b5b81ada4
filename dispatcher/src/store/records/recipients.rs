//! Recipients of a notification with their deliveries and receipts: new rows, and how they are shown.

use carillon_domain::{
    Acknowledgement, ChannelKind, DeliveryId, DeviceId, DeviceName, EntryId, NotificationId, PlainAddress,
    Position, TenantId, Timestamp, UserId,
};

use crate::store::{
    ladder::DecisionDetail,
    outside::{AttemptDetail, FarReceipt},
};

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
    /// Of an open one.
    pub(crate) phase: Option<RecipientPhase>,
    /// The step of the plan that it stands in, from 0.
    pub(crate) step: Option<u32>,
    /// Since when it stands in that step.
    pub(crate) step_at: Option<Timestamp>,
    /// Whether it took its place in the frequency caps.
    pub(crate) counted: bool,
}

/// What an open recipient is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecipientPhase {
    /// It stands in a step of its plan.
    Climbing,
    /// Its next step waits: quiet hours, a throttle, a device that is active.
    Held,
    /// Its time has not come.
    Scheduled,
}

impl RecipientPhase {
    pub(crate) const ALL: [Self; 3] = [Self::Climbing, Self::Held, Self::Scheduled];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Climbing => "climbing",
            Self::Held => "held",
            Self::Scheduled => "scheduled",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}

/// Where a notification stands for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecipientState {
    /// It climbs its plan, unanswered.
    Open,
    /// Answered.
    Acknowledged,
    /// It was sent, its plan or its time came to an end, and nobody answered.
    Completed,
    /// Another notification took its place.
    Superseded,
    /// Its sender took it back.
    Cancelled,
    /// Its time was over before anything was sent.
    Expired,
    /// Nothing was to be sent: no address, a preference, a cap.
    Skipped,
    /// Everything that was sent failed for good.
    Dead,
    /// The person was erased.
    Erased,
}

impl RecipientState {
    pub(crate) const ALL: [Self; 9] = [
        Self::Open,
        Self::Acknowledged,
        Self::Completed,
        Self::Superseded,
        Self::Cancelled,
        Self::Expired,
        Self::Skipped,
        Self::Dead,
        Self::Erased,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Completed => "completed",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
            Self::Erased => "erased",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
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
    /// The step of the plan that it belongs to.
    pub(crate) step: u32,
    pub(crate) id: DeliveryId,
    pub(crate) created_at: Timestamp,
}

/// A row of `receipts`, new unless its kind is there of the same channel and device.
#[derive(Debug, Clone)]
pub(crate) struct ReceiptRow {
    pub(crate) tenant: TenantId,
    pub(crate) notification: NotificationId,
    pub(crate) user: UserId,
    pub(crate) kind: &'static str,
    pub(crate) at: Timestamp,
    pub(crate) device: Option<DeviceName>,
    /// Over which channel it came; none from the inbox.
    pub(crate) channel: Option<ChannelKind>,
}

impl ReceiptRow {
    pub(crate) fn channel(&self) -> &str {
        self.channel
            .as_ref()
            .map_or(ChannelKind::IN_APP, ChannelKind::as_str)
    }
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
    /// Of an open one.
    pub(crate) phase: Option<RecipientPhase>,
    pub(crate) step: Option<u32>,
    pub(crate) step_at: Option<Timestamp>,
    /// When something is due of it next: a deadline, the end of a hold.
    pub(crate) next_at: Option<Timestamp>,
    /// What was decided about it beside plainly sending, in order.
    pub(crate) decisions: Vec<DecisionDetail>,
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
    /// The step of the plan that it belongs to.
    pub(crate) step: u32,
    pub(crate) channel: String,
    pub(crate) address: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) created_at: Timestamp,
    /// When it ended, outside the inbox.
    pub(crate) ended_at: Option<Timestamp>,
    /// When the next attempt may begin.
    pub(crate) next_at: Option<Timestamp>,
    /// The latest ones, in order.
    pub(crate) attempts: Vec<AttemptDetail>,
    /// What the far end told, in order.
    pub(crate) receipts: Vec<FarReceipt>,
    /// The digest that it went out with.
    pub(crate) digest: Option<NotificationId>,
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
    /// Over which channel it came.
    pub(crate) channel: String,
    pub(crate) at: Timestamp,
    pub(crate) device: Option<DeviceName>,
}
