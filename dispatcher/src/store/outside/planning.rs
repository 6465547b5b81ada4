//! What planning writes outside the inbox, and what cancelling does there. Pure: rows in, rows out.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    Address, Category, ChannelKind, DeliveryId, TenantId, Timestamp, UserId,
    ports::{Lane, Operation},
};

use super::records::{Brings, DeliveryState, LaneKey, OutsideRow, WorkRow};
use crate::store::{
    ledger::Ledger,
    records::{Addressee, Outgoing, PlanJob, UserKey},
};

/// Said of what a newer notification overtook.
pub(in crate::store) const OVERTAKEN: &str = "a newer notification with the same collapse key took its place";
/// Said of what is not sent because its address is suppressed.
const SUPPRESSED: &str = "suppressed";
/// Said of what its recipient turned off.
pub(super) const UNSUBSCRIBED: &str = "unsubscribed";
/// Said of what was delivered where nothing can be taken back.
pub(in crate::store) const NOT_RECALLABLE: &str = "not_recallable";
/// How long taking something back is tried.
const RECALL_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What stands against sending.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    /// Addresses that are not written to.
    pub(crate) suppressed: HashSet<(TenantId, ChannelKind, Address)>,
    /// What recipients turned on or off: for a category, a channel, or both.
    pub(crate) chosen: HashMap<(TenantId, UserId, Option<Category>, Option<ChannelKind>), bool>,
}

impl Bars {
    /// Why it is not sent, if it is not.
    pub(crate) fn skip(
        &self,
        tenant: &TenantId,
        user: UserId,
        category: &Category,
        outgoing: &Outgoing,
    ) -> Option<&'static str> {
        if outgoing.skip.is_some() {
            return outgoing.skip;
        }
        let channel = outgoing.channel.clone();
        let address = (tenant.clone(), channel.clone(), outgoing.address.clone());
        if self.suppressed.contains(&address) {
            return Some(SUPPRESSED);
        }
        self.is_off(tenant, user, category, channel)
            .then_some(UNSUBSCRIBED)
    }

    /// The most specific choice counts.
    fn is_off(&self, tenant: &TenantId, user: UserId, category: &Category, channel: ChannelKind) -> bool {
        if self.chosen.is_empty() {
            return false;
        }
        let levels = [
            (Some(category.clone()), Some(channel.clone())),
            (None, Some(channel)),
            (Some(category.clone()), None),
        ];
        let wanted = levels
            .into_iter()
            .find_map(|(category, channel)| self.chosen.get(&(tenant.clone(), user, category, channel)));
        wanted == Some(&false)
    }
}

/// The recipient and what his deliveries have in common with a newer one.
pub(in crate::store) type CollapseName = (UserKey, Arc<str>);

/// A delivery that a newer one with the same collapse key takes the place of.
#[derive(Debug, Clone)]
pub(in crate::store) struct Earlier {
    pub(in crate::store) id: DeliveryId,
    pub(in crate::store) channel: ChannelKind,
    pub(in crate::store) address: Address,
    pub(in crate::store) provider_id: Option<String>,
}

/// Deliveries by what their collapse keys name.
pub(in crate::store) type EarlierOnes = HashMap<CollapseName, Vec<Earlier>>;

