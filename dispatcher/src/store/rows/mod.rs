//! Rows as the databases give them, the same columns on both, made into records.

mod logs;
mod mailboxes;
mod notifications;
mod recipients;
mod topics;

use std::str::FromStr;

use carillon_domain::{Acknowledgement, NotificationId, Priority, Timestamp};
use carillon_sql::StoreError;

pub(super) use logs::*;
pub(super) use mailboxes::*;
pub(super) use notifications::*;
pub(super) use recipients::*;
pub(super) use topics::*;

/// A word of ours, as written by `Display`.
pub(super) fn word<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse()
        .map_err(|_| corrupt(std::any::type_name::<T>(), text))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A count or sequence number, which is never negative.
pub(super) fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| corrupt("a number", &stored.to_string()))
}

/// As stored; sequence numbers and counts stay far below the limit.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A body as text. Everything that is stored came from JSON, which is UTF-8.
pub(super) fn text(body: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(body).map_err(|error| StoreError::Corrupt(format!("a body: {error}")))
}

pub(super) fn corrupt(what: &str, text: &str) -> StoreError {
    StoreError::Corrupt(format!("{what}: {text:?}"))
}

pub(super) fn acknowledgement(text: Option<&str>) -> Result<Option<Acknowledgement>, StoreError> {
    text.map(json).transpose()
}

fn from_priority(text: &str) -> Result<Priority, StoreError> {
    [Priority::Low, Priority::Normal, Priority::High]
        .into_iter()
        .find(|priority| priority.as_str() == text)
        .ok_or_else(|| corrupt("a priority", text))
}

/// The smallest notification id of a time, as text.
pub(super) fn first_id_at(at: Timestamp) -> String {
    let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0);
    format!("{}_{millis:012x}00000000000000000000", NotificationId::PREFIX)
}
