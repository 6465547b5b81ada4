//! What follows of a candidate for an attempt, and of what an attempt said. Pure: rows in, rows out.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::store::{listeners::Told, records::ReceiptRow};
use carillon_domain::{
    ChannelKind, DeliveryId, EndpointId, ExternalUserId, TenantId, Timestamp,
    ports::{Lane, Operation},
};

use carillon_policy::Reason;

use super::failing::Failing;
use super::planning::{NOT_RECALLABLE, Sent, UNSUBSCRIBED, take_back};
use super::quiet::Quiet;
use super::receipt::Early;
use super::records::{
    DeliveryState, Ended, LaneKey, LeasedDelivery, NotResendable, Settlement, SuppressionRow, Verdict,
    WorkRow,
};

/// Said of what is not sent because its address is suppressed.
const SUPPRESSED: &str = "suppressed";
/// Said of what waited for an endpoint that was disabled.
const DISABLED: &str = "the endpoint is disabled";
/// Said of what could not be delivered in time.
const EXPIRED: &str = "its time to live ended";
/// Said of what holds text that no code of ours wrote.
pub(in crate::store) const UNREADABLE: &str = "the stored delivery cannot be read";

/// A row of `delivery_queue`.
pub(in crate::store) type QueueKey = (TenantId, DeliveryId);

/// A registered endpoint.
pub(in crate::store) type EndpointKey = (TenantId, EndpointId);

/// Work that may be handed out, with what decides about it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Candidate {
    pub(in crate::store) key: LaneKey,
    pub(in crate::store) id: DeliveryId,
    pub(in crate::store) token: u32,
    pub(in crate::store) earlier: u32,
    /// What the delivery's own row says; none when it is gone.
    pub(in crate::store) delivery: Option<CandidateDelivery>,
}

/// A candidate's row of `deliveries` and what stands against it.
#[derive(Debug, Clone)]
pub(in crate::store) struct CandidateDelivery {
    /// As it would be leased; none when it cannot be read.
    pub(in crate::store) leased: Option<LeasedDelivery>,
    pub(in crate::store) state: DeliveryState,
    pub(in crate::store) reason: Option<String>,
    pub(in crate::store) suppressed: bool,
    pub(in crate::store) disabled: bool,
    /// Whether its recipient turned this category and channel off.
    pub(in crate::store) turned_off: bool,
    /// The recipient's quiet hours, where they put off a first attempt.
    pub(in crate::store) quiet: Option<Quiet>,
    /// Why nothing of it may start any more; [`super::withdrawn`] finds it.
    pub(in crate::store) withdrawn: Option<&'static str>,
    /// The state that stands should a resend not arrive.
    pub(in crate::store) stands: Option<DeliveryState>,
    /// What the far end told before the last attempt's outcome.
    pub(in crate::store) news: Option<Early>,
    /// The lane and the strand of the endpoint that it is for.
    pub(in crate::store) home: Option<(Lane, Arc<str>)>,
    /// An earlier one of its strand that is in another lane, where the endpoint was before, and that lane.
    pub(in crate::store) straggler: Option<(DeliveryId, Lane)>,
}

/// The tenant and the delivery of work that no code of ours wrote, as they are stored.
pub(in crate::store) type Unreadable = (String, String);

impl Candidate {
    fn key(&self) -> QueueKey {
        (self.key.tenant.clone(), self.id)
    }

    /// Where it belongs, should that be elsewhere.
    fn home(&self) -> Option<LaneKey> {
        let (lane, strand) = self.delivery.as_ref()?.home.as_ref()?;
        let home = LaneKey {
            lane: Arc::clone(lane),
            strand: Arc::clone(strand),
            ..self.key.clone()
        };
        (home != self.key).then_some(home)
    }

    /// Whether an attempt ran: only of those is there news.
    const fn was_tried(&self) -> bool {
        self.token > 0 || self.earlier > 0
    }
}

