//! Counts are summed here. Pure.

use std::collections::{BTreeMap, HashMap};

use carillon_domain::{Category, NotificationId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::analytics::{Counted, CountedNotification};

const HOUR: i64 = 3_600_000_000;

/// By what it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupBy {
    pub(crate) hour: bool,
    pub(crate) category: bool,
    pub(crate) channel: bool,
    pub(crate) notification: bool,
}

impl GroupBy {
    /// From words with commas between them; none where one of them is unknown.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut by = Self {
            hour: false,
            category: false,
            channel: false,
            notification: false,
        };
        for word in text.split(',') {
            match word {
                "hour" => by.hour = true,
                "category" => by.category = true,
                "channel" => by.channel = true,
                "notification" => by.notification = true,
                _ => return None,
            }
        }
        Some(by)
    }

    fn key(self, notification: &CountedNotification, channel: &str) -> Key {
        Key {
            hour: self.hour.then(|| hour_of(notification.id)),
            notification: self.notification.then_some(notification.id),
            category: self.category.then(|| notification.category.clone()),
            channel: self.channel.then(|| channel.to_owned()),
        }
    }
}

impl Default for GroupBy {
    fn default() -> Self {
        Self {
            hour: true,
            category: true,
            channel: true,
            notification: false,
        }
    }
}

/// What a count is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) hour: Option<Timestamp>,
    pub(crate) notification: Option<NotificationId>,
    pub(crate) category: Option<Category>,
    pub(crate) channel: Option<String>,
}

/// What became of deliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AnalyticsCounts)]
pub(crate) struct Totals {
    /// All there are, sent or not.
    deliveries: u64,
    /// Waiting for an attempt or in a digest, or being tried.
    pending: u64,
    /// Went out with a digest, whose own delivery is counted beside them.
    digested: u64,
    /// Taken: by the inbox, or by a channel's provider.
    accepted: u64,
    /// A device or the far end has it.
    delivered: u64,
    /// Recipients who saw it there; who did so over several channels counts for each of them.
    seen: u64,
    /// Recipients who read it.
    read: u64,
    /// Recipients who followed its link.
    clicked: u64,
    /// Recipients who put it away.
    dismissed: u64,
    /// Recipients who took an action.
    acted: u64,
    /// Left out: no address, a preference, a cap, suppressed.
    skipped: u64,
    /// Not sent, since it was cancelled or answered first.
    cancelled: u64,
    /// Not sent, since a newer one took its place.
    superseded: u64,
    /// Taken back where it was.
    recalled: u64,
    /// Given up.
    dead: u64,
}

/// Adds what became of a page of notifications.
pub(crate) fn add(
    totals: &mut BTreeMap<Key, Totals>,
    by: GroupBy,
    channel: Option<&str>,
    page: &[CountedNotification],
    counted: &Counted,
) {
    let known: HashMap<NotificationId, &CountedNotification> = page
        .iter()
        .map(|notification| (notification.id, notification))
        .collect();
    let wanted = |of: &str| channel.is_none_or(|channel| channel == of);
    for row in counted.deliveries.iter().filter(|row| wanted(&row.channel)) {
        let Some(notification) = known.get(&row.id) else {
            continue;
        };
        let sum = totals.entry(by.key(notification, &row.channel)).or_default();
        sum.deliveries += row.count;
        let state = match row.state.as_str() {
            "pending" | "gathered" => &mut sum.pending,
            "digested" => &mut sum.digested,
            "accepted" => &mut sum.accepted,
            "skipped" => &mut sum.skipped,
            "cancelled" => &mut sum.cancelled,
            "superseded" => &mut sum.superseded,
            "recalled" => {
                sum.recalled += row.count;
                sum.delivered += row.delivered;
                &mut sum.accepted
            }
            "dead" => {
                // What came back after it was taken was taken.
                sum.accepted += row.told;
                sum.delivered += row.delivered;
                &mut sum.dead
            }
            "delivered" => {
                sum.delivered += row.count;
                &mut sum.accepted
            }
            // What another version wrote is of no kind that is known here.
            _ => continue,
        };
        *state += row.count;
    }
    for row in counted.receipts.iter().filter(|row| wanted(&row.channel)) {
        let Some(notification) = known.get(&row.id) else {
            continue;
        };
        let sum = totals.entry(by.key(notification, &row.channel)).or_default();
        let of = match row.kind.as_str() {
            "delivered" => &mut sum.delivered,
            "seen" => &mut sum.seen,
            "read" => &mut sum.read,
            "clicked" => &mut sum.clicked,
            "dismissed" => &mut sum.dismissed,
            "acted" => &mut sum.acted,
            _ => continue,
        };
        *of += row.recipients;
    }
}

