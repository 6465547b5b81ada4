//! Planning: who gets a notification, and what that writes. Pure: rows in, rows out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use carillon_domain::{
    Category, CollapseKey, DeliveryId, EntryId, NotificationId, NotificationState, TenantId, Timestamp,
    TopicName, UserId,
};
use carillon_sql::StoreError;
use serde_json::value::RawValue;

use super::withdrawals::{ANSWERED, Answered};
use super::{
    broadcasts::{BroadcastPage, BroadcastState, BroadcastStep, BroadcastWrite},
    ladder::climb,
    ledger::{Ledger, NotificationEnd, NotificationEvent, TopicKey, encode, publication},
    outside::{Bars, EarlierOnes, overtake_earlier},
    records::{
        Addressee, DeliveryRow, EntryRow, PlanJob, PlanOutcome, PlanPart, PublishedTo, RecipientEnd,
        RecipientRow, RecipientState, UserKey,
    },
};
use crate::events::EventKind;
use crate::wire::{ChangeBody, EntryBody, TopicBody, TopicNotification};

/// Said of recipients whose notification was superseded.
const SUPERSEDED: &str = "a newer notification with the same collapse key took its place";
/// Said of recipients whose notification expired.
const EXPIRED: &str = "its time to live ended before it was planned";
/// Said of recipients who were erased between acceptance and planning.
const ERASED: &str = "the user was erased";

/// What a collapse key names within one mailbox.
pub(super) type OpenKey = (UserKey, Category, CollapseKey);

/// Entries that a batch writes. One that was added and then replaced by the same batch is written once, as it is in the end.
pub(super) type Entries = HashMap<(UserKey, EntryId), EntryRow>;

/// What planning knows beside the ledger.
#[derive(Default)]
pub(super) struct Known {
    /// Open entries with a collapse key that one of the jobs has.
    pub(super) open: HashMap<OpenKey, EntryRow>,
    /// Users who were erased.
    pub(super) erased: HashSet<UserKey>,
    /// Who answered for all what is planned in parts.
    pub(super) answered: HashMap<(TenantId, NotificationId), Answered>,
    /// What was planned earlier of the jobs that resume.
    pub(super) before: HashMap<(TenantId, NotificationId), Before>,
    /// What stands against sending outside the inbox.
    pub(super) bars: Bars,
    /// Deliveries that a newer one with their collapse key takes the place of.
    pub(super) earlier: EarlierOnes,
    /// Other notifications of the same recipients, by what their collapse keys name.
    pub(super) rivals: HashMap<OpenKey, Vec<Rival>>,
}

/// A notification that a recipient has with the same collapse key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rival {
    pub(super) notification: NotificationId,
    /// Which is newer is said by when they were to be sent, not by when they happened to be planned.
    pub(super) send_at: Timestamp,
    /// Whether its recipient is open.
    pub(super) is_open: bool,
}

/// What was planned earlier of a notification.
#[derive(Default)]
pub(super) struct Before {
    /// Who of those that are to be planned now has a recipient's row.
    pub(super) users: HashSet<UserId>,
    /// Whether it was sent to anybody.
    pub(super) delivered: bool,
    /// Where it was published.
    pub(super) topics: Vec<PublishedTo>,
}

