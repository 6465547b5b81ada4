//! What became of notifications, counted from the rows that say so.
//!
//! Nothing is written for it: notifications' ids go by time, and recipients, deliveries and receipts begin with them, so that
//! a window of time is a range of each key.

use async_trait::async_trait;
use carillon_domain::{Category, NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::rows::{number, word};

/// Which notifications are counted.
#[derive(Debug, Clone)]
pub(crate) struct CountedQuery {
    /// Accepted from then on.
    pub(crate) from: Timestamp,
    /// Accepted before then.
    pub(crate) to: Timestamp,
    /// This one alone, wherever it lies.
    pub(crate) only: Option<NotificationId>,
    /// After this one.
    pub(crate) after: Option<NotificationId>,
    pub(crate) limit: u32,
}

/// A notification to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CountedNotification {
    pub(crate) id: NotificationId,
    pub(crate) category: Category,
    /// How many recipients it has, about: a broadcast's are known, any other has its targets.
    pub(crate) recipients: u64,
}

/// What became of one notification's deliveries over one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CountedDeliveries {
    pub(crate) id: NotificationId,
    pub(crate) channel: String,
    /// The deliveries' state.
    pub(crate) state: String,
    pub(crate) count: u64,
    /// How many of them the far end told something of.
    pub(crate) told: u64,
    /// How many of them the far end told to have arrived.
    pub(crate) delivered: u64,
}

/// How many recipients told something of a notification over one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CountedReceipts {
    pub(crate) id: NotificationId,
    pub(crate) channel: String,
    pub(crate) kind: String,
    pub(crate) recipients: u64,
}

/// What a page of notifications came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) deliveries: Vec<CountedDeliveries>,
    pub(crate) receipts: Vec<CountedReceipts>,
}

/// What is counted of what is durable.
#[async_trait]
pub(crate) trait AnalyticsStore: Send + Sync + 'static {
    /// Notifications to count, the earliest first.
    async fn to_count(
        &self,
        tenant: &TenantId,
        query: &CountedQuery,
    ) -> Result<Vec<CountedNotification>, StoreError>;

    /// What became of these.
    async fn count(&self, tenant: &TenantId, ids: &[NotificationId]) -> Result<Counted, StoreError>;
}

/// The smallest id that a notification accepted then, or later, has. Ids know milliseconds: a time between two of them is
/// the later one, for the beginning of a window and for its end.
pub(super) fn from_then(at: Timestamp) -> String {
    let micros = u64::try_from(at.as_micros()).unwrap_or(0);
    let millis = micros.div_ceil(1_000);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    NotificationId::from_bytes(bytes).to_string()
}

/// What of deliveries is counted.
pub(super) const DELIVERIES: &str = "d.notification, d.channel, d.state, COUNT(*), COUNT(d.receipts), \
    COUNT(*) FILTER (WHERE d.receipts LIKE '%\"kind\":\"delivered\"%')";

/// The columns of [`DELIVERIES`].
pub(super) type DeliveryCounts = (String, String, String, i64, i64, i64);

pub(super) fn deliveries(row: DeliveryCounts) -> Result<CountedDeliveries, StoreError> {
    let (id, channel, state, count, told, delivered) = row;
    Ok(CountedDeliveries {
        id: word(&id)?,
        channel,
        state,
        count: number(count)?,
        told: number(told)?,
        delivered: number(delivered)?,
    })
}

/// Id, category, recipients.
pub(super) type ToCountColumns = (String, String, i64);

pub(super) fn to_count(row: ToCountColumns) -> Result<CountedNotification, StoreError> {
    let (id, category, recipients) = row;
    Ok(CountedNotification {
        id: word(&id)?,
        category: word(&category)?,
        recipients: number(recipients)?,
    })
}

/// Id, channel, kind, recipients.
pub(super) type ReceiptCounts = (String, String, String, i64);

pub(super) fn receipts(row: ReceiptCounts) -> Result<CountedReceipts, StoreError> {
    let (id, channel, kind, recipients) = row;
    Ok(CountedReceipts {
        id: word(&id)?,
        channel,
        kind,
        recipients: number(recipients)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_no_earlier_than_it_says() {
        let at = Timestamp::from_micros;
        assert_eq!(from_then(at(1_000)), from_then(at(1)));
        assert!(from_then(at(1_001)) > NotificationId::at(at(1_000)).to_string());
        assert!(from_then(at(1_000)) <= NotificationId::at(at(1_000)).to_string());
    }
}
