//! Rows of lanes.

use std::sync::Arc;

use carillon_domain::{TenantId, Timestamp};
use carillon_sql::StoreError;

use crate::store::{
    outside::records::{DueLane, LaneKey},
    records::PlanJob,
    rows::word,
};

pub(in crate::store) type LaneColumns = (String, String, String, String, i64);

/// Lanes; one that cannot be read is left out, so that its neighbours are looked at.
pub(in crate::store) fn due_lanes(rows: Vec<LaneColumns>) -> Vec<DueLane> {
    let readable = |row| match due_lane(row) {
        Ok(lane) => Some(lane),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a lane cannot be read");
            None
        }
    };
    rows.into_iter().filter_map(readable).collect()
}

/// The tenant to go on after; none where fewer than wanted were left, and it begins anew.
pub(in crate::store) fn next_turn(found: &[(String,)], wanted: usize) -> Option<TenantId> {
    let (last,) = found.last().filter(|_| found.len() >= wanted)?;
    last.parse().ok()
}

pub(in crate::store) fn due_lane(row: LaneColumns) -> Result<DueLane, StoreError> {
    let (tenant, channel, lane, strand, due) = row;
    Ok(DueLane {
        key: LaneKey {
            tenant: word(&tenant)?,
            channel: word(&channel)?,
            lane: Arc::from(lane),
            strand: Arc::from(strand),
        },
        due_at: Timestamp::from_micros(due),
    })
}

/// The lanes that jobs write to: all of them, or those with a collapse key.
pub(in crate::store) fn lanes_of(jobs: &[PlanJob], collapsing: bool) -> std::collections::BTreeSet<LaneKey> {
    jobs.iter()
        .filter(|job| !collapsing || job.notification.collapse_key.is_some())
        .flat_map(|job| {
            job.sendable().map(|(_, outgoing)| LaneKey {
                tenant: job.lease.tenant.clone(),
                channel: outgoing.channel.clone(),
                lane: Arc::clone(&outgoing.lane),
                strand: Arc::clone(&outgoing.strand),
            })
        })
        .collect()
}
