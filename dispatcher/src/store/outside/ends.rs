//! What recipients' ends do outside the inbox. Pure: rows in, rows out.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{DeliveryId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::{
    planning::take_back,
    records::{LaneKey, WorkRow},
    rows::sent,
};
use crate::store::{rows::word, withdrawals::Recallable};

/// Tenant, channel, lane, strand, state.
pub(in crate::store) type EndLaneColumns = (String, String, String, String, String);

/// The lanes whose work the ends change: of what waits, and of what will be taken back.
pub(in crate::store) fn end_lanes(
    rows: Vec<EndLaneColumns>,
    recallable: &Recallable,
) -> Result<BTreeSet<LaneKey>, StoreError> {
    let mut lanes = BTreeSet::new();
    for (tenant, channel, lane, strand, state) in rows {
        let key = LaneKey {
            tenant: word(&tenant)?,
            channel: word(&channel)?,
            lane: Arc::from(lane),
            strand: Arc::from(strand),
        };
        let recalls = recallable.can(&key.tenant, &key.channel);
        if recalls && !key.strand.is_empty() {
            // Taking back is in nobody's order.
            lanes.insert(LaneKey {
                strand: Arc::from(""),
                ..key.clone()
            });
        }
        // What is dead may be redriven meanwhile.
        if recalls || state == "pending" || state == "dead" {
            lanes.insert(key);
        }
    }
    Ok(lanes)
}

/// How long an attempt runs at the most, however a worker's lease is extended (`dispatcher.remote.longest_attempt`): what
/// began before that, and of which nothing was heard, died with its process.
pub(in crate::store) const LONGEST_ATTEMPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Tenant, id.
pub(in crate::store) type WaitingColumns = (String, String);

/// What waits, but not what `except` names.
pub(in crate::store) fn waiting(
    rows: Vec<WaitingColumns>,
    except: &HashSet<DeliveryId>,
) -> Result<Vec<(TenantId, DeliveryId)>, StoreError> {
    let mut waiting = Vec::with_capacity(rows.len());
    for (tenant, id) in rows {
        let id: DeliveryId = word(&id)?;
        if !except.contains(&id) {
            waiting.push((word(&tenant)?, id));
        }
    }
    Ok(waiting)
}

/// Tenant, id, channel, lane, attempts.
pub(in crate::store) type SentOfColumns = (String, String, String, String, i64);

/// What taking back writes.
#[derive(Default)]
pub(in crate::store) struct TakenBack {
    pub(in crate::store) work: Vec<WorkRow>,
    /// Everything that was sent, and whether it stays where it is.
    pub(in crate::store) sent: Vec<(TenantId, DeliveryId, bool)>,
}

/// Takes back what was sent, but not what `except` names.
pub(in crate::store) fn taken_back(
    now: Timestamp,
    rows: Vec<SentOfColumns>,
    recallable: &Recallable,
    except: &HashSet<DeliveryId>,
) -> Result<TakenBack, StoreError> {
    let mut taken = TakenBack::default();
    for (tenant, id, channel, lane, attempts) in rows {
        let tenant: TenantId = word(&tenant)?;
        let sent = sent((id, channel, lane, attempts))?;
        let id = sent.id;
        if except.contains(&id) {
            continue;
        }
        let (mut work, stay) = take_back(
            now,
            &tenant,
            vec![sent],
            recallable.channels(&tenant).unwrap_or_default(),
        );
        taken.work.append(&mut work);
        taken.sent.push((tenant, id, !stay.is_empty()));
    }
    Ok(taken)
}