/// The delivery of a settlement whose lease still holds.
#[derive(Debug, Clone)]
pub(in crate::store) struct Found {
    pub(in crate::store) state: DeliveryState,
    /// The state that stands should a resend not arrive.
    pub(in crate::store) stands: Option<DeliveryState>,
    /// What the far end told before.
    pub(in crate::store) news: Option<Early>,
    /// The registered endpoint that it is for.
    pub(in crate::store) endpoint: Option<FoundEndpoint>,
    /// Where its work is now: an endpoint may have moved since.
    pub(in crate::store) key: LaneKey,
}

/// How the endpoint of a settlement stood before.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct FoundEndpoint {
    pub(in crate::store) enabled: bool,
    pub(in crate::store) failing: Option<Failing>,
}

impl FoundEndpoint {
    /// From its state, since when it fails, and when it last did; there is none where there is no state.
    pub(in crate::store) fn stored(state: Option<&str>, failing: Option<(i64, i64)>) -> Option<Self> {
        state.map(|state| Self {
            enabled: state == "enabled",
            failing: failing.map(|(since, last)| Failing {
                since: Timestamp::from_micros(since),
                last: Timestamp::from_micros(last),
            }),
        })
    }
}

/// An attempt that ended.
#[derive(Debug, Clone)]
pub(in crate::store) struct AttemptEnd {
    pub(in crate::store) key: QueueKey,
    pub(in crate::store) number: u32,
    pub(in crate::store) ended_at: Timestamp,
    pub(in crate::store) outcome: &'static str,
    pub(in crate::store) status: Option<u16>,
    pub(in crate::store) reason: Option<String>,
    pub(in crate::store) excerpt: Option<String>,
    pub(in crate::store) next_at: Option<Timestamp>,
}

/// A change of a row of `deliveries`; what is none stays, but for the reason.
#[derive(Debug, Clone)]
pub(in crate::store) struct DeliveryChange {
    pub(in crate::store) key: QueueKey,
    pub(in crate::store) state: Option<DeliveryState>,
    pub(in crate::store) reason: Option<Cow<'static, str>>,
    pub(in crate::store) outcome: Option<&'static str>,
    pub(in crate::store) attempts: Option<u32>,
    pub(in crate::store) provider_id: Option<String>,
    pub(in crate::store) ended_at: Option<Timestamp>,
    /// What the far end told early; empty where it counts no more.
    pub(in crate::store) news: Option<String>,
    /// All that it told, JSON.
    pub(in crate::store) receipts: Option<String>,
}

/// Everything that handing out, settling or expiring writes.
#[derive(Debug, Default)]
pub(in crate::store) struct Effects {
    /// Handed out, each with a new attempt.
    pub(in crate::store) leased: Vec<LeasedDelivery>,
    /// Attempts whose process ended before they did.
    pub(in crate::store) lost: Vec<(QueueKey, u32)>,
    pub(in crate::store) attempt_ends: Vec<AttemptEnd>,
    /// Work that cannot be read: a dead letter, so that it stands in nobody's way.
    pub(in crate::store) unreadable: Vec<Unreadable>,
    pub(in crate::store) changes: Vec<DeliveryChange>,
    /// Work that is over.
    pub(in crate::store) gone: Vec<QueueKey>,
    /// Work that goes on at a time.
    pub(in crate::store) due: Vec<(QueueKey, Timestamp)>,
    /// First attempts that are put off, and why.
    pub(in crate::store) held: Vec<(QueueKey, Reason)>,
    /// Work whose last attempt was not begun: its number stays used, and it counts as none. It is due now.
    pub(in crate::store) unsent: Vec<QueueKey>,
    pub(in crate::store) suppressions: Vec<SuppressionRow>,
    /// What a recipient's notification is told to have come to.
    pub(in crate::store) receipts: Vec<ReceiptRow>,
    /// Endpoints that are told nothing any more, and why.
    pub(in crate::store) disabled: BTreeMap<EndpointKey, String>,
    /// Those of them that said that they are gone.
    gone_endpoints: BTreeSet<EndpointKey>,
    /// Whose the endpoints are that are users' own.
    pub(in crate::store) owners: BTreeMap<EndpointKey, ExternalUserId>,
    /// Endpoints that begin to fail, or no longer do.
    pub(in crate::store) failing: BTreeMap<EndpointKey, Option<Failing>>,
    /// Since when they failed before.
    failed_before: BTreeMap<EndpointKey, Option<Failing>>,
    pub(in crate::store) ended: Vec<Ended>,
    /// What follows.
    pub(in crate::store) told: Told,
    /// Lanes whose work changed.
    pub(in crate::store) lanes: BTreeSet<LaneKey>,
    /// Work whose endpoint moved while it was written, or is moving, and where it goes instead of out.
    pub(in crate::store) moved: Vec<(QueueKey, LaneKey)>,
    pub(in crate::store) stale: u64,
    /// Settlements whose lease was not the last one.
    pub(in crate::store) refused: Vec<QueueKey>,
}

