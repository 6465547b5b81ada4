//! Deliveries, attempts, suppressions, redrives and remote channels as they are shown.

use std::borrow::Cow;

use carillon_domain::{DeliveryId, Timestamp};
use carillon_sql::StoreError;

use super::{delivery_state, small, time};
use crate::store::{
    outside::{
        records::{AttemptDetail, OutsideDetail, RedriveRow, SuppressionRow},
        remote::RemoteChannelRow,
    },
    rows::{json, number, word},
};

/// The columns of [`outside_detail`]: of a delivery `d`.
pub(in crate::store) const DETAIL: &str = "d.id, d.notification, d.user_id, d.channel, d.address, d.lane, d.state, \
    d.reason, d.outcome, (SELECT COUNT(*) FROM attempts a WHERE a.tenant = d.tenant AND a.delivery = d.id), \
    d.created_at, d.expires_at, d.ended_at";

pub(in crate::store) type DetailColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
);

pub(in crate::store) fn outside_detail(row: DetailColumns) -> Result<OutsideDetail, StoreError> {
    let (id, brings, user, channel, address, lane, state, reason, outcome, attempts, created, expires, ended) =
        row;
    Ok(OutsideDetail {
        id: word(&id)?,
        brings: word(&brings)?,
        user: if user.is_empty() { None } else { Some(word(&user)?) },
        channel: word(&channel)?,
        address,
        lane,
        state: delivery_state(&state)?,
        reason,
        outcome,
        attempts: small(attempts)?,
        created_at: Timestamp::from_micros(created),
        expires_at: time(expires),
        ended_at: time(ended),
        next_at: None,
    })
}

pub(in crate::store) type AttemptColumns = (
    i64,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn attempt(row: AttemptColumns) -> Result<AttemptDetail, StoreError> {
    let (number, operation, started, ended, outcome, status, reason, excerpt, next) = row;
    Ok(AttemptDetail {
        number: small(number)?,
        operation,
        started_at: Timestamp::from_micros(started),
        ended_at: time(ended),
        outcome,
        status: status.and_then(|status| u16::try_from(status).ok()),
        reason,
        excerpt,
        next_at: time(next),
    })
}

/// [`AttemptColumns`] behind their delivery's id.
pub(in crate::store) type AttemptOfColumns = (
    String,
    i64,
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(in crate::store) fn attempt_of(row: AttemptOfColumns) -> Result<(DeliveryId, AttemptDetail), StoreError> {
    let (delivery, number, operation, started, ended, outcome, status, reason, excerpt, next) = row;
    let row = (
        number, operation, started, ended, outcome, status, reason, excerpt, next,
    );
    Ok((word(&delivery)?, attempt(row)?))
}

pub(in crate::store) type SuppressionColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
);

pub(in crate::store) fn suppression(row: SuppressionColumns) -> Result<SuppressionRow, StoreError> {
    let (tenant, channel, address, reason, detail, delivery, at) = row;
    Ok(SuppressionRow {
        tenant: word(&tenant)?,
        channel: word(&channel)?,
        address: word(&address)?,
        reason: Cow::Owned(reason),
        detail,
        delivery: delivery.as_deref().map(word).transpose()?,
        at: Timestamp::from_micros(at),
    })
}

pub(in crate::store) type RedriveColumns = (String, String, String, i64, i64, i64, i64);

pub(in crate::store) fn redrive(row: RedriveColumns) -> Result<RedriveRow, StoreError> {
    let (id, filter, state, total, done, created, updated) = row;
    Ok(RedriveRow {
        id: word(&id)?,
        filter: json(&filter)?,
        is_done: state != "running",
        total: number(total)?,
        done: number(done)?,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// Tenant, kind, capabilities, forms, when seen, when announced.
pub(in crate::store) type RemoteChannelColumns = (String, String, String, Option<String>, Option<i64>, i64);

pub(in crate::store) fn remote_channel(row: RemoteChannelColumns) -> Result<RemoteChannelRow, StoreError> {
    let (tenant, kind, capabilities, forms, seen, announced) = row;
    Ok(RemoteChannelRow {
        tenant: if tenant.is_empty() {
            None
        } else {
            Some(word(&tenant)?)
        },
        kind: word(&kind)?,
        capabilities: json(&capabilities)?,
        forms: forms.as_deref().map(json).transpose()?,
        seen_at: time(seen),
        announced_at: Timestamp::from_micros(announced),
    })
}