/// Plans `jobs` in their order; `live` says of each whether its lease still holds.
pub(super) fn plan(
    ledger: &mut Ledger,
    mut known: Known,
    jobs: &[PlanJob],
    live: &[bool],
) -> Result<Vec<PlanOutcome>, StoreError> {
    let mut seen = HashSet::new();
    let mut entries = Entries::new();
    let mut outcomes = Vec::with_capacity(jobs.len());
    for (job, live) in jobs.iter().zip(live) {
        if !live || !seen.insert((&job.lease.tenant, job.lease.notification)) {
            outcomes.push(PlanOutcome::Stale);
            continue;
        }
        let expired = job.notification.expires_at <= ledger.now;
        let before = known
            .before
            .remove(&(job.lease.tenant.clone(), job.lease.notification))
            .unwrap_or_default();
        let answered = known
            .answered
            .remove(&(job.lease.tenant.clone(), job.lease.notification));
        let made = ledger.writes.recipients.len();
        let addressees = job
            .users
            .iter()
            .filter(|addressee| !before.users.contains(&addressee.user));
        if expired {
            for addressee in addressees {
                if job.notification.digest.is_some() {
                    // Its members look for their next step.
                    let key = (job.lease.tenant.clone(), job.lease.notification, addressee.user);
                    ledger.writes.digests.failed.push(key);
                }
                ledger.writes.recipients.push(recipient(
                    job,
                    addressee,
                    RecipientState::Expired,
                    Some(EXPIRED),
                ));
            }
        } else {
            let content: &RawValue = serde_json::from_str(&job.notification.content).map_err(|error| {
                StoreError::Corrupt(format!("content of {}: {error}", job.notification.id))
            })?;
            for addressee in addressees {
                let key = (job.lease.tenant.clone(), addressee.user);
                if known.erased.contains(&key) {
                    ledger.writes.recipients.push(recipient(
                        job,
                        addressee,
                        RecipientState::Erased,
                        Some(ERASED),
                    ));
                    continue;
                }
                if let Some(answered) = &answered {
                    start_answered(ledger, job, addressee, answered);
                    continue;
                }
                let rivals = rivals_of(&known, job, addressee);
                if rivals
                    .iter()
                    .any(|rival| rival.send_at > job.notification.send_at && rival.send_at <= ledger.now)
                {
                    let (state, reason) = (RecipientState::Superseded, Some(SUPERSEDED));
                    ledger
                        .writes
                        .recipients
                        .push(recipient(job, addressee, state, reason));
                    continue;
                }
                overtake_earlier(ledger, &known.earlier, job, addressee);
                supersede(ledger, job, addressee, rivals);
                climb(ledger, &mut known, &mut entries, job, addressee, content, None)?;
                remember(&mut known, job, addressee);
            }
        }
        // Where some got it before its time to live ended, it was sent: the others' rows say that they did not get it.
        // The end of the time to live ends a broadcast: who was not reached by then is none of its recipients.
        let more = job.part == PlanPart::More && !(expired && job.broadcast.is_some());
        if let Some(step) = &job.broadcast {
            let planned = ledger.writes.recipients.len() - made;
            ledger
                .writes
                .broadcasts
                .push(page(job, step, expired, planned as u64));
        }
        let (state, outcome) = if more {
            (NotificationState::Accepted, PlanOutcome::Partly)
        } else if expired && !before.delivered && before.topics.is_empty() {
            (NotificationState::Expired, PlanOutcome::Expired)
        } else {
            (NotificationState::Planned, PlanOutcome::Planned)
        };
        let topics = publish(ledger, job, before.topics, expired)?;
        let end = NotificationEnd {
            tenant: job.lease.tenant.clone(),
            id: job.lease.notification,
            state,
            topics,
            plan: Some(Arc::clone(&job.plan.text)),
        };
        if outcome == PlanOutcome::Partly {
            ledger.writes.published.push(end);
        } else {
            let kind = if outcome == PlanOutcome::Expired {
                EventKind::NotificationExpired
            } else {
                EventKind::NotificationPlanned
            };
            let event = NotificationEvent {
                notification_id: end.id,
            };
            ledger.tell(&end.tenant, kind, &event);
            ledger.writes.ended.push(end);
        }
        outcomes.push(outcome);
    }
    ledger.writes.entries.extend(entries.into_values());
    Ok(outcomes)
}

/// How far a broadcast is after a job.
fn page(job: &PlanJob, step: &BroadcastStep, expired: bool, planned: u64) -> BroadcastWrite {
    let (state, cursor) = match step.page {
        _ if expired => (BroadcastState::Expired, None),
        BroadcastPage::Piece => (BroadcastState::Running, None),
        BroadcastPage::Through(user) => (BroadcastState::Running, Some(user)),
        BroadcastPage::Last => (BroadcastState::Done, None),
    };
    BroadcastWrite {
        tenant: job.lease.tenant.clone(),
        notification: job.lease.notification,
        state,
        started_at: step.started_at,
        cursor,
        planned,
        held: step.held,
    }
}