/// The hour in which it was accepted, which its id says.
fn hour_of(id: NotificationId) -> Timestamp {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.as_uuid().as_bytes()[..6]);
    let micros = i64::try_from(u64::from_be_bytes(millis))
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000);
    Timestamp::from_micros(micros - micros.rem_euclid(HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        analytics::{CountedDeliveries, CountedReceipts},
        outside::DeliveryState,
    };

    fn notification(at: &str) -> CountedNotification {
        CountedNotification {
            id: NotificationId::at(Timestamp::parse(at).expect("a time")),
            category: "news".parse().expect("a category"),
            recipients: 1,
        }
    }

    fn of(id: NotificationId, channel: &str, state: &str, count: u64) -> CountedDeliveries {
        CountedDeliveries {
            id,
            channel: channel.to_owned(),
            state: state.to_owned(),
            count,
            told: 0,
            delivered: 0,
        }
    }

    #[test]
    fn the_hour_is_the_one_in_which_it_was_accepted() {
        let hour = hour_of(notification("2026-11-21T22:59:59.999Z").id);
        assert_eq!(hour.to_string(), "2026-11-21T22:00:00.000000Z");
        let hour = hour_of(notification("2026-11-21T23:00:00Z").id);
        assert_eq!(hour.to_string(), "2026-11-21T23:00:00.000000Z");
    }

    #[test]
    fn what_waits_in_a_digest_or_went_out_with_one_was_not_taken() {
        let one = notification("2026-11-21T22:10:00Z");
        let counted = Counted {
            deliveries: vec![
                of(one.id, "email", "gathered", 5),
                of(one.id, "email", "digested", 3),
                of(one.id, "email", "accepted", 1),
                of(one.id, "email", "of another version", 1),
            ],
            receipts: Vec::new(),
        };
        let mut totals = BTreeMap::new();
        add(&mut totals, GroupBy::default(), None, &[one], &counted);
        let expected = Totals {
            deliveries: 10,
            pending: 5,
            digested: 3,
            accepted: 1,
            ..Totals::default()
        };
        assert_eq!(totals.into_values().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn every_known_state_is_counted_in_one_column() {
        let one = notification("2026-11-21T22:10:00Z");
        for state in DeliveryState::ALL {
            let counted = Counted {
                deliveries: vec![of(one.id, "email", state.as_str(), 1)],
                receipts: Vec::new(),
            };
            let mut totals = BTreeMap::new();
            add(
                &mut totals,
                GroupBy::default(),
                None,
                std::slice::from_ref(&one),
                &counted,
            );
            let sum = totals.into_values().next().expect("counted");
            let columns = sum.pending + sum.digested + sum.accepted + sum.skipped + sum.cancelled;
            // What was taken back was taken.
            assert_eq!(columns + sum.superseded + sum.dead, 1, "{state:?}");
        }
    }

    #[test]
    fn every_state_is_counted_once_and_what_arrived_was_taken_first() {
        let one = notification("2026-11-21T22:10:00Z");
        let mut bounced = of(one.id, "email", "dead", 3);
        bounced.told = 1;
        let mut far = of(one.id, "email", "delivered", 2);
        far.delivered = 1;
        let counted = Counted {
            deliveries: vec![
                of(one.id, "in_app", "accepted", 5),
                bounced,
                far,
                of(one.id, "email", "pending", 4),
                of(one.id, "email", "skipped", 6),
            ],
            receipts: [
                ("in_app", "delivered", 3),
                ("email", "read", 1),
                ("email", "failed", 1),
            ]
            .map(|(channel, kind, recipients)| CountedReceipts {
                id: one.id,
                channel: channel.to_owned(),
                kind: kind.to_owned(),
                recipients,
            })
            .to_vec(),
        };
        let mut totals = BTreeMap::new();
        let page = [one];
        add(&mut totals, GroupBy::default(), None, &page, &counted);
        let of = |channel: &str| {
            *totals
                .iter()
                .find(|(key, _)| key.channel.as_deref() == Some(channel))
                .expect("counted")
                .1
        };
        let email = Totals {
            deliveries: 15,
            pending: 4,
            accepted: 3,
            delivered: 2,
            read: 1,
            skipped: 6,
            dead: 3,
            ..Totals::default()
        };
        assert_eq!(of("email"), email);
        let in_app = Totals {
            deliveries: 5,
            accepted: 5,
            delivered: 3,
            ..Totals::default()
        };
        assert_eq!(of("in_app"), in_app);
        let mut only = BTreeMap::new();
        let by = GroupBy::parse("hour").expect("a word");
        add(&mut only, by, Some("email"), &page, &counted);
        assert_eq!(only.into_values().collect::<Vec<_>>(), [email]);
        assert_eq!(GroupBy::parse("hour,minute"), None);
    }
}
