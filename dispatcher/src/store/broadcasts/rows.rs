//! Rows as the databases give them, the same columns on both, made into records.

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use super::records::{BroadcastRow, BroadcastState};
use crate::store::rows::{corrupt, number, word};

/// Tenant, notification, state, start, cursor, recipients, last page.
pub(in crate::store) type BroadcastColumns = (String, String, String, i64, Option<String>, i64, i64);

pub(in crate::store) fn broadcast(row: BroadcastColumns) -> Result<BroadcastRow, StoreError> {
    use BroadcastState::{Done, Expired, Running};
    let (tenant, notification, state, started, cursor, planned, updated) = row;
    Ok(BroadcastRow {
        tenant: word(&tenant)?,
        notification: word(&notification)?,
        state: [Running, Done, Expired]
            .into_iter()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| corrupt("a broadcast's state", &state))?,
        started_at: Timestamp::from_micros(started),
        cursor: cursor.as_deref().map(word).transpose()?,
        planned: number(planned)?,
        updated_at: Timestamp::from_micros(updated),
    })
}