/// Why a delivery is not sent again: its state, the operation that is open for it, its notification's state, and whether
/// its recipient answered, or somebody for him.
pub(in crate::store) fn not_resendable(
    state: DeliveryState,
    open: Option<&str>,
    notification: Option<&str>,
    answered: bool,
) -> Option<NotResendable> {
    match state {
        _ if notification == Some("cancelled") => Some(NotResendable::Cancelled),
        _ if answered => Some(NotResendable::Acknowledged),
        // A recall of what never arrived gives way.
        DeliveryState::Dead => None,
        DeliveryState::Accepted | DeliveryState::Delivered => open.map(|_| NotResendable::Recalled),
        state => Some(NotResendable::State(state)),
    }
}

/// Whether its sender took it back, or a newer one its place, before it went.
fn is_withdrawn(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Cancelled | DeliveryState::Superseded)
}

/// Whether a delivery in this state is what the operation is about.
fn is_open(operation: Operation, state: DeliveryState) -> bool {
    match operation {
        Operation::Deliver | Operation::Replace => state == DeliveryState::Pending,
        Operation::Recall => matches!(state, DeliveryState::Accepted | DeliveryState::Delivered),
    }
}

/// Decides about candidates: handed out, or over.
pub(in crate::store) fn hand_out(now: Timestamp, candidates: Vec<Candidate>) -> Effects {
    let mut effects = Effects::default();
    for candidate in candidates {
        effects.lanes.insert(candidate.key.clone());
        if candidate.token > 0 {
            let number = candidate.earlier.saturating_add(candidate.token);
            effects.lost.push((candidate.key(), number));
        }
        let Some(delivery) = &candidate.delivery else {
            effects.gone.push(candidate.key());
            continue;
        };
        let Some(leased) = &delivery.leased else {
            effects.gone.push(candidate.key());
            effects.changes.push(DeliveryChange {
                state: Some(DeliveryState::Dead),
                reason: Some(Cow::Borrowed(UNREADABLE)),
                ..unchanged(candidate.key(), Some(now))
            });
            continue;
        };
        if !is_open(leased.operation, delivery.state) {
            // Cancelled, superseded: its end was written where that was decided.
            effects.gone.push(candidate.key());
        } else if delivery.news == Some(Early::Arrived)
            && candidate.was_tried()
            && leased.operation != Operation::Recall
        {
            // An attempt that was lost, or said otherwise, went out after all.
            effects.end(
                now,
                leased,
                delivery.stands,
                Some(DeliveryState::Delivered),
                None,
                false,
            );
        } else if let Some(Early::Failed(reason)) = &delivery.news
            && candidate.token > 0
            && leased.operation != Operation::Recall
        {
            // An attempt of before went out, and it is known what became of it.
            effects.lost_after_all(now, leased, reason);
        } else if let (Some(reason), Operation::Deliver | Operation::Replace) =
            (delivery.withdrawn, leased.operation)
        {
            let (state, reason) = (Some(DeliveryState::Cancelled), Some(Cow::Borrowed(reason)));
            effects.end(now, leased, delivery.stands, state, reason, false);
        } else if leased.expires_at <= now {
            let reason = too_late(delivery.reason.as_deref());
            effects.end(
                now,
                leased,
                delivery.stands,
                Some(DeliveryState::Dead),
                Some(reason),
                false,
            );
        } else if delivery.suppressed {
            let reason = Some(Cow::Borrowed(SUPPRESSED));
            effects.end(
                now,
                leased,
                delivery.stands,
                Some(DeliveryState::Skipped),
                reason,
                false,
            );
        } else if delivery.turned_off && leased.operation != Operation::Recall {
            // What is taken back is what he did not want.
            let reason = Some(Cow::Borrowed(UNSUBSCRIBED));
            effects.end(
                now,
                leased,
                delivery.stands,
                Some(DeliveryState::Skipped),
                reason,
                false,
            );
        } else if delivery.disabled {
            let reason = Some(Cow::Borrowed(DISABLED));
            effects.end(
                now,
                leased,
                delivery.stands,
                Some(DeliveryState::Dead),
                reason,
                false,
            );
        } else if let Some(home) = candidate.home() {
            // Whoever wrote it had read where the endpoint was before. From two lanes it would be told out of order.
            effects.lanes.insert(home.clone());
            effects.moved.push((candidate.key(), home));
        } else if let Some((id, lane)) = &delivery.straggler {
            // Left behind by a move. Its lane may be looked at late, where the host there is down.
            effects.lanes.insert(LaneKey {
                lane: Arc::clone(lane),
                ..candidate.key.clone()
            });
            let straggler = (candidate.key.tenant.clone(), *id);
            effects.moved.push((straggler, candidate.key.clone()));
        } else if let Some(reason) = delivery
            .quiet
            .as_ref()
            .filter(|_| candidate.token == 0)
            .and_then(|quiet| quiet.reason(now))
        {
            let until = reason.until().unwrap_or(now).min(leased.expires_at);
            effects.due.push((candidate.key(), until));
            effects.held.push((candidate.key(), reason));
        } else {
            if delivery.news.is_some() {
                // It was about an attempt before a redrive.
                effects.changes.push(DeliveryChange {
                    news: Some(String::new()),
                    ..unchanged(candidate.key(), None)
                });
            }
            effects.leased.push(LeasedDelivery {
                token: candidate.token.saturating_add(1),
                ..leased.clone()
            });
        }
    }
    effects
}

