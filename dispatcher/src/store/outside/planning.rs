//! What planning writes outside the inbox, and what cancelling does there. Pure: rows in, rows out.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    Address, ChannelKind, DeliveryId, NotificationId, TenantId, Timestamp,
    ports::{Lane, Operation},
};

use super::records::{Brings, DeliveryState, LaneKey, OutsideRow, WorkRow};
use crate::store::policy::ChoicesOf;
use crate::store::{
    digests::{DigestKey, DigestMember, OpenDigests},
    ledger::Ledger,
    records::{Addressee, Outgoing, PlanJob, UserKey},
};

/// Said of what a newer notification overtook.
pub(in crate::store) const OVERTAKEN: &str = "a newer notification with the same collapse key took its place";
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
    /// What recipients want.
    pub(crate) choices: ChoicesOf,
    /// Digests that recipients' alerts may join.
    pub(crate) digests: OpenDigests,
    /// How well addresses have proved to be within reach, from 0 to 100, as far as something is known.
    pub(crate) scores: HashMap<(TenantId, ChannelKind, Address), u8>,
}

impl Bars {
    /// Whether an address is not written to.
    pub(in crate::store) fn is_suppressed(&self, tenant: &TenantId, outgoing: &Outgoing) -> bool {
        let (channel, address) = (outgoing.channel.clone(), outgoing.address.clone());
        !self.suppressed.is_empty() && self.suppressed.contains(&(tenant.clone(), channel, address))
    }

    /// How well an address has proved to be within reach.
    pub(in crate::store) fn score(&self, tenant: &TenantId, outgoing: &Outgoing) -> Option<u8> {
        if self.scores.is_empty() {
            return None;
        }
        let key = (tenant.clone(), outgoing.channel.clone(), outgoing.address.clone());
        self.scores.get(&key).copied()
    }
}

/// The recipient and what his deliveries have in common with a newer one.
pub(in crate::store) type CollapseName = (UserKey, Arc<str>);

/// A delivery that a newer one with the same collapse key takes the place of.
#[derive(Debug, Clone)]
pub(in crate::store) struct Earlier {
    pub(in crate::store) id: DeliveryId,
    /// Which it brings.
    pub(in crate::store) notification: Option<NotificationId>,
    pub(in crate::store) channel: ChannelKind,
    pub(in crate::store) address: Address,
    pub(in crate::store) provider_id: Option<String>,
}

/// Deliveries by what their collapse keys name.
pub(in crate::store) type EarlierOnes = HashMap<CollapseName, Vec<Earlier>>;

/// One way of a step that starts, and why it is not gone, if it is not.
pub(in crate::store) struct Sending<'a> {
    pub(in crate::store) way: &'a Outgoing,
    pub(in crate::store) skip: Option<Cow<'static, str>>,
    /// The digest that it waits in, if it does.
    pub(in crate::store) digest: Option<DigestKey>,
}

/// What an earlier notification with the same collapse key has not sent to a recipient yet gives way to this one.
pub(in crate::store) fn overtake_earlier(
    ledger: &mut Ledger,
    earlier: &EarlierOnes,
    job: &PlanJob,
    addressee: &Addressee,
) {
    let tenant = &job.lease.tenant;
    let Some(collapse) = job.collapse() else { return };
    let older = earlier.get(&((tenant.clone(), addressee.user), collapse));
    for older in older.into_iter().flatten() {
        if older.notification != Some(job.lease.notification) {
            overtake(ledger, tenant, older, false);
        }
    }
}

/// Writes deliveries of one step outside the inbox; what was sent to the same address with the same collapse key is
/// replaced where the channel can.
pub(in crate::store) fn send(
    ledger: &mut Ledger,
    earlier: &mut EarlierOnes,
    job: &PlanJob,
    addressee: &Addressee,
    step: u32,
    sendings: Vec<Sending<'_>>,
) {
    let collapse = job.collapse();
    let tenant = &job.lease.tenant;
    let notification = job.lease.notification;
    let name = collapse
        .as_ref()
        .map(|collapse| ((tenant.clone(), addressee.user), Arc::clone(collapse)));
    let mut known = name
        .as_ref()
        .and_then(|name| earlier.remove(name))
        .unwrap_or_default();
    for Sending { way, skip, digest } in sendings {
        let is_sent = skip.is_none() && digest.is_none();
        let same = |older: &Earlier| {
            older.notification != Some(notification)
                && older.channel == way.channel
                && older.address == way.address
        };
        let mut replaced = None;
        if is_sent {
            for older in known.iter().filter(|older| same(older)) {
                overtake(ledger, tenant, older, true);
                if way.replaces {
                    replaced = replaced.or_else(|| older.provider_id.clone());
                }
            }
            known.retain(|older| !same(older));
        }
        let state = match (&skip, &digest) {
            (None, None) => DeliveryState::Pending,
            (None, Some(_)) => DeliveryState::Gathered,
            (Some(_), _) => DeliveryState::Skipped,
        };
        let row = OutsideRow {
            tenant: tenant.clone(),
            id: DeliveryId::at(ledger.now),
            brings: Brings::Notification(notification),
            user: Some(addressee.user),
            step,
            name: addressee.name.clone(),
            channel: way.channel.clone(),
            address: way.address.clone(),
            device: way.device,
            lane: Arc::clone(&way.lane),
            locale: addressee.locale.clone(),
            state,
            reason: skip,
            provider_id: replaced,
            collapse: collapse.clone().filter(|_| state.waits()),
            created_at: ledger.now,
            expires_at: job.notification.expires_at,
        };
        if is_sent {
            let operation = if row.provider_id.is_some() {
                Operation::Replace
            } else {
                Operation::Deliver
            };
            let mut work = WorkRow::of(&row, Arc::clone(&way.strand), operation);
            // What one transaction plans stays in the order of its notifications.
            work.ord = work
                .ord
                .saturating_add(i64::try_from(ledger.writes.work.len()).unwrap_or(i64::MAX));
            work.zone = quiet_zone(job, addressee);
            ledger.writes.work.push(work);
        }
        if let Some(key) = digest {
            ledger.writes.digests.members.push(DigestMember {
                key,
                notification,
                delivery: row.id,
            });
        }
        if state.waits() {
            known.push(Earlier {
                id: row.id,
                notification: Some(notification),
                channel: row.channel.clone(),
                address: row.address.clone(),
                provider_id: row.provider_id.clone(),
            });
        }
        ledger.writes.outside.push(row);
    }
    if let Some(name) = name.filter(|_| !known.is_empty()) {
        earlier.insert(name, known);
    }
}

/// In which time zone a recipient's quiet hours hold a job's alerts; none where they do not.
fn quiet_zone(job: &PlanJob, addressee: &Addressee) -> Option<Arc<str>> {
    let heeds = !job.critical && addressee.plain.is_none();
    heeds.then(|| {
        Arc::from(crate::policy::zone_of(addressee.zone.as_deref(), &job.policies.tenant).to_string())
    })
}

/// An older delivery gives way: what still waits is not sent. When the same batch planned it, its row is not written yet.
/// What arrived is found again until something else is sent to where it is: then it is `forgotten`.
fn overtake(ledger: &mut Ledger, tenant: &TenantId, older: &Earlier, forgotten: bool) {
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
        None => {
            *ledger
                .writes
                .overtaken
                .entry((tenant.clone(), older.id))
                .or_default() |= forgotten;
        }
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
            zone: None,
        });
    }
    (work, stay)
}