/// Writes a recipient's deliveries outside the inbox; older ones with the same collapse key give way.
pub(in crate::store) fn plan_outside(
    ledger: &mut Ledger,
    bars: &Bars,
    earlier: &mut EarlierOnes,
    job: &PlanJob,
    addressee: &Addressee,
) {
    let collapse = job.collapse();
    let tenant = &job.lease.tenant;
    let name = collapse
        .as_ref()
        .map(|collapse| ((tenant.clone(), addressee.user), Arc::clone(collapse)));
    let older = name
        .as_ref()
        .and_then(|name| earlier.remove(name))
        .unwrap_or_default();
    for older in &older {
        overtake(ledger, tenant, older);
    }
    let mut newer = Vec::with_capacity(addressee.outside.len());
    for outgoing in &addressee.outside {
        let skip = bars.skip(tenant, addressee.user, &job.notification.category, outgoing);
        let replaced = older
            .iter()
            .filter(|older| outgoing.replaces && skip.is_none() && older.channel == outgoing.channel)
            .find(|older| older.address == outgoing.address)
            .and_then(|older| older.provider_id.clone());
        let state = if skip.is_some() {
            DeliveryState::Skipped
        } else {
            DeliveryState::Pending
        };
        let row = OutsideRow {
            tenant: tenant.clone(),
            id: DeliveryId::at(ledger.now),
            brings: Brings::Notification(job.lease.notification),
            user: Some(addressee.user),
            step: 0,
            name: addressee.name.clone(),
            channel: outgoing.channel.clone(),
            address: outgoing.address.clone(),
            device: outgoing.device,
            lane: Arc::clone(&outgoing.lane),
            locale: addressee.locale.clone(),
            state,
            reason: skip.map(Cow::Borrowed),
            provider_id: replaced,
            collapse: collapse.clone().filter(|_| skip.is_none()),
            created_at: ledger.now,
            expires_at: job.notification.expires_at,
        };
        if skip.is_none() {
            let operation = if row.provider_id.is_some() {
                Operation::Replace
            } else {
                Operation::Deliver
            };
            let mut work = WorkRow::of(&row, Arc::clone(&outgoing.strand), operation);
            // What one transaction plans stays in the order of its notifications.
            work.ord = work
                .ord
                .saturating_add(i64::try_from(ledger.writes.work.len()).unwrap_or(i64::MAX));
            ledger.writes.work.push(work);
            newer.push(Earlier {
                id: row.id,
                channel: row.channel.clone(),
                address: row.address.clone(),
                provider_id: row.provider_id.clone(),
            });
        }
        ledger.writes.outside.push(row);
    }
    if let Some(name) = name.filter(|_| !newer.is_empty()) {
        earlier.insert(name, newer);
    }
}

/// An older delivery gives way: what still waits is not sent. When the same batch planned it, its row is not written yet.
fn overtake(ledger: &mut Ledger, tenant: &TenantId, older: &Earlier) {
    let of_batch = ledger
        .writes
        .outside
        .iter_mut()
        .rev()
        .find(|row| row.id == older.id);
    match of_batch {
        Some(row) => {
            row.state = DeliveryState::Superseded;
            row.reason = Some(Cow::Borrowed(OVERTAKEN));
            row.collapse = None;
            ledger.writes.work.retain(|work| work.delivery != older.id);
        }
        None => ledger.writes.overtaken.push((tenant.clone(), older.id)),
    }
}

/// A delivery of a notification that is cancelled.
#[derive(Debug, Clone)]
pub(in crate::store) struct Sent {
    pub(in crate::store) id: DeliveryId,
    pub(in crate::store) channel: ChannelKind,
    pub(in crate::store) lane: Lane,
    pub(in crate::store) attempts: u32,
}

/// What taking back a cancelled notification's deliveries takes: work where the channel can, else a remark.
pub(in crate::store) fn take_back(
    now: Timestamp,
    tenant: &TenantId,
    sent: Vec<Sent>,
    recallable: &[ChannelKind],
) -> (Vec<WorkRow>, Vec<DeliveryId>) {
    let mut work = Vec::new();
    let mut stay = Vec::new();
    for delivery in sent {
        if !recallable.contains(&delivery.channel) {
            stay.push(delivery.id);
            continue;
        }
        work.push(WorkRow {
            key: LaneKey {
                tenant: tenant.clone(),
                channel: delivery.channel,
                lane: delivery.lane,
                strand: Arc::from(""),
            },
            delivery: delivery.id,
            ord: now.as_micros(),
            operation: Operation::Recall,
            due_at: now,
            expires_at: now.after(RECALL_LIFE),
            earlier: delivery.attempts,
        });
    }
    (work, stay)
}