/// Ends work whose time is over.
pub(in crate::store) fn expire(now: Timestamp, candidates: Vec<Candidate>) -> Effects {
    let late = candidates.into_iter().map(|mut candidate| {
        if let Some(delivery) = &mut candidate.delivery {
            (delivery.suppressed, delivery.disabled, delivery.turned_off) = (false, false, false);
        }
        candidate
    });
    hand_out(now, late.collect())
}

/// Decides about what an attempt said; `found` is none when its lease is not the last one.
pub(in crate::store) fn settle(
    effects: &mut Effects,
    now: Timestamp,
    settlement: &Settlement,
    found: Option<Found>,
    disable_after: Duration,
) {
    let leased = &*settlement.delivery;
    let key = (leased.key.tenant.clone(), leased.id);
    let next_at = match settlement.verdict {
        Verdict::Again(at)
            if found.as_ref().is_some_and(|found| {
                is_open(leased.operation, found.state)
                    && (found.news.is_none() || leased.operation == Operation::Recall)
                    && found.endpoint.is_none_or(|endpoint| endpoint.enabled)
            }) =>
        {
            Some(at)
        }
        _ => None,
    };
    effects.attempt_ends.push(AttemptEnd {
        key: key.clone(),
        number: leased.number(),
        ended_at: settlement.ended_at,
        outcome: settlement.outcome,
        status: settlement.status,
        reason: settlement.reason.clone(),
        excerpt: settlement.excerpt.clone(),
        next_at,
    });
    let Some(found) = found else {
        effects.stale += 1;
        effects.refused.push(key);
        return;
    };
    effects.lanes.insert(leased.key.clone());
    effects.lanes.insert(found.key.clone());
    effects.endpoint_said(now, settlement, found.endpoint, disable_after);
    if let (Some(id), Some(name)) = (leased.endpoint(), &leased.name) {
        let key = (leased.key.tenant.clone(), id);
        effects.owners.insert(key, name.clone());
    }
    let told = DeliveryChange {
        outcome: Some(settlement.outcome),
        attempts: Some(leased.number()),
        provider_id: settlement.provider_id.clone(),
        ..unchanged(key.clone(), None)
    };
    if !is_open(leased.operation, found.state) {
        effects.gone.push(key);
        match settlement.verdict {
            Verdict::Done { accepted }
                if is_withdrawn(found.state) && !matches!(found.news, Some(Early::Failed(_))) =>
            {
                effects.arrived_nevertheless(now, settlement, accepted, told);
            }
            // Withdrawn while it was under way: what it said is kept, its end stands already.
            _ => effects.stale += 1,
        }
        return;
    }
    if let Some(at) = next_at {
        effects.due.push((key, at));
        effects.changes.push(DeliveryChange {
            reason: settlement.reason.clone().map(Cow::Owned),
            ..told
        });
        return;
    }
    if settlement.verdict == Verdict::Unsent && found.news != Some(Early::Arrived) {
        effects.unsent.push(key);
        effects.changes.push(told);
        return;
    }
    let recalls = leased.operation == Operation::Recall;
    // What the far end told itself counts for more.
    let verdict = match (&found.news, settlement.verdict) {
        (Some(Early::Failed(reason)), verdict) if !recalls && verdict != Verdict::Gone => {
            effects.lost_after_all(now, leased, reason);
            effects.tell_last(told);
            return;
        }
        (Some(Early::Arrived), verdict) if !recalls && verdict != Verdict::Gone => {
            Verdict::Done { accepted: false }
        }
        (_, verdict) => verdict,
    };
    let state = match verdict {
        Verdict::Done { .. } if recalls => Some(DeliveryState::Recalled),
        // What could not be taken back stays where it is.
        _ if recalls => None,
        Verdict::Done { accepted: true } => Some(DeliveryState::Accepted),
        Verdict::Done { accepted: false } => Some(DeliveryState::Delivered),
        Verdict::Skipped | Verdict::Unsent => Some(DeliveryState::Skipped),
        Verdict::Again(_) | Verdict::Dead | Verdict::Gone => Some(DeliveryState::Dead),
    };
    let gone = verdict == Verdict::Gone;
    if gone {
        effects.address_is_gone(now, settlement, found.endpoint);
    }
    let given_up = matches!(verdict, Verdict::Again(_));
    let reason = match settlement.reason.as_ref() {
        _ if matches!(verdict, Verdict::Done { .. }) && !recalls => None,
        Some(last) if given_up => Some(Cow::Owned(format!("{DISABLED}; last: {last}"))),
        None if given_up => Some(Cow::Borrowed(DISABLED)),
        reason => reason.cloned().map(Cow::Owned),
    };
    effects.end(now, leased, found.stands, state, reason, gone);
    effects.tell_last(told);
}

