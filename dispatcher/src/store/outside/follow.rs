//! What follows, in the same transaction, of deliveries that ended. Pure: rows in, rows out.

use carillon_domain::{
    Address, ChannelKind, DeliveryId, EndpointId, ExternalUserId, NotificationId, Timestamp,
};
use serde::Serialize;

use super::{
    decide::Effects,
    disabled::tell_disabled,
    records::{Brings, DeliveryState, Ended, Settlement, Verdict},
};
use crate::{events::EventKind, store::listeners::Listeners};

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
    /// The tenant's own id of the user; a plain address has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a ExternalUserId>,
    channel: &'a ChannelKind,
    address: &'a Address,
    state: DeliveryState,
    reason: Option<&'a str>,
}

/// Adds what follows to the effects. Both databases call it once per transaction that ends deliveries, before they
/// write; what it adds is written with the rest. Of an event nothing follows, so that no endpoint is told of itself.
pub(in crate::store) fn follow(effects: &mut Effects, now: Timestamp, listeners: &Listeners) {
    let mut told = std::mem::take(&mut effects.told);
    for end in &effects.ended {
        let Brings::Notification(notification_id) = end.brings else {
            continue;
        };
        let data = DeliveryEnd {
            delivery_id: end.id,
            notification_id,
            user: end.name.as_ref(),
            channel: &end.channel,
            address: &end.address,
            state: end.state,
            reason: end.reason.as_deref(),
        };
        for kind in kinds_of(end) {
            listeners.tell(&mut told, now, &end.tenant, *kind, &data, None);
        }
    }
    for ((tenant, endpoint), reason) in &effects.disabled {
        tell_disabled(&mut told, now, listeners, (tenant, *endpoint), reason);
    }
    effects.told = told;
}

/// What is told of an end. What came back is dead as well, for those who ask for what is lost, however that came about.
fn kinds_of(end: &Ended) -> &'static [EventKind] {
    match end.state {
        _ if end.bounced => &[EventKind::DeliveryBounced, EventKind::DeliveryDead],
        DeliveryState::Accepted => &[EventKind::DeliveryAccepted],
        DeliveryState::Delivered => &[EventKind::DeliveryDelivered],
        DeliveryState::Dead => &[EventKind::DeliveryDead],
        _ => &[],
    }
}
