//! Rows of recipients, their deliveries and receipts.

use carillon_domain::{DeviceName, NotificationId, PlainAddress, Position, Timestamp};
use carillon_sql::StoreError;

use super::{acknowledgement, corrupt, number, word};
use crate::store::{
    apply::Shown,
    ladder::{DecisionDetail, RecipientCount},
    outside::{far_receipts, small},
    records::{DeliveryDetail, ReceiptDetail, RecipientDetail, RecipientPhase, RecipientState, UserKey},
};

/// The columns of [`shown`]: of a recipient `r` and the entry `e` that shows its notification.
pub(in crate::store) const SHOWN: &str =
    "r.tenant, r.user_id, r.notification, e.id, r.entry, r.state, r.channel, r.address";

pub(in crate::store) type ShownColumns = (
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
);

/// Whose notification, and where it is shown to him.
pub(in crate::store) fn shown(row: ShownColumns) -> Result<((UserKey, NotificationId), Shown), StoreError> {
    let (tenant, user, notification, open, entry, state, channel, address) = row;
    let shown = match (open, entry) {
        (Some(open), _) => Shown::Entry(word(&open)?),
        (None, Some(_)) => Shown::Gone,
        (None, None) => Shown::Outside {
            state: recipient_state(&state)?,
            plain: plain_address(channel, address)?,
            receipts: Vec::new(),
            answered: false,
        },
    };
    Ok((((word(&tenant)?, word(&user)?), word(&notification)?), shown))
}

/// The columns of [`recipient`]: of a recipient `r`, its user's mailbox `m` and its climb `c`.
pub(in crate::store) const RECIPIENT: &str = "r.user_id, r.state, r.reason, r.entry, m.epoch, r.acknowledgement, r.channel, \
    r.address, r.phase, r.seq, r.step, r.step_at, c.due_at";

/// User, state; reason, entry, the mailbox's epoch, acknowledgement, a plain address's channel and address, phase; seq,
/// step, since when, what is due when.
pub(in crate::store) type RecipientColumns = (
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

pub(in crate::store) fn recipient(row: RecipientColumns) -> Result<RecipientDetail, StoreError> {
    let (user, state, reason, entry, epoch, acknowledged, channel, address, phase, seq, step, step_at, due) =
        row;
    let position = match (epoch, seq) {
        (Some(epoch), Some(seq)) => Some(Position {
            epoch: word(&epoch)?,
            seq: number(seq)?,
        }),
        _ => None,
    };
    Ok(RecipientDetail {
        user: word(&user)?,
        state: recipient_state(&state)?,
        reason,
        entry: entry.as_deref().map(word).transpose()?,
        position,
        acknowledgement: acknowledgement(acknowledged.as_deref())?,
        plain: plain_address(channel, address)?,
        phase: phase.as_deref().map(recipient_phase).transpose()?,
        step: step.map(small).transpose()?,
        step_at: step_at.map(Timestamp::from_micros),
        next_at: due.map(Timestamp::from_micros),
        decisions: Vec::new(),
        deliveries: Vec::new(),
        receipts: Vec::new(),
        confirmed: Vec::new(),
    })
}

/// A plain address, where a recipient is one.
pub(in crate::store) fn plain_address(
    channel: Option<String>,
    address: Option<String>,
) -> Result<Option<PlainAddress>, StoreError> {
    Ok(match (channel, address) {
        (Some(channel), Some(address)) => Some(PlainAddress {
            channel: word(&channel)?,
            to: word(&address)?,
        }),
        _ => None,
    })
}

pub(in crate::store) fn recipient_state(text: &str) -> Result<RecipientState, StoreError> {
    RecipientState::from_stored(text).ok_or_else(|| corrupt("a recipient's state", text))
}

pub(in crate::store) fn recipient_phase(text: &str) -> Result<RecipientPhase, StoreError> {
    RecipientPhase::from_stored(text).ok_or_else(|| corrupt("a recipient's phase", text))
}

/// User, when, kind, step, body.
pub(in crate::store) type DecisionColumns = (String, i64, String, Option<i64>, String);

pub(in crate::store) fn decision(row: DecisionColumns) -> Result<DecisionDetail, StoreError> {
    let (_, at, kind, step, body) = row;
    Ok(DecisionDetail {
        at: Timestamp::from_micros(at),
        kind,
        step: step.map(small).transpose()?,
        body,
    })
}

/// State, phase, how many.
pub(in crate::store) type CountColumns = (String, Option<String>, i64);

pub(in crate::store) fn recipient_count(row: CountColumns) -> Result<RecipientCount, StoreError> {
    let (state, phase, count) = row;
    Ok(RecipientCount {
        state: recipient_state(&state)?,
        phase: phase.as_deref().map(recipient_phase).transpose()?,
        count: number(count)?,
    })
}

/// Attempts that a recipient's detail shows of each delivery, at the most.
pub(in crate::store) const SHOWN_ATTEMPTS: i64 = 20;

/// The columns of [`delivery`]: of a delivery `d` and its work `q`.
pub(in crate::store) const DELIVERY: &str = "d.user_id, d.id, d.channel, d.address, d.state, d.reason, d.created_at, d.device, q.due_at, d.step, \
     d.receipts, d.digest, d.ended_at";

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
    i64,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn delivery(row: DeliveryColumns) -> Result<DeliveryDetail, StoreError> {
    let (_, id, channel, address, state, reason, created, device, due, step, receipts, digest, ended) = row;
    let created_at = Timestamp::from_micros(created);
    Ok(DeliveryDetail {
        id: word(&id)?,
        step: small(step)?,
        channel,
        address,
        state,
        reason,
        device: device.as_deref().map(word).transpose()?,
        created_at,
        ended_at: ended.map(Timestamp::from_micros),
        next_at: due.map(Timestamp::from_micros),
        attempts: Vec::new(),
        receipts: far_receipts(receipts.as_deref())?,
        digest: digest.as_deref().map(word).transpose()?,
    })
}

/// User, kind, time, device or nothing, channel.
pub(in crate::store) type ReceiptColumns = (String, String, i64, String, String);

pub(in crate::store) fn receipt(row: ReceiptColumns) -> Result<ReceiptDetail, StoreError> {
    let (_, kind, at, device, channel) = row;
    let device = if device.is_empty() {
        None
    } else {
        Some(word(&device)?)
    };
    Ok(ReceiptDetail {
        kind,
        channel,
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
