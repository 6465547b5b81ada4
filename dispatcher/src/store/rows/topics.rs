//! Rows of topics.

use carillon_domain::{Epoch, TenantId, Timestamp, TopicName};
use carillon_sql::StoreError;

use super::{number, word};
use crate::store::records::TopicRow;

/// The columns of [`topic`].
pub(in crate::store) const TOPIC: &str =
    "t.tenant, t.topic, t.epoch, t.last_seq, t.floor_seq, t.oldest_at, t.used_at";

pub(in crate::store) type TopicColumns = (String, String, String, i64, i64, Option<i64>, i64);

pub(in crate::store) fn topic(row: TopicColumns) -> Result<TopicRow, StoreError> {
    let (tenant, topic, epoch, last, floor, oldest, used) = row;
    Ok(TopicRow {
        tenant: word(&tenant)?,
        topic: word(&topic)?,
        epoch: word(&epoch)?,
        last_seq: number(last)?,
        floor_seq: number(floor)?,
        oldest_at: oldest.map(Timestamp::from_micros),
        used_at: Timestamp::from_micros(used),
    })
}

/// A topic that nobody used yet.
pub(in crate::store) fn new_topic(now: Timestamp, tenant: &TenantId, topic: &TopicName) -> TopicRow {
    TopicRow {
        tenant: tenant.clone(),
        topic: topic.clone(),
        epoch: Epoch::random(),
        last_seq: 0,
        floor_seq: 0,
        oldest_at: None,
        used_at: now,
    }
}
