//! What news from the far end changes. Pure: rows in, rows out.

use std::borrow::Cow;

use carillon_domain::{Address, ChannelKind, DeliveryId, TenantId, Timestamp, UserId, ports::Operation};
use carillon_sql::StoreError;

use super::{
    decide::{DeliveryChange, Effects, unchanged},
    records::{Brings, DeliveryState, Ended},
    remote::{NotedDelivery, Says},
    rows::delivery_state,
};
use crate::store::rows::word;

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

    fn stored(says: &Says) -> String {
        match says {
            Says::Arrived => "delivered".to_owned(),
            Says::Failed(reason) => format!("failed: {reason}"),
        }
    }
}

/// Tenant, id, notification, user, address, state.
pub(in crate::store) type ReceiptColumns = (String, String, String, String, String, String);

/// A delivery that news is about.
#[derive(Debug, Clone)]
pub(in crate::store) struct Received {
    pub(in crate::store) tenant: TenantId,
    pub(in crate::store) id: DeliveryId,
    pub(in crate::store) brings: Brings,
    pub(in crate::store) user: Option<UserId>,
    pub(in crate::store) address: Address,
    pub(in crate::store) state: DeliveryState,
}

pub(in crate::store) fn received(row: ReceiptColumns) -> Result<Received, StoreError> {
    let (tenant, id, brings, user, address, state) = row;
    Ok(Received {
        tenant: word(&tenant)?,
        id: word(&id)?,
        brings: word(&brings)?,
        user: if user.is_empty() { None } else { Some(word(&user)?) },
        address: word(&address)?,
        state: delivery_state(&state)?,
    })
}

/// Adds what follows to the effects: what a provider took arrives, or fails after all. Nothing goes back.
pub(in crate::store) fn receive(
    effects: &mut Effects,
    now: Timestamp,
    channel: &ChannelKind,
    says: &Says,
    row: &Received,
) -> NotedDelivery {
    let next = match (says, row.state) {
        (Says::Arrived, DeliveryState::Accepted) => Some((DeliveryState::Delivered, None)),
        (Says::Failed(reason), DeliveryState::Accepted | DeliveryState::Delivered) => {
            Some((DeliveryState::Dead, Some(reason.clone())))
        }
        _ => None,
    };
    if row.state == DeliveryState::Pending {
        // It overtook the attempt's own outcome, which is to come.
        effects.changes.push(DeliveryChange {
            news: Some(Early::stored(says)),
            ..unchanged((row.tenant.clone(), row.id), None)
        });
    }
    if let Some((state, reason)) = next {
        effects.changes.push(DeliveryChange {
            state: Some(state),
            reason: reason.clone().map(Cow::Owned),
            ..unchanged((row.tenant.clone(), row.id), Some(now))
        });
        effects.ended.push(Ended {
            tenant: row.tenant.clone(),
            id: row.id,
            brings: row.brings,
            user: row.user,
            channel: channel.clone(),
            address: row.address.clone(),
            operation: Operation::Deliver,
            state,
            reason,
            gone: false,
            bounced: matches!(says, Says::Failed(_)),
        });
    }
    NotedDelivery {
        id: row.id,
        notification: match row.brings {
            Brings::Notification(id) => Some(id),
            Brings::Event(_) => None,
        },
        user: row.user,
    }
}