fn recipient(
    job: &PlanJob,
    addressee: &Addressee,
    state: RecipientState,
    reason: Option<&'static str>,
) -> RecipientRow {
    RecipientRow {
        tenant: job.lease.tenant.clone(),
        notification: job.lease.notification,
        user: addressee.user,
        state,
        reason,
        entry: None,
        seq: None,
        plain: addressee.plain.clone(),
        phase: None,
        step: None,
        step_at: None,
        counted: false,
    }
}

/// One answer was enough, and it was there before this recipient was planned: nothing is sent to him.
fn start_answered(ledger: &mut Ledger, job: &PlanJob, addressee: &Addressee, answered: &Answered) {
    ledger
        .writes
        .recipients
        .push(recipient(job, addressee, RecipientState::Open, None));
    ledger.writes.recipient_ends.push(RecipientEnd {
        tenant: job.lease.tenant.clone(),
        notification: job.lease.notification,
        user: addressee.user,
        state: RecipientState::Acknowledged,
        reason: Some(ANSWERED),
        acknowledgement: Some(answered.for_others()),
    });
}

/// How a notification comes into a mailbox.
pub(super) struct Shown<'a> {
    /// The step of the plan that brings it.
    pub(super) step: u32,
    /// Whether alerts are held or turned off.
    pub(super) silent: bool,
    /// What the notification says, unless the addressee has a text of his own.
    pub(super) content: &'a RawValue,
}

/// Adds the notification to one mailbox, or lets it take the place of the open entry with its collapse key. Answers the
/// entry and its change.
pub(super) fn deliver(
    ledger: &mut Ledger,
    known: &mut Known,
    entries: &mut Entries,
    job: &PlanJob,
    addressee: &Addressee,
    shown: Shown<'_>,
) -> Result<(EntryId, u64), StoreError> {
    let Shown {
        step,
        silent,
        content,
    } = shown;
    let notification = &job.notification;
    let now = ledger.now;
    let user = addressee.user;
    let key = (job.lease.tenant.clone(), user);
    let own: &RawValue = match &addressee.content {
        None => content,
        Some(text) => serde_json::from_str(text)
            .map_err(|error| StoreError::Corrupt(format!("content of {}: {error}", notification.id)))?,
    };
    let open_key = open_key(job, addressee);
    let replaced = open_key.as_ref().and_then(|open| known.open.remove(open));
    let entry = EntryRow {
        tenant: key.0.clone(),
        user,
        id: replaced
            .as_ref()
            .map_or_else(|| EntryId::at(now), |entry| entry.id),
        notification: notification.id,
        category: notification.category.clone(),
        collapse_key: notification.collapse_key.clone(),
        priority: notification.priority,
        content: Arc::clone(addressee.content.as_ref().unwrap_or(&notification.content)),
        created_at: replaced.as_ref().map_or(now, |entry| entry.created_at),
        updated_at: now,
        arrived_at: now,
        seen_at: None,
        read_at: None,
        archived_at: None,
        snoozed_until: None,
        acknowledgement: None,
        seq: ledger.next_seq(&key)?,
        gone_at: None,
        silent,
    };
    let before = replaced.as_ref().map(EntryRow::counted).unwrap_or_default();
    ledger.recount(&key, before, entry.counted())?;
    let counts = ledger.mailbox(&key)?.counts;
    let body = EntryBody::new(&entry, own);
    match &replaced {
        None => ledger.append(&key, &ChangeBody::Added { entry: body, counts })?,
        Some(old) => {
            let change = ChangeBody::Replaced {
                entry: body,
                superseded: old.notification,
                counts,
            };
            ledger.append(&key, &change)?;
            supersede_shown(ledger, old);
        }
    }
    ledger.writes.deliveries.push(DeliveryRow {
        tenant: key.0.clone(),
        notification: notification.id,
        user,
        step,
        id: DeliveryId::at(now),
        created_at: now,
    });
    if let Some(open) = open_key {
        known.open.insert(open, entry.clone());
    }
    let shown = (entry.id, entry.seq);
    entries.insert((key, entry.id), entry);
    Ok(shown)
}