impl Effects {
    /// Nothing goes out, and nothing moves: it is all about what ends.
    pub(in crate::store) fn only_ends(&mut self) {
        self.leased.clear();
        self.moved.clear();
    }

    /// The work is over. Without a state it was a recall that did not come about. What `stands` is where a resend came
    /// from: should it not arrive again, it arrived nevertheless.
    fn end(
        &mut self,
        now: Timestamp,
        leased: &LeasedDelivery,
        stands: Option<DeliveryState>,
        state: Option<DeliveryState>,
        reason: Option<Cow<'static, str>>,
        gone: bool,
    ) {
        let state = if leased.operation == Operation::Recall && state != Some(DeliveryState::Recalled) {
            None
        } else {
            state
        };
        let reason = match (state, reason) {
            (None, Some(reason)) => Some(Cow::Owned(format!("not recalled: {reason}"))),
            (_, reason) => reason,
        };
        let key = (leased.key.tenant.clone(), leased.id);
        self.gone.push(key.clone());
        if let (Some(stands), Some(DeliveryState::Dead | DeliveryState::Skipped | DeliveryState::Cancelled)) =
            (stands, state)
        {
            let reason = reason.map(|reason| Cow::Owned(format!("not sent again: {reason}")));
            self.changes.push(DeliveryChange {
                state: Some(stands),
                reason,
                attempts: Some(leased.number()),
                ..unchanged(key, Some(now))
            });
            return;
        }
        let state = match (stands, state) {
            (Some(DeliveryState::Delivered), Some(DeliveryState::Accepted)) => stands,
            _ => state,
        };
        if let Some(state) = state {
            self.ended.push(Ended {
                tenant: key.0.clone(),
                id: leased.id,
                brings: leased.brings,
                user: leased.user,
                name: leased.name.clone(),
                channel: leased.key.channel.clone(),
                address: leased.address.clone(),
                operation: leased.operation,
                state,
                reason: reason.as_deref().map(str::to_owned),
                gone,
                bounced: false,
            });
        }
        // Of one that was lost as well.
        self.changes.push(DeliveryChange {
            state,
            reason,
            attempts: Some(leased.number()),
            ..unchanged(key, state.map(|_| now))
        });
    }

