//! Rows as the databases give them, the same columns on both, made into records.

use std::sync::Arc;

use carillon_domain::{Timestamp, ports::SigningKind};
use carillon_sql::StoreError;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::records::{EndpointAttempt, EndpointRow, EndpointState, SecretRow, UserEndpoint};
use crate::store::{
    outside::{AttemptColumns, attempt, delivery_state},
    rows::{corrupt, json, word},
};

/// The columns of [`EndpointColumns`].
pub(in crate::store) const ENDPOINT: &str = "tenant, id, user_id, url, lane, events, fifo, description, state, \
    reason, failing_since, created_at, updated_at";

pub(in crate::store) type EndpointColumns = (
    String,
    String,
    String,
    String,
    String,
    String,
    i64,
    Option<String>,
    String,
    Option<String>,
    Option<i64>,
    i64,
    i64,
);

pub(in crate::store) fn endpoint(row: EndpointColumns) -> Result<EndpointRow, StoreError> {
    let (tenant, id, user, url, lane, events, fifo, description, state, reason, failing, created, updated) =
        row;
    Ok(EndpointRow {
        tenant: word(&tenant)?,
        id: word(&id)?,
        user: if user.is_empty() { None } else { Some(word(&user)?) },
        url: word(&url)?,
        lane: Arc::from(lane),
        events: json(&events)?,
        fifo: fifo != 0,
        description,
        state: EndpointState::from_stored(&state).ok_or_else(|| corrupt("an endpoint's state", &state))?,
        reason,
        failing_since: failing.map(Timestamp::from_micros),
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// User, id, lane, fifo.
pub(in crate::store) type UserEndpointColumns = (String, String, String, i64);

pub(in crate::store) fn user_endpoint(row: UserEndpointColumns) -> Result<UserEndpoint, StoreError> {
    let (user, id, lane, fifo) = row;
    Ok(UserEndpoint {
        user: word(&user)?,
        id: word(&id)?,
        lane: Arc::from(lane),
        fifo: fifo != 0,
    })
}

/// The columns of [`SecretColumns`].
pub(in crate::store) const SECRET: &str =
    "tenant, endpoint, id, kind, public_key, sealed, created_at, expires_at";

pub(in crate::store) type EndpointSecretColumns = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    i64,
    Option<i64>,
);

pub(in crate::store) fn secret(row: EndpointSecretColumns) -> Result<SecretRow, StoreError> {
    let (tenant, endpoint, id, kind, public, sealed, created, expires) = row;
    Ok(SecretRow {
        tenant: word(&tenant)?,
        endpoint: if endpoint.is_empty() {
            None
        } else {
            Some(word(&endpoint)?)
        },
        id: word(&id)?,
        kind: SigningKind::from_stored(&kind).ok_or_else(|| corrupt("a key's kind", &kind))?,
        public,
        sealed,
        created_at: Timestamp::from_micros(created),
        expires_at: expires.map(Timestamp::from_micros),
    })
}

/// The columns of [`EndpointAttemptColumns`]: of an attempt `a`, its delivery `d` and its event `v`.
pub(in crate::store) const ENDPOINT_ATTEMPT: &str = "a.number, a.operation, a.started_at, a.ended_at, a.outcome, \
    a.status, a.reason, a.excerpt, a.next_at, d.id, d.notification, v.kind, d.state";

pub(in crate::store) struct EndpointAttemptColumns {
    attempt: AttemptColumns,
    delivery: String,
    brings: String,
    kind: Option<String>,
    state: String,
}

impl<'r, R> FromRow<'r, R> for EndpointAttemptColumns
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            attempt: (
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
                row.try_get(5)?,
                row.try_get(6)?,
                row.try_get(7)?,
                row.try_get(8)?,
            ),
            delivery: row.try_get(9)?,
            brings: row.try_get(10)?,
            kind: row.try_get(11)?,
            state: row.try_get(12)?,
        })
    }
}

pub(in crate::store) fn endpoint_attempt(row: EndpointAttemptColumns) -> Result<EndpointAttempt, StoreError> {
    Ok(EndpointAttempt {
        delivery: word(&row.delivery)?,
        brings: word(&row.brings)?,
        kind: row.kind,
        state: delivery_state(&row.state)?,
        attempt: attempt(row.attempt)?,
    })
}
