//! What follows, in the same transaction, of deliveries that ended. Pure: rows in, rows out.

use carillon_domain::{Address, ChannelKind, DeliveryId, EndpointId, NotificationId, Timestamp};
use serde::Serialize;

use super::{
    decide::Effects,
    records::{Brings, DeliveryState, Ended},
};
use crate::{events::EventKind, store::listeners::Listeners};

/// What an end of a delivery may tell.
pub(in crate::store) const ENDS: [EventKind; 4] = [
    EventKind::DeliveryAccepted,
    EventKind::DeliveryDelivered,
    EventKind::DeliveryDead,
    EventKind::EndpointDisabled,
];

#[derive(Serialize)]
struct DeliveryEnd<'a> {
    delivery_id: DeliveryId,
    notification_id: NotificationId,
    channel: &'a ChannelKind,
    address: &'a Address,
    state: DeliveryState,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct EndpointEnd<'a> {
    endpoint_id: EndpointId,
    reason: &'a str,
}

/// Adds what follows to the effects. Both databases call it once per transaction that ends deliveries, before they
/// write; what it adds is written with the rest. Of an event nothing follows, so that no endpoint is told of itself.
pub(in crate::store) fn follow(effects: &mut Effects, now: Timestamp, listeners: &Listeners) {
    let mut told = std::mem::take(&mut effects.told);
    for end in &effects.ended {
        let (Brings::Notification(notification_id), Some(kind)) = (end.brings, kind_of(end)) else {
            continue;
        };
        let data = DeliveryEnd {
            delivery_id: end.id,
            notification_id,
            channel: &end.channel,
            address: &end.address,
            state: end.state,
            reason: end.reason.as_deref(),
        };
        listeners.tell(&mut told, now, &end.tenant, kind, &data, None);
    }
    for ((tenant, endpoint), reason) in &effects.disabled {
        let data = EndpointEnd {
            endpoint_id: *endpoint,
            reason,
        };
        let kind = EventKind::EndpointDisabled;
        listeners.tell(&mut told, now, tenant, kind, &data, Some(*endpoint));
    }
    effects.told = told;
}

fn kind_of(end: &Ended) -> Option<EventKind> {
    match end.state {
        DeliveryState::Accepted => Some(EventKind::DeliveryAccepted),
        DeliveryState::Delivered => Some(EventKind::DeliveryDelivered),
        DeliveryState::Dead => Some(EventKind::DeliveryDead),
        _ => None,
    }
}