    /// It was withdrawn while it went out, and it arrived: so it stands, and is taken back where its channel can.
    fn arrived_nevertheless(
        &mut self,
        now: Timestamp,
        settlement: &Settlement,
        accepted: bool,
        told: DeliveryChange,
    ) {
        let leased = &*settlement.delivery;
        let state = if accepted {
            DeliveryState::Accepted
        } else {
            DeliveryState::Delivered
        };
        let sent = Sent {
            id: leased.id,
            channel: leased.key.channel.clone(),
            lane: Arc::clone(&leased.key.lane),
            attempts: leased.number(),
        };
        let tenant = &leased.key.tenant;
        let recallable: &[ChannelKind] = if settlement.recalls {
            std::slice::from_ref(&leased.key.channel)
        } else {
            &[]
        };
        let (mut work, stays) = take_back(now, tenant, vec![sent], recallable);
        self.lanes.extend(work.iter().map(|work| work.key.clone()));
        self.told.work.append(&mut work);
        let reason = (!stays.is_empty()).then_some(Cow::Borrowed(NOT_RECALLABLE));
        self.end(now, leased, None, Some(state), reason, false);
        self.tell_last(told);
    }

    /// The far end said that it will never arrive, before its attempt said that it was taken: dead, whatever stood.
    fn lost_after_all(&mut self, now: Timestamp, leased: &LeasedDelivery, reason: &str) {
        let reason = Some(Cow::Owned(reason.to_owned()));
        self.end(now, leased, None, Some(DeliveryState::Dead), reason, false);
        if let Some(end) = self.ended.last_mut() {
            end.bounced = true;
        }
    }

    /// What the attempt said of itself goes with the change that was written last.
    fn tell_last(&mut self, told: DeliveryChange) {
        if let Some(change) = self.changes.last_mut() {
            change.outcome = told.outcome;
            change.attempts = told.attempts;
            change.provider_id = told.provider_id;
        }
    }

    /// Keeps since when an endpoint fails, and disables one that did so for too long. Of one batch a success counts first:
    /// it was not nothing but failures.
    fn endpoint_said(
        &mut self,
        now: Timestamp,
        settlement: &Settlement,
        endpoint: Option<FoundEndpoint>,
        disable_after: Duration,
    ) {
        let leased = &*settlement.delivery;
        let (Some(endpoint), Some(id), true) = (endpoint, leased.endpoint(), settlement.is_sent) else {
            return;
        };
        let key = (leased.key.tenant.clone(), id);
        self.failed_before.insert(key.clone(), endpoint.failing);
        match settlement.verdict {
            Verdict::Skipped | Verdict::Gone | Verdict::Unsent => {}
            Verdict::Done { .. } => {
                self.failing.insert(key, None);
            }
            Verdict::Again(_) | Verdict::Dead if endpoint.enabled => {
                let failing = Failing::once_more(endpoint.failing, now);
                self.failing.entry(key.clone()).or_insert(Some(failing));
                if now >= failing.since.after(disable_after) {
                    let reason = format!("nothing but failures since {}", failing.since);
                    self.disabled.entry(key).or_insert(reason);
                }
            }
            Verdict::Again(_) | Verdict::Dead => {}
        }
    }

