//! What news from the far end changes. Pure: rows in, rows out.

use std::borrow::Cow;

use carillon_domain::{
    Address, ChannelKind, DeliveryId, ExternalUserId, TenantId, Timestamp, UserId, ports::Operation,
};
use carillon_sql::StoreError;
use serde::{Deserialize, Serialize};

use super::{
    decide::{DeliveryChange, Effects, unchanged},
    records::{Brings, DeliveryState, Ended, SuppressionRow},
    remote::{NotedDelivery, Says},
    rows::delivery_state,
};
use crate::store::{
    ledger::encode,
    records::ReceiptRow,
    rows::{json, word},
};

/// What the far end told of a delivery before its attempt's outcome was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Early {
    /// It arrived.
    Arrived,
    /// It will never arrive, and why.
    Failed(String),
}

impl Early {
    pub(in crate::store) fn from_stored(text: &str) -> Option<Self> {
        match text.split_once(": ") {
            Some(("failed", reason)) => Some(Self::Failed(reason.to_owned())),
            _ if text == "delivered" => Some(Self::Arrived),
            _ => None,
        }
    }

    fn stored(failure: Option<&str>) -> String {
        match failure {
            None => "delivered".to_owned(),
            Some(reason) => format!("failed: {reason}"),
        }
    }
}

/// What the far end told of one delivery, the first of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FarReceipt {
    /// [`Says::kind`].
    pub(crate) kind: Cow<'static, str>,
    pub(crate) at: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The columns of [`ReceiptColumns`].
pub(in crate::store) const RECEIPT: &str =
    "tenant, id, notification, user_id, address, state, name, receipts";

/// Of the deliveries that the far end calls so (`$3`) the newest of those that it took, else that are being tried. A
/// replacement has the name of what it replaces before it went out itself: until then the name is not its own.
pub(in crate::store) const BY_PROVIDER: &str = "provider_id = $3 \
     AND (state IN ('accepted', 'delivered') OR EXISTS (SELECT 1 FROM attempts a \
     WHERE a.tenant = deliveries.tenant AND a.delivery = deliveries.id)) \
     ORDER BY CASE WHEN state IN ('accepted', 'delivered') OR EXISTS (SELECT 1 FROM attempts a \
     WHERE a.tenant = deliveries.tenant AND a.delivery = deliveries.id \
     AND a.outcome IN ('accepted', 'delivered')) THEN 0 ELSE 1 END, id DESC LIMIT 1";

/// What waits for another attempt (`$1`, `$2`) is looked at now (`$3`): it is known what became of it.
pub(in crate::store) const SOONER: &str = "UPDATE delivery_queue SET due_at = $3 WHERE tenant = $1 AND delivery = $2 \
     AND due_at > $3 AND operation <> 'recall' AND EXISTS (SELECT 1 FROM deliveries d \
     WHERE d.tenant = delivery_queue.tenant AND d.id = delivery_queue.delivery AND d.channel <> 'in_app' \
     AND d.news <> '') AND NOT EXISTS (SELECT 1 FROM attempts a \
     WHERE a.tenant = delivery_queue.tenant AND a.delivery = delivery_queue.delivery AND a.outcome IS NULL)";

/// Tenant, id, notification, user, address, state, the tenant's own id of the user, what was told before.
pub(in crate::store) type ReceiptColumns = (
    String,
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
);

/// A delivery that news is about.
#[derive(Debug, Clone)]
pub(in crate::store) struct Received {
    pub(in crate::store) tenant: TenantId,
    pub(in crate::store) id: DeliveryId,
    pub(in crate::store) brings: Brings,
    pub(in crate::store) user: Option<UserId>,
    pub(in crate::store) address: Address,
    pub(in crate::store) state: DeliveryState,
    pub(in crate::store) name: Option<ExternalUserId>,
    /// What was told before.
    pub(in crate::store) receipts: Vec<FarReceipt>,
}

