//! What a recipient's climb writes. What happens is decided by [`carillon_policy::climb`]; here the rows become its facts,
//! and its moves become rows. Pure: rows in, rows out.

use std::{borrow::Cow, sync::Arc};

use carillon_domain::{ChannelKind, EntryId, TenantId, Timestamp};
use carillon_policy::{
    AddressFacts, Alert, Came, DigestName, End, InApp, Joining, Move, Plan, Reason, Stand, Start, StepStand,
    Verdict,
};
use carillon_sql::StoreError;
use serde_json::value::RawValue;

use super::{
    records::{
        ClimbLease, ClimbRow, Decision, Ending, Escalation, Gathered, RecipientKey, RecipientMove, Skip, Why,
    },
    rows::LATE,
    standing::Standing,
};
use crate::{
    policy::{About, Wishes},
    store::{
        digests::{DigestKey, DigestRow},
        ledger::Ledger,
        outside::{Bars, Sending, send},
        plan::{Entries, Known, Shown, deliver},
        policy::{AlertRow, Choices},
        records::{
            Addressee, NO_ADDRESS, Outgoing, PlanJob, RecipientPhase, RecipientRow, RecipientState,
            UNVERIFIED,
        },
    },
};

/// Said of recipients whose ladder came to its end.
const EXHAUSTED: &str = "the plan's steps are over, and nobody answered";
/// Said of recipients of whom everything that was sent failed for good.
const ALL_FAILED: &str = "everything that was sent failed for good";
/// Said of recipients to whom nothing was to be sent.
const NOTHING_TO_SEND: &str = "nothing was to be sent";

/// What happens to a recipient, and where.
pub(in crate::store) struct Decided<'a> {
    pub(in crate::store) plan: Cow<'a, Plan>,
    /// By the index of the moves' alerts.
    pub(in crate::store) ways: Vec<&'a Outgoing>,
    pub(in crate::store) moves: Vec<Move>,
}

/// Decides about a recipient.
pub(in crate::store) fn decide<'a>(
    now: Timestamp,
    bars: &Bars,
    job: &'a PlanJob,
    addressee: &'a Addressee,
    stand: &Stand,
) -> Decided<'a> {
    let notification = &job.notification;
    let plan = match &addressee.plain {
        None => Cow::Borrowed(&job.plan.plan),
        Some(plain) => Cow::Owned(Plan::of_address(plain.channel.clone())),
    };
    let ways: Vec<&Outgoing> = addressee
        .outside
        .iter()
        .filter(|outgoing| !outgoing.leads_nowhere())
        .collect();
    let tenant = &job.policies.tenant;
    let nothing = Choices::default();
    let chosen = bars.choices.get(&(job.lease.tenant.clone(), addressee.user));
    let wishes = Wishes::new(chosen.unwrap_or(&nothing), tenant, addressee.zone.as_deref());
    let about = About {
        category: &notification.category,
        category_policy: &job.policies.category,
        tenant,
        critical: job.critical,
        is_digest: notification.digest.is_some(),
        closes_at: notification.expires_at,
    };
    let addresses: Vec<AddressFacts> = ways
        .iter()
        .map(|outgoing| AddressFacts {
            open_digest: wishes
                .digest(&about, &outgoing.channel)
                .and_then(|name| {
                    bars.digests
                        .get(&digest_key(job, addressee, &outgoing.channel, name))
                })
                .map(DigestRow::open),
            ..address(bars, &job.lease.tenant, outgoing)
        })
        .collect();
    let facts = wishes.facts(&about, &addresses, addressee.active_until);
    let moves = carillon_policy::climb(&plan, stand, &facts, now);
    Decided { plan, ways, moves }
}

/// The digest of that name that a recipient's alerts over a channel join.
fn digest_key(job: &PlanJob, addressee: &Addressee, channel: &ChannelKind, name: &DigestName) -> DigestKey {
    DigestKey {
        tenant: job.lease.tenant.clone(),
        user: addressee.user,
        category: job.notification.category.clone(),
        channel: channel.clone(),
        name: Arc::from(name.as_str()),
        key: Arc::from(
            job.notification
                .digest_key
                .as_ref()
                .map_or("", |key| key.as_str()),
        ),
    }
}