    /// Those who answered well in between stay enabled. What stands already is not written again: an endpoint that is well
    /// costs nothing.
    pub(in crate::store) fn spare_the_well(&mut self) {
        let failing = &self.failing;
        let gone = &self.gone_endpoints;
        self.disabled
            .retain(|key, _| gone.contains(key) || !matches!(failing.get(key), Some(None)));
        let before = &self.failed_before;
        self.failing.retain(|key, since| before.get(key) != Some(&*since));
    }

    /// A registered endpoint is disabled; every other address is suppressed.
    fn address_is_gone(&mut self, now: Timestamp, settlement: &Settlement, endpoint: Option<FoundEndpoint>) {
        let leased = &*settlement.delivery;
        let detail = settlement.reason.clone();
        if let Some(id) = leased.endpoint() {
            if !endpoint.is_some_and(|endpoint| endpoint.enabled) {
                return;
            }
            let reason = detail.unwrap_or_else(|| "it said that it is gone".to_owned());
            let key = (leased.key.tenant.clone(), id);
            self.gone_endpoints.insert(key.clone());
            self.disabled.insert(key, reason);
        } else {
            self.suppressions.push(SuppressionRow {
                tenant: leased.key.tenant.clone(),
                channel: leased.key.channel.clone(),
                address: leased.address.clone(),
                reason: Cow::Borrowed("gone"),
                detail,
                delivery: Some(leased.id),
                at: now,
            });
        }
    }
}

pub(super) fn unchanged(key: QueueKey, ended_at: Option<Timestamp>) -> DeliveryChange {
    DeliveryChange {
        key,
        state: None,
        reason: None,
        outcome: None,
        attempts: None,
        provider_id: None,
        ended_at,
        news: None,
        receipts: None,
    }
}

fn too_late(last: Option<&str>) -> Cow<'static, str> {
    last.map_or(Cow::Borrowed(EXPIRED), |last| {
        Cow::Owned(format!("{EXPIRED}; last: {last}"))
    })
}

/// Deliveries that came to something, as they are stored, in one order; and whether they arrived.
pub(in crate::store) type Outcomes = BTreeMap<(String, String), bool>;

/// Notes what deliveries came to. Of two things in one transaction that it did not arrive counts.
pub(in crate::store) fn note_outcomes(outcomes: &mut Outcomes, effects: &Effects) {
    let ended = effects.changes.iter().filter_map(|change| {
        let arrived = match change.state? {
            // A digest of which nothing is left is cancelled at its start: its recipient has nothing more to wait for.
            DeliveryState::Dead | DeliveryState::Skipped | DeliveryState::Cancelled => false,
            DeliveryState::Accepted | DeliveryState::Delivered => true,
            _ => return None,
        };
        Some(((change.key.0.to_string(), change.key.1.to_string()), arrived))
    });
    let unreadable = effects.unreadable.iter().cloned().map(|key| (key, false));
    for (key, arrived) in ended.chain(unreadable) {
        *outcomes.entry(key).or_insert(arrived) &= arrived;
    }
}

/// When each lane of new work is due, in the order of their keys.
pub(in crate::store) fn by_lane(work: &[WorkRow]) -> BTreeMap<LaneKey, Timestamp> {
    let mut lanes = BTreeMap::new();
    for row in work {
        let due = lanes.entry(row.key.clone()).or_insert(row.due_at);
        *due = row.due_at.min(*due);
    }
    lanes
}