pub(in crate::store) fn received(row: ReceiptColumns) -> Result<Received, StoreError> {
    let (tenant, id, brings, user, address, state, name, receipts) = row;
    Ok(Received {
        tenant: word(&tenant)?,
        id: word(&id)?,
        brings: word(&brings)?,
        user: if user.is_empty() { None } else { Some(word(&user)?) },
        address: word(&address)?,
        state: delivery_state(&state)?,
        name: name.as_deref().map(word).transpose()?,
        receipts: far_receipts(receipts.as_deref())?,
    })
}

/// What was told of a delivery, as it is stored.
pub(in crate::store) fn far_receipts(stored: Option<&str>) -> Result<Vec<FarReceipt>, StoreError> {
    stored.map_or(Ok(Vec::new()), json)
}

/// Adds what follows to the effects: what a provider took arrives, or fails after all. Nothing goes back. The first receipt
/// of each kind is kept.
pub(in crate::store) fn receive(
    effects: &mut Effects,
    now: Timestamp,
    channel: &ChannelKind,
    says: &Says,
    row: &Received,
) -> Result<NotedDelivery, StoreError> {
    let reason = says.reason();
    let key = (row.tenant.clone(), row.id);
    let of_copy = matches!(says, Says::CopyBounced { .. });
    let next = match (&reason, row.state) {
        _ if of_copy => None,
        (None, DeliveryState::Accepted) => Some(DeliveryState::Delivered),
        (Some(_), DeliveryState::Accepted | DeliveryState::Delivered) => Some(DeliveryState::Dead),
        _ => None,
    };
    // It overtook its attempt's own outcome, which is to come; of what was withdrawn as well.
    let early = !of_copy
        && matches!(
            row.state,
            DeliveryState::Pending | DeliveryState::Cancelled | DeliveryState::Superseded
        );
    let is_new = row.receipts.iter().all(|before| before.kind != says.kind());
    let receipts = if is_new {
        let mut receipts = row.receipts.clone();
        receipts.push(FarReceipt {
            kind: Cow::Borrowed(says.kind()),
            at: now,
            reason: reason.clone(),
        });
        Some(encode(&receipts)?)
    } else {
        None
    };
    if early || is_new || next.is_some() {
        effects.changes.push(DeliveryChange {
            state: next,
            reason: next.and(reason.clone()).map(Cow::Owned),
            news: early.then(|| Early::stored(reason.as_deref())),
            receipts,
            ..unchanged(key, next.map(|_| now))
        });
    }
    if let Some(state) = next {
        effects.ended.push(Ended {
            tenant: row.tenant.clone(),
            id: row.id,
            brings: row.brings,
            user: row.user,
            name: row.name.clone(),
            channel: channel.clone(),
            address: row.address.clone(),
            operation: Operation::Deliver,
            state,
            bounced: reason.is_some(),
            reason: reason.clone(),
            gone: false,
        });
    }
    if let Says::Bounced { hard: true, detail } = says {
        effects.suppressions.push(SuppressionRow {
            tenant: row.tenant.clone(),
            channel: channel.clone(),
            address: row.address.clone(),
            reason: Cow::Borrowed("bounced"),
            detail: detail.clone(),
            delivery: Some(row.id),
            at: now,
        });
    }
    let notification = match row.brings {
        Brings::Notification(id) => Some(id),
        Brings::Event(_) => None,
    };
    if let (Some(notification), Some(user), Some(_)) = (notification, row.user, &reason) {
        effects.receipts.push(ReceiptRow {
            tenant: row.tenant.clone(),
            notification,
            user,
            kind: says.kind(),
            at: now,
            device: None,
            channel: Some(channel.clone()),
        });
    }
    Ok(NotedDelivery {
        id: row.id,
        notification,
        user: row.user,
        name: row.name.clone(),
        address: row.address.clone(),
    })
}
