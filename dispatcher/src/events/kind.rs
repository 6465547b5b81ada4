use std::{fmt, sync::Arc};

use carillon_domain::Invalid;
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EventKind {
    /// To a user's own endpoint alone: a notification for him.
    NotificationCreated,
    NotificationPlanned,
    NotificationCancelled,
    NotificationExpired,
    NotificationAcknowledged,
    DeliveryAccepted,
    DeliveryDelivered,
    DeliveryDead,
    DeliveryBounced,
    EndpointDisabled,
    /// A test that somebody asked for.
    WebhookTest,
}

impl EventKind {
    /// What a tenant's endpoint may ask for.
    pub(crate) const TOLD: [Self; 9] = [
        Self::NotificationPlanned,
        Self::NotificationCancelled,
        Self::NotificationExpired,
        Self::NotificationAcknowledged,
        Self::DeliveryAccepted,
        Self::DeliveryDelivered,
        Self::DeliveryDead,
        Self::DeliveryBounced,
        Self::EndpointDisabled,
    ];

    /// As written in bodies, filters and stores.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotificationCreated => "notification.created",
            Self::NotificationPlanned => "notification.planned",
            Self::NotificationCancelled => "notification.cancelled",
            Self::NotificationExpired => "notification.expired",
            Self::NotificationAcknowledged => "notification.acknowledged",
            Self::DeliveryAccepted => "delivery.accepted",
            Self::DeliveryDelivered => "delivery.delivered",
            Self::DeliveryDead => "delivery.dead",
            Self::DeliveryBounced => "delivery.bounced",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::WebhookTest => "webhook.test",
        }
    }
}

/// Which kinds an endpoint is told: one of them, or all that begin so (`delivery.*`, `*`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct EventFilter(Arc<str>);

impl EventFilter {
    /// A filter of a tenant's endpoint. One that nothing could ever match is refused.
    pub(crate) fn of_tenant(text: &str) -> Result<Self, Invalid> {
        let filter = Self(Arc::from(text));
        if EventKind::TOLD.into_iter().any(|kind| filter.matches(kind)) {
            Ok(filter)
        } else {
            Err(Invalid(
                "no event is called so: expected one of the kinds, or its beginning with a * behind it",
            ))
        }
    }

    /// The one filter of a user's endpoint.
    pub(crate) fn created() -> Self {
        Self(Arc::from(EventKind::NotificationCreated.as_str()))
    }

    /// Whether it asks for this kind.
    pub(crate) fn matches(&self, kind: EventKind) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => kind.as_str().starts_with(beginning),
            None => kind.as_str() == &*self.0,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_a_kind_or_for_all_that_begin_so() {
        let asks = |filter: &str, kind| EventFilter::of_tenant(filter).expect(filter).matches(kind);
        assert!(asks("*", EventKind::EndpointDisabled));
        assert!(asks("delivery.*", EventKind::DeliveryDead));
        assert!(asks("delivery.d*", EventKind::DeliveryDelivered));
        assert!(asks("delivery.dead", EventKind::DeliveryDead));
        assert!(!asks("delivery.*", EventKind::NotificationPlanned));
        assert!(!asks("delivery.dead", EventKind::DeliveryDelivered));
        for never in [
            "",
            "delivery",
            "delivery.",
            "deliver*y",
            "*.dead",
            "notification.created",
            "x*",
        ] {
            assert!(EventFilter::of_tenant(never).is_err(), "{never}");
        }
    }
}
