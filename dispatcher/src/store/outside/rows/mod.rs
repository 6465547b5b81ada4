//! Rows as the databases give them, the same columns on both, made into records.

mod candidates;
mod details;
mod lanes;
mod planning;
mod sources;

use carillon_domain::Timestamp;
use carillon_sql::StoreError;

use crate::store::{outside::records::DeliveryState, rows::corrupt};

pub(in crate::store) use candidates::*;
pub(in crate::store) use details::*;
pub(in crate::store) use lanes::*;
pub(in crate::store) use planning::*;
pub(in crate::store) use sources::*;

pub(in crate::store) fn delivery_state(text: &str) -> Result<DeliveryState, StoreError> {
    DeliveryState::from_stored(text).ok_or_else(|| corrupt("a delivery's state", text))
}

/// A count that fits.
pub(in crate::store) fn small(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| corrupt("a number", &stored.to_string()))
}

fn time(stored: Option<i64>) -> Option<Timestamp> {
    stored.map(Timestamp::from_micros)
}
