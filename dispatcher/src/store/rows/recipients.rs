//! Rows of recipients, their deliveries and receipts.

use carillon_domain::{DeviceName, PlainAddress, Position, Timestamp};
use carillon_sql::StoreError;

use super::{acknowledgement, corrupt, number, word};
use crate::store::records::{DeliveryDetail, ReceiptDetail, RecipientDetail, RecipientState};

/// User, state, reason, entry, the mailbox's epoch, seq, acknowledgement; a plain address's channel and address.
pub(in crate::store) type RecipientColumns = (
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
);

pub(in crate::store) fn recipient(row: RecipientColumns) -> Result<RecipientDetail, StoreError> {
    let (user, state, reason, entry, epoch, seq, acknowledged, channel, address) = row;
    let plain = match (channel, address) {
        (Some(channel), Some(address)) => Some(PlainAddress {
            channel: word(&channel)?,
            to: word(&address)?,
        }),
        _ => None,
    };
    let position = match (epoch, seq) {
        (Some(epoch), Some(seq)) => Some(Position {
            epoch: word(&epoch)?,
            seq: number(seq)?,
        }),
        _ => None,
    };
    Ok(RecipientDetail {
        user: word(&user)?,
        state: RecipientState::from_stored(&state).ok_or_else(|| corrupt("a recipient's state", &state))?,
        reason,
        entry: entry.as_deref().map(word).transpose()?,
        position,
        acknowledgement: acknowledgement(acknowledged.as_deref())?,
        plain,
        deliveries: Vec::new(),
        receipts: Vec::new(),
        confirmed: Vec::new(),
    })
}

/// Attempts that a recipient's detail shows of each delivery, at the most.
pub(in crate::store) const SHOWN_ATTEMPTS: i64 = 20;

/// The columns of [`delivery`]: of a delivery `d` and its work `q`.
pub(in crate::store) const DELIVERY: &str =
    "d.user_id, d.id, d.channel, d.address, d.state, d.reason, d.created_at, d.device, q.due_at";

pub(in crate::store) type DeliveryColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn delivery(row: DeliveryColumns) -> Result<DeliveryDetail, StoreError> {
    let (_, id, channel, address, state, reason, created, device, due) = row;
    let created_at = Timestamp::from_micros(created);
    Ok(DeliveryDetail {
        id: word(&id)?,
        channel,
        address,
        state,
        reason,
        device: device.as_deref().map(word).transpose()?,
        created_at,
        next_at: due.map(Timestamp::from_micros),
        attempts: Vec::new(),
    })
}

/// User, kind, time, device.
pub(in crate::store) type ReceiptColumns = (String, String, i64, Option<String>);

pub(in crate::store) fn receipt(row: ReceiptColumns) -> Result<ReceiptDetail, StoreError> {
    let (_, kind, at, device) = row;
    let device = device.as_deref().map(word).transpose()?;
    Ok(ReceiptDetail {
        kind,
        at: Timestamp::from_micros(at),
        device,
    })
}

/// User, device, time.
pub(in crate::store) type ConfirmedColumns = (String, String, i64);

pub(in crate::store) fn confirmed(row: ConfirmedColumns) -> Result<(DeviceName, Timestamp), StoreError> {
    let (_, device, at) = row;
    Ok((word(&device)?, Timestamp::from_micros(at)))
}