/// Looks at a recipient, new or as it stands, and writes what follows.
pub(in crate::store) fn climb(
    ledger: &mut Ledger,
    known: &mut Known,
    entries: &mut Entries,
    job: &PlanJob,
    addressee: &Addressee,
    content: &RawValue,
    standing: Option<&Standing>,
) -> Result<(), StoreError> {
    let fresh = Stand::default();
    let stand = standing.map_or(&fresh, |standing| &standing.stand);
    let Decided { plan, ways, moves } = decide(ledger.now, &known.bars, job, addressee, stand);
    let mut climb = Climb {
        key: (job.lease.tenant.clone(), job.notification.id, addressee.user),
        job,
        addressee,
        plan: &plan,
        ways,
        standing,
        content,
        entry: None,
        step: stand
            .step
            .zip(standing.and_then(|standing| standing.since))
            .map(|(step, since)| (number(step.index), since)),
        counted: stand.counted,
        started: false,
        rest: Rest::Open(RecipientPhase::Climbing, None),
    };
    for made in moves {
        climb.make(ledger, known, entries, made)?;
    }
    climb.write(ledger)
}

fn number(step: usize) -> u32 {
    u32::try_from(step).unwrap_or(u32::MAX)
}

fn address(bars: &Bars, tenant: &TenantId, outgoing: &Outgoing) -> AddressFacts {
    AddressFacts {
        suppressed: bars.is_suppressed(tenant, outgoing),
        unverified: outgoing.skip == Some(UNVERIFIED),
        refused: outgoing
            .skip
            .filter(|skip| *skip != UNVERIFIED)
            .map(str::to_owned),
        active_until: outgoing.active_until,
        score: bars.score(tenant, outgoing),
        ..AddressFacts::new(outgoing.channel.clone())
    }
}

/// Why an address is skipped, as its delivery says it.
pub(in crate::store) fn said(reason: &Reason) -> Cow<'static, str> {
    match reason {
        Reason::Preference { .. } => Cow::Borrowed("unsubscribed"),
        Reason::Channel { detail } => Cow::Owned(detail.clone()),
        other => Cow::Borrowed(other.as_str()),
    }
}

/// A climb under way.
struct Climb<'a> {
    key: RecipientKey,
    job: &'a PlanJob,
    addressee: &'a Addressee,
    plan: &'a Plan,
    /// By the index of their facts.
    ways: Vec<&'a Outgoing>,
    /// None of a new recipient.
    standing: Option<&'a Standing>,
    content: &'a RawValue,
    /// The entry and its change, where this climb wrote it.
    entry: Option<(EntryId, u64)>,
    step: Option<(u32, Timestamp)>,
    counted: bool,
    /// Whether a step started in this climb.
    started: bool,
    rest: Rest,
}

