//! One line of a timeline.

use carillon_domain::{DeliveryId, DeviceId, DeviceName, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::store::{DeliveryDetail, NOWHERE, RecipientState};

/// What happened. In the order in which things of the same instant are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It was taken in.
    Accepted,
    /// What the recipient climbs was fixed.
    Planned,
    /// A step came to its end unanswered, and the next one starts.
    Escalated,
    /// What a step waited for is over.
    Released,
    /// A step's condition did not hold: the next one has its turn.
    Passed,
    /// A step, the inbox or an address was left out.
    Skipped,
    /// A frequency cap left no room.
    Capped,
    /// A step waits.
    Held,
    /// An alert waits in a digest.
    Gathered,
    /// An alert went out with a digest.
    Digested,
    /// It went out over a channel, or into the inbox.
    Sent,
    /// An attempt that brought nothing there, or is under way.
    Tried,
    /// A channel or a device has it.
    Delivered,
    /// It was on a screen.
    Seen,
    /// It was read.
    Read,
    /// Its link was followed.
    Clicked,
    /// It was put away.
    Dismissed,
    /// An action was taken.
    Acted,
    /// The far end says that it will never arrive.
    Failed,
    /// The ladder is over, something arrived, and nobody answered.
    Completed,
    /// Somebody answered: the ladder is over.
    Acknowledged,
    /// What a channel shows was taken back.
    Recalled,
    /// A newer notification took its place.
    Superseded,
    /// The sender took it back.
    Cancelled,
    /// Its time to live ended first.
    Expired,
    /// A delivery, or all of them, failed for good.
    Dead,
    /// The person was erased.
    Erased,
}

impl Kind {
    /// Of a receipt's word.
    pub(super) fn of_receipt(kind: &str) -> Option<Self> {
        Some(match kind {
            "delivered" => Self::Delivered,
            "seen" => Self::Seen,
            "read" => Self::Read,
            "clicked" => Self::Clicked,
            "dismissed" => Self::Dismissed,
            "acted" => Self::Acted,
            "failed" => Self::Failed,
            _ => return None,
        })
    }

    /// Of an end; none of what has not ended.
    pub(super) const fn of_state(state: RecipientState) -> Option<Self> {
        Some(match state {
            RecipientState::Open => return None,
            RecipientState::Acknowledged => Self::Acknowledged,
            RecipientState::Completed => Self::Completed,
            RecipientState::Superseded => Self::Superseded,
            RecipientState::Cancelled => Self::Cancelled,
            RecipientState::Expired => Self::Expired,
            RecipientState::Skipped => Self::Skipped,
            RecipientState::Dead => Self::Dead,
            RecipientState::Erased => Self::Erased,
        })
    }
}

/// One delivery: over which channel, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = WhyDelivery)]
pub(crate) struct Way {
    id: DeliveryId,
    pub(super) channel: String,
    /// Null where there was none.
    #[schema(required)]
    pub(super) address: Option<String>,
    /// The user's device that the address belongs to.
    #[schema(required)]
    device: Option<DeviceId>,
}

impl Way {
    pub(super) fn of(delivery: &DeliveryDetail) -> Self {
        let somewhere = delivery.address != NOWHERE && delivery.channel != "in_app";
        Self {
            id: delivery.id,
            channel: delivery.channel.clone(),
            address: somewhere.then(|| delivery.address.clone()),
            device: delivery.device,
        }
    }
}

/// One thing that was decided, tried or told.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = WhyEvent)]
pub(crate) struct Event {
    pub(crate) at: Timestamp,
    pub(crate) kind: Kind,
    /// The step of the plan that it is about, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<u32>,
    /// The delivery that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery: Option<Way>,
    /// Which attempt of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// The device that told, by the name that it gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) device: Option<DeviceName>,
    /// Why, typed: `reason` says which, and what belongs to it stands beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) why: Option<Map<String, Value>>,
    /// The same in plain words. Times are in UTC; steps count from 1.
    pub(crate) text: String,
}

impl Event {
    pub(super) fn new(at: Timestamp, kind: Kind, text: String) -> Self {
        Self {
            at,
            kind,
            step: None,
            delivery: None,
            attempt: None,
            device: None,
            why: None,
            text,
        }
    }

    pub(super) fn step(self, step: Option<u32>) -> Self {
        Self { step, ..self }
    }

    pub(super) fn about(self, delivery: &DeliveryDetail) -> Self {
        Self {
            step: Some(delivery.step),
            delivery: Some(Way::of(delivery)),
            ..self
        }
    }

    /// Adds a typed reason: its word, and what belongs to it.
    pub(super) fn because(self, reason: &str, more: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut why = Map::from_iter([("reason".to_owned(), Value::from(reason))]);
        why.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self {
            why: Some(why),
            ..self
        }
    }
}
