//! What follows, in the same transaction, of deliveries that ended. Pure: rows in, rows out.

use carillon_domain::{Address, ChannelKind, DeliveryId, EndpointId, NotificationId, Timestamp};
use serde::Serialize;

use super::{
    decide::Effects,
    receipt::Received,
    records::{Brings, DeliveryState, Ended, Settlement, Verdict},
};
use crate::{
    events::EventKind,
    store::listeners::{Listeners, Told},
};

/// What settling these may tell; cautious, since their deliveries are not looked at yet.
pub(in crate::store) fn may_follow(settlements: &[Settlement]) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    for settlement in settlements {
        let may: &[EventKind] = match settlement.verdict {
            Verdict::Done { accepted: true } => &[EventKind::DeliveryAccepted],
            Verdict::Done { accepted: false } => &[EventKind::DeliveryDelivered],
            Verdict::Skipped | Verdict::Unsent => &[],
            Verdict::Again(_) | Verdict::Dead | Verdict::Gone => {
                &[EventKind::DeliveryDead, EventKind::EndpointDisabled]
            }
        };
        kinds.extend(may.iter().filter(|_| {
            let of_notification = matches!(settlement.delivery.brings, Brings::Notification(_));
            of_notification || settlement.delivery.address.as_str().parse::<EndpointId>().is_ok()
        }));
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

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

/// Tells that an email came back after a server took it; its delivery's state stays what it is.
pub(in crate::store) fn tell_bounce(
    now: Timestamp,
    listeners: &Listeners,
    channel: &ChannelKind,
    row: &Received,
    reason: &str,
) -> Told {
    let mut told = Told::default();
    if let Brings::Notification(notification_id) = row.brings {
        let data = DeliveryEnd {
            delivery_id: row.id,
            notification_id,
            channel,
            address: &row.address,
            state: row.state,
            reason: Some(reason),
        };
        listeners.tell(
            &mut told,
            now,
            &row.tenant,
            EventKind::DeliveryBounced,
            &data,
            None,
        );
    }
    told
}

fn kind_of(end: &Ended) -> Option<EventKind> {
    match end.state {
        _ if end.bounced => Some(EventKind::DeliveryBounced),
        DeliveryState::Accepted => Some(EventKind::DeliveryAccepted),
        DeliveryState::Delivered => Some(EventKind::DeliveryDelivered),
        DeliveryState::Dead => Some(EventKind::DeliveryDead),
        _ => None,
    }
}