/// What it comes to rest with.
enum Rest {
    Open(RecipientPhase, Option<Timestamp>),
    Over(RecipientState, &'static str),
}

impl Climb<'_> {
    fn make(
        &mut self,
        ledger: &mut Ledger,
        known: &mut Known,
        entries: &mut Entries,
        made: Move,
    ) -> Result<(), StoreError> {
        match made {
            Move::Start(start) => self.start(ledger, known, entries, start)?,
            Move::Pass {
                step,
                reason,
                skipped,
            } => {
                let step = number(step);
                self.alerts(ledger, known, step, &skipped)?;
                let decision = match reason {
                    Reason::Condition { .. } => Decision::Passed(Why { reason }),
                    Reason::Cap { .. } => Decision::Capped(Why { reason }),
                    reason => Decision::Skipped(Skip {
                        reason,
                        channel: None,
                    }),
                };
                ledger.decide(&self.key, Some(step), &decision)?;
            }
            Move::Hold {
                step,
                until,
                reason,
                in_app,
            } => {
                let step = number(step);
                if let Some(in_app) = in_app {
                    self.inbox(ledger, known, entries, step, in_app)?;
                }
                let before = self.standing.and_then(|standing| standing.held.as_ref());
                let same = before.is_some_and(|(at, held)| *at == step && held.as_str() == reason.as_str());
                if !same {
                    ledger.decide(&self.key, Some(step), &Decision::Held(Why { reason }))?;
                }
                self.rest = Rest::Open(RecipientPhase::Held, Some(until));
            }
            Move::Wait { until } => self.rest = Rest::Open(RecipientPhase::Climbing, until),
            Move::End(end) => {
                let (state, reason) = match end {
                    End::Completed if self.job.notification.expires_at <= ledger.now => {
                        (RecipientState::Completed, LATE)
                    }
                    End::Completed => (RecipientState::Completed, EXHAUSTED),
                    End::Expired => (RecipientState::Expired, LATE),
                    End::Skipped => (RecipientState::Skipped, NOTHING_TO_SEND),
                    End::Dead => (RecipientState::Dead, ALL_FAILED),
                    // Whoever answers or withdraws ends it himself.
                    End::Acknowledged | End::Cancelled => return Ok(()),
                };
                let decision = Decision::Ended(Ending {
                    state: Cow::Borrowed(state.as_str()),
                    reason: Cow::Borrowed(reason),
                });
                let step = self.step.map(|(step, _)| step);
                ledger.decide(&self.key, step, &decision)?;
                self.rest = Rest::Over(state, reason);
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        ledger: &mut Ledger,
        known: &mut Known,
        entries: &mut Entries,
        start: Start,
    ) -> Result<(), StoreError> {
        let step = number(start.step);
        if let (Some(standing), false) = (self.standing, self.started) {
            if let Some(before) = standing.stand.step {
                let why = escalation(before, ledger.now);
                ledger.decide(&self.key, Some(step), &Decision::Escalated(why))?;
            }
            let held = standing.held.as_ref().map(|(_, reason)| reason);
            if let Some(reason) = held.filter(|reason| !matches!(reason, Reason::Active { .. })) {
                let reason = reason.clone();
                ledger.decide(&self.key, Some(step), &Decision::Released(Why { reason }))?;
            }
        }
        self.started = true;
        if let Some(in_app) = start.in_app {
            self.inbox(ledger, known, entries, step, in_app)?;
        }
        self.alerts(ledger, known, step, &start.alerts)?;
        let capped = start.alerts.iter().find_map(|alert| match &alert.verdict {
            Verdict::Skip(reason @ Reason::Cap { .. }) => Some(reason.clone()),
            _ => None,
        });
        if let Some(reason) = capped {
            ledger.decide(&self.key, Some(step), &Decision::Capped(Why { reason }))?;
        }
        self.counted |= start.counts;
        if start.counts && self.job.policies.count() {
            self.count(ledger, known);
        }
        // A deadline may run from later than now: where all goes out with digests.
        let lasts = self.plan.steps.get(start.step).and_then(|step| step.lasts());
        let since = start
            .deadline_at
            .zip(lasts)
            .map_or(ledger.now, |(deadline, lasts)| deadline.before(lasts));
        self.step = Some((step, since));
        Ok(())
    }

    /// Counts the alert, for this transaction's later decisions too.
    fn count(&self, ledger: &mut Ledger, known: &mut Known) {
        let (tenant, notification, user) = self.key.clone();
        let choices = known.bars.choices.entry((tenant.clone(), user)).or_default();
        choices.alerts.push(ledger.now);
        ledger.writes.alerts.push(AlertRow {
            tenant,
            user,
            at: ledger.now,
            notification,
            category: self.job.notification.category.clone(),
        });
    }

    /// Writes the entry, or why there is none.
    fn inbox(
        &mut self,
        ledger: &mut Ledger,
        known: &mut Known,
        entries: &mut Entries,
        step: u32,
        in_app: InApp,
    ) -> Result<(), StoreError> {
        match in_app {
            InApp::Write { silent } if self.addressee.in_app => {
                let (job, addressee) = (self.job, self.addressee);
                let shown = Shown {
                    step,
                    silent,
                    content: self.content,
                };
                self.entry = Some(deliver(ledger, known, entries, job, addressee, shown)?);
            }
            InApp::Write { .. } => {}
            InApp::Skip(reason) => {
                // Decided anew at each look while its alerts are held, and told once.
                let told = |standing: &Standing| standing.without_entry.contains(&step);
                if !self.standing.is_some_and(told) {
                    let channel = Some(ChannelKind::in_app());
                    let skip = Skip { reason, channel };
                    ledger.decide(&self.key, Some(step), &Decision::Skipped(skip))?;
                }
            }
        }
        Ok(())
    }

    /// Writes a step's deliveries outside the inbox, and those that are skipped.
    fn alerts(
        &self,
        ledger: &mut Ledger,
        known: &mut Known,
        step: u32,
        alerts: &[Alert],
    ) -> Result<(), StoreError> {
        let Some(of) = self.plan.steps.get(step as usize) else {
            return Ok(());
        };
        let mut sendings: Vec<Sending<'_>> = Vec::with_capacity(alerts.len());
        for alert in alerts {
            let Some(way) = self.ways.get(alert.address) else {
                continue;
            };
            let (skip, digest) = match &alert.verdict {
                Verdict::Send => (None, None),
                Verdict::Skip(reason) => (Some(said(reason)), None),
                Verdict::Digest { name, joining } => {
                    let key = digest_key(self.job, self.addressee, &way.channel, name);
                    // Several addresses of a channel join once.
                    if !sendings
                        .iter()
                        .any(|sending| sending.digest.as_ref() == Some(&key))
                    {
                        self.join(ledger, known, step, &key, *joining)?;
                    }
                    (None, Some(key))
                }
            };
            sendings.push(Sending { way, skip, digest });
        }
        let nowhere = self
            .addressee
            .outside
            .iter()
            .filter(|outgoing| outgoing.leads_nowhere() && of.channels.contains(&outgoing.channel));
        sendings.extend(nowhere.map(|way| Sending {
            way,
            skip: Some(Cow::Borrowed(way.skip.unwrap_or(NO_ADDRESS))),
            digest: None,
        }));
        if let Some(standing) = self.standing {
            sendings.retain(|sending| {
                let (channel, address) = (sending.way.channel.clone(), sending.way.address.clone());
                !standing.written.contains(&(step, channel, address))
            });
        }
        send(
            ledger,
            &mut known.earlier,
            self.job,
            self.addressee,
            step,
            sendings,
        );
        Ok(())
    }

    /// Joins a digest, which this transaction's later decisions find as it is then.
    fn join(
        &self,
        ledger: &mut Ledger,
        known: &mut Known,
        step: u32,
        key: &DigestKey,
        joining: Joining,
    ) -> Result<(), StoreError> {
        let digests = &mut known.bars.digests;
        let row = DigestRow::joined(digests.get(key), ledger.now, joining);
        digests.insert(key.clone(), row);
        ledger.writes.digests.open.insert(key.clone(), row);
        let gathered = Gathered {
            channel: key.channel.clone(),
            name: key.name.clone(),
            key: key.key.clone(),
            until: row.closes_at,
        };
        ledger.decide(&self.key, Some(step), &Decision::Gathered(gathered))
    }

    fn write(self, ledger: &mut Ledger) -> Result<(), StoreError> {
        let (state, reason, phase, due) = match self.rest {
            Rest::Open(phase, due) => (RecipientState::Open, None, Some(phase), due),
            Rest::Over(state, reason) => (state, Some(reason), None, None),
        };
        if reason.is_some() && state != RecipientState::Completed && self.job.notification.digest.is_some() {
            ledger.writes.digests.failed.push(self.key.clone());
        }
        if self.standing.is_none() {
            let (tenant, notification, user) = self.key.clone();
            ledger.writes.recipients.push(RecipientRow {
                tenant,
                notification,
                user,
                state,
                reason,
                entry: self.entry.map(|(entry, _)| entry),
                seq: self.entry.map(|(_, seq)| seq),
                plain: self.addressee.plain.clone(),
                phase,
                step: self.step.map(|(step, _)| step),
                step_at: self.step.map(|(_, since)| since),
                counted: self.counted,
            });
        } else {
            // Also of one that ends: which step it came to, and the entry that shows it.
            ledger.writes.moves.push(RecipientMove {
                key: self.key.clone(),
                phase: phase.unwrap_or(RecipientPhase::Climbing),
                step: self.step,
                counted: self.counted,
                entry: self.entry,
            });
            if let Some(reason) = reason {
                ledger.end_recipient(&self.key, state, Some(reason), None);
                return Ok(());
            }
        }
        let token = self.standing.map(|standing| standing.token);
        match (due, token) {
            (Some(due_at), token) => ledger.writes.climbs.push(ClimbRow {
                key: self.key,
                due_at,
                token,
            }),
            (None, Some(token)) => ledger.writes.climb_ends.push(ClimbLease { key: self.key, token }),
            (None, None) => {}
        }
        Ok(())
    }
}

fn escalation(before: StepStand, now: Timestamp) -> Escalation {
    if before.came == Came::Failed {
        Escalation::Failed
    } else if before.deadline_at.is_some_and(|deadline| deadline <= now) {
        Escalation::Deadline
    } else {
        Escalation::Inactive
    }
}