/// What a notification's collapse key names for a recipient.
fn open_key(job: &PlanJob, addressee: &Addressee) -> Option<OpenKey> {
    let collapse = job.notification.collapse_key.clone()?;
    let user = (job.lease.tenant.clone(), addressee.user);
    Some((user, job.notification.category.clone(), collapse))
}

/// A recipient's other notifications with the same collapse key.
fn rivals_of(known: &Known, job: &PlanJob, addressee: &Addressee) -> Vec<Rival> {
    let named = open_key(job, addressee).and_then(|key| known.rivals.get(&key));
    let others = |rival: &&Rival| rival.notification != job.notification.id;
    named.into_iter().flatten().filter(others).copied().collect()
}

/// Those of the same batch find it as well.
fn remember(known: &mut Known, job: &PlanJob, addressee: &Addressee) {
    if let Some(key) = open_key(job, addressee) {
        known.rivals.entry(key).or_default().push(Rival {
            notification: job.notification.id,
            send_at: job.notification.send_at,
            is_open: true,
        });
    }
}

/// Earlier notifications with the same collapse key that are open end for this user: the newest one is what goes on.
fn supersede(ledger: &mut Ledger, job: &PlanJob, addressee: &Addressee, rivals: Vec<Rival>) {
    for earlier in rivals.into_iter().filter(|rival| rival.is_open) {
        let key = (job.lease.tenant.clone(), earlier.notification, addressee.user);
        ledger.end_recipient(&key, RecipientState::Superseded, Some(SUPERSEDED), None);
    }
}

/// The replaced notification ends for this user.
fn supersede_shown(ledger: &mut Ledger, old: &EntryRow) {
    let key = (old.tenant.clone(), old.notification, old.user);
    ledger.end_recipient(&key, RecipientState::Superseded, Some(SUPERSEDED), None);
}

/// Publishes the notification to those of its topics that it was not published to before, unless it expired. Answers
/// JSON of where it stands now.
fn publish(
    ledger: &mut Ledger,
    job: &PlanJob,
    mut published: Vec<PublishedTo>,
    expired: bool,
) -> Result<Option<String>, StoreError> {
    let earlier: HashSet<TopicName> = published.iter().map(|to| to.topic.clone()).collect();
    let mut topics = job
        .topics
        .iter()
        .filter(|(topic, _)| !expired && !earlier.contains(topic))
        .peekable();
    if topics.peek().is_none() {
        return if published.is_empty() {
            Ok(None)
        } else {
            encode(&published).map(Some)
        };
    }
    let notification = &job.notification;
    let content: &RawValue = serde_json::from_str(&notification.content)
        .map_err(|error| StoreError::Corrupt(format!("content of {}: {error}", notification.id)))?;
    let body = TopicBody::Notification {
        notification: TopicNotification {
            id: notification.id,
            category: &notification.category,
            collapse_key: notification.collapse_key.as_ref(),
            priority: notification.priority,
            content,
            created_at: notification.created_at,
            send_at: notification.send_at,
            expires_at: notification.expires_at,
        },
    };
    let data = Bytes::from(encode(&body)?);
    for (topic, kept) in topics {
        let key: TopicKey = (job.lease.tenant.clone(), topic.clone());
        let position = if *kept {
            Some(ledger.append_publication(&key, data.clone(), None)?)
        } else {
            ledger
                .writes
                .envelopes
                .push(publication(ledger.now, &key, None, data.clone(), None));
            None
        };
        published.push(PublishedTo {
            topic: topic.clone(),
            position,
        });
    }
    encode(&published).map(Some)
}
