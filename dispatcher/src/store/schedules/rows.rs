//! Rows as the databases give them, the same columns on both, made into records.

use std::sync::Arc;

use carillon_domain::{ExternalUserId, Target, Timestamp};
use carillon_sql::StoreError;
use serde_json::Value;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::records::{ScheduleRow, ScheduleRun};
use crate::store::{
    ledger::encode,
    rows::{json, number, word},
};

/// The columns of [`schedule`].
pub(in crate::store) const SCHEDULE: &str = "tenant, name, notification, cron, zone, once_at, starts_at, ends_at, next_at, \
    enabled, skipped, revision, created_at, updated_at";

/// The columns of [`SCHEDULE`], grouped by what they can be.
pub(in crate::store) struct ScheduleColumns {
    words: [String; 3],
    /// Cron, zone.
    optional: [Option<String>; 2],
    /// When it is sent once, starts, ends and is due next.
    times: [Option<i64>; 4],
    /// Whether it is enabled; times skipped, changes, when it was made and changed.
    numbers: [i64; 5],
}

impl<'r, R> FromRow<'r, R> for ScheduleColumns
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
            words: [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?],
            optional: [row.try_get(3)?, row.try_get(4)?],
            times: [row.try_get(5)?, row.try_get(6)?, row.try_get(7)?, row.try_get(8)?],
            numbers: [
                row.try_get(9)?,
                row.try_get(10)?,
                row.try_get(11)?,
                row.try_get(12)?,
                row.try_get(13)?,
            ],
        })
    }
}

pub(in crate::store) fn schedule(row: ScheduleColumns) -> Result<ScheduleRow, StoreError> {
    let [tenant, name, notification] = &row.words;
    let [cron, zone] = row.optional;
    let [once_at, starts_at, ends_at, next_at] = row.times.map(|at| at.map(Timestamp::from_micros));
    let [enabled, skipped, revision, created, updated] = row.numbers;
    Ok(ScheduleRow {
        tenant: word(tenant)?,
        name: word(name)?,
        cron,
        zone,
        once_at,
        notification: Arc::from(notification.as_str()),
        enabled: enabled != 0,
        starts_at,
        ends_at,
        next_at,
        skipped: number(skipped)?,
        revision: number(revision)?,
        created_at: Timestamp::from_micros(created),
        updated_at: Timestamp::from_micros(updated),
    })
}

/// Due, id, when, notification, error.
pub(in crate::store) type RunColumns = (i64, String, i64, Option<String>, Option<String>);

pub(in crate::store) fn run(row: RunColumns) -> Result<ScheduleRun, StoreError> {
    let (due, id, at, notification, error) = row;
    Ok(ScheduleRun {
        due_at: Timestamp::from_micros(due),
        at: Timestamp::from_micros(at),
        manual: !id.is_empty(),
        notification: notification.as_deref().map(word).transpose()?,
        error,
    })
}

/// What stays of a schedule's request when a user is erased. `None`: it never named him. `Some(None)`: it was for
/// nobody else.
pub(in crate::store) fn request_without(
    request: &str,
    name: &ExternalUserId,
) -> Result<Option<Option<String>>, StoreError> {
    let mut request: Value = json(request)?;
    let him = serde_json::to_value(Target::User(name.clone()))
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let Some(targets) = request.get_mut("targets").and_then(Value::as_array_mut) else {
        return Ok(None);
    };
    let before = targets.len();
    targets.retain(|target| *target != him);
    if targets.len() == before {
        return Ok(None);
    }
    if targets.is_empty() {
        return Ok(Some(None));
    }
    encode(&request).map(|text| Some(Some(text)))
}
