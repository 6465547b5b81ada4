//! What one transaction writes, worked out in memory from the rows that it locked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use carillon_domain::{
    Acknowledgement, Counts, DeliveryId, Envelope, EnvelopeId, EnvelopeKind, NotificationId,
    NotificationState, Position, PublisherInfo, Subject, TenantId, Timestamp, TopicName,
};
use carillon_sql::StoreError;

use super::broadcasts::BroadcastWrite;
use super::digests::DigestWrites;
use super::endpoints::EventRow;
use super::ladder::{ClimbLease, ClimbRow, Decision, DecisionRow, RecipientKey, RecipientMove};
use super::listeners::{Listeners, Told};
use super::outside::{OutsideRow, WorkRow};
use super::policy::AlertRow;
use super::records::{
    ConfirmationRow, DeliveryRow, EntryRow, LogRow, MailboxRow, PublicationRow, ReceiptRow, RecipientEnd,
    RecipientRow, RecipientState, StoreLimits, TopicRow, UserKey,
};
use crate::{events::EventKind, wire::ChangeBody};

/// How far logs grow beyond their bound at the most. A log's rows stand in the order in which all logs were written, each on a page of its
/// own: a cut costs a page for each row, and logs that fill up together are cut together.
const SPARE: u64 = 16;

/// Whose topic.
pub(super) type TopicKey = (TenantId, TopicName);

/// A notification that left the state `accepted`.
#[derive(Debug)]
pub(super) struct NotificationEnd {
    pub(super) tenant: TenantId,
    pub(super) id: NotificationId,
    pub(super) state: NotificationState,
    /// JSON of where it was published, if it has topic targets.
    pub(super) topics: Option<String>,
    /// JSON of the plan that is climbed. The first one stays.
    pub(super) plan: Option<Arc<str>>,
}

/// Every row that a transaction writes. Both backends write it in the order of the fields.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) mailboxes: Vec<MailboxRow>,
    pub(super) log: Vec<LogRow>,
    /// Cut off up to and including the floor of these mailboxes.
    pub(super) log_cuts: Vec<MailboxRow>,
    /// New, or shown anew by a replacement: the whole row.
    pub(super) entries: Vec<EntryRow>,
    /// Only their state.
    pub(super) entry_states: Vec<EntryRow>,
    pub(super) recipients: Vec<RecipientRow>,
    /// Open recipients that go on.
    pub(super) moves: Vec<RecipientMove>,
    pub(super) recipient_ends: Vec<RecipientEnd>,
    pub(super) deliveries: Vec<DeliveryRow>,
    pub(super) receipts: Vec<ReceiptRow>,
    pub(super) confirmations: Vec<ConfirmationRow>,
    pub(super) topics: Vec<TopicRow>,
    pub(super) topic_log: Vec<PublicationRow>,
    /// Cut off up to and including the floor of these topics.
    pub(super) topic_cuts: Vec<TopicRow>,
    /// These stay accepted, since more of them is planned later; only where they were published is written.
    pub(super) published: Vec<NotificationEnd>,
    /// These end; their outbox rows go.
    pub(super) ended: Vec<NotificationEnd>,
    /// How far those are that are planned page by page.
    pub(super) broadcasts: Vec<BroadcastWrite>,
    /// Deliveries outside the inbox, new.
    pub(super) outside: Vec<OutsideRow>,
    /// Their work, and other work outside the inbox.
    pub(super) work: Vec<WorkRow>,
    /// Deliveries outside the inbox that newer ones took the place of, in one order; and whether something else goes to
    /// where they went.
    pub(super) overtaken: BTreeMap<(TenantId, DeliveryId), bool>,
    /// What endpoints are told; its deliveries are among those outside.
    pub(super) events: Vec<EventRow>,
    /// Digests that were opened or joined, and who waits in them.
    pub(super) digests: DigestWrites,
    /// Alerts that count against caps.
    pub(super) alerts: Vec<AlertRow>,
    /// What was decided about recipients, in order.
    pub(super) decisions: Vec<DecisionRow>,
    /// When something is due of open recipients.
    pub(super) climbs: Vec<ClimbRow>,
    /// Climbs after which nothing is due, unless something fell due meanwhile.
    pub(super) climb_ends: Vec<ClimbLease>,
    /// For the bus, after the commit, in order.
    pub(super) envelopes: Vec<Envelope>,
}

impl Writes {
    /// Recipients who answered.
    pub(super) fn answers(&self) -> Vec<RecipientEnd> {
        let answered = |end: &&RecipientEnd| end.state == RecipientState::Acknowledged;
        self.recipient_ends.iter().filter(answered).cloned().collect()
    }
}

/// An event about a notification.
#[derive(serde::Serialize)]
pub(super) struct NotificationEvent {
    pub(super) notification_id: NotificationId,
}

/// Mailboxes and topics under lock, and what is to be written.
pub(super) struct Ledger {
    pub(super) now: Timestamp,
    limits: StoreLimits,
    mailboxes: HashMap<UserKey, Numbered<MailboxRow>>,
    topics: HashMap<TopicKey, Numbered<TopicRow>>,
    pub(super) writes: Writes,
    /// Who is told what happens.
    pub(super) listeners: Listeners,
    told: Told,
}

struct Numbered<T> {
    row: T,
    touched: bool,
}

impl Ledger {
    /// A ledger over everything that the transaction may append to.
    pub(super) fn new(
        now: Timestamp,
        limits: StoreLimits,
        mailboxes: impl IntoIterator<Item = MailboxRow>,
        topics: impl IntoIterator<Item = TopicRow>,
    ) -> Self {
        let untouched_mailbox =
            |row: MailboxRow| ((row.tenant.clone(), row.user), Numbered { row, touched: false });
        let untouched_topic = |row: TopicRow| {
            (
                (row.tenant.clone(), row.topic.clone()),
                Numbered { row, touched: false },
            )
        };
        Self {
            now,
            limits,
            mailboxes: mailboxes.into_iter().map(untouched_mailbox).collect(),
            topics: topics.into_iter().map(untouched_topic).collect(),
            writes: Writes::default(),
            listeners: Listeners::default(),
            told: Told::default(),
        }
    }

    /// Tells a tenant's endpoints what happened, those that asked for it.
    pub(super) fn tell<T: serde::Serialize>(&mut self, tenant: &TenantId, kind: EventKind, data: &T) {
        self.listeners
            .tell(&mut self.told, self.now, tenant, kind, data, None);
    }

    /// Keeps what was decided about a recipient; whoever writes holds its row.
    pub(super) fn decide(
        &mut self,
        key: &RecipientKey,
        step: Option<u32>,
        decision: &Decision,
    ) -> Result<(), StoreError> {
        self.writes.decisions.push(DecisionRow {
            key: key.clone(),
            at: self.now,
            kind: decision.kind(),
            step,
            body: encode(decision)?,
        });
        Ok(())
    }

    /// An open recipient is open no longer, and nothing is due of it. When this transaction makes its row, that row says so.
    pub(super) fn end_recipient(
        &mut self,
        key: &RecipientKey,
        state: RecipientState,
        reason: Option<&'static str>,
        acknowledgement: Option<Acknowledgement>,
    ) {
        let (tenant, notification, user) = key;
        let own = self
            .writes
            .recipients
            .iter_mut()
            .rev()
            .find(|row| row.notification == *notification && row.user == *user && row.tenant == *tenant);
        if let Some(row) = own {
            if row.state == RecipientState::Open {
                (row.state, row.reason, row.phase) = (state, reason, None);
            }
            self.writes.climbs.retain(|climb| climb.key != *key);
            return;
        }
        self.writes.recipient_ends.push(RecipientEnd {
            tenant: tenant.clone(),
            notification: *notification,
            user: *user,
            state,
            reason,
            acknowledgement,
        });
    }

    /// A locked mailbox.
    pub(super) fn mailbox(&self, key: &UserKey) -> Result<&MailboxRow, StoreError> {
        self.mailboxes
            .get(key)
            .map(|numbered| &numbered.row)
            .ok_or_else(|| not_locked("mailbox"))
    }

    /// Moves a mailbox's counts by the difference of two entries' contributions.
    pub(super) fn recount(&mut self, key: &UserKey, before: Counts, after: Counts) -> Result<(), StoreError> {
        let numbered = self.mailboxes.get_mut(key).ok_or_else(|| not_locked("mailbox"))?;
        let counts = &mut numbered.row.counts;
        let moved = |count: u64, before: u64, after: u64| (count + after).saturating_sub(before);
        counts.total = moved(counts.total, before.total, after.total);
        counts.unread = moved(counts.unread, before.unread, after.unread);
        counts.unseen = moved(counts.unseen, before.unseen, after.unseen);
        numbered.touched = true;
        Ok(())
    }

    /// The number that the next change of a mailbox gets.
    pub(super) fn next_seq(&self, key: &UserKey) -> Result<u64, StoreError> {
        Ok(self.mailbox(key)?.last_seq + 1)
    }

    /// Appends a change to a mailbox's log.
    pub(super) fn append(&mut self, key: &UserKey, change: &ChangeBody<'_>) -> Result<(), StoreError> {
        let body = Bytes::from(encode(change)?);
        let numbered = self.mailboxes.get_mut(key).ok_or_else(|| not_locked("mailbox"))?;
        numbered.touched = true;
        let mailbox = &mut numbered.row;
        mailbox.last_seq += 1;
        mailbox.oldest_at.get_or_insert(self.now);
        self.writes.envelopes.push(Envelope {
            id: EnvelopeId::at(self.now),
            tenant: mailbox.tenant.clone(),
            subject: Subject::Mailbox(mailbox.user),
            position: Some(mailbox.position()),
            kind: EnvelopeKind::Change(change.kind()),
            body: body.clone(),
        });
        self.writes.log.push(LogRow {
            tenant: mailbox.tenant.clone(),
            user: mailbox.user,
            seq: mailbox.last_seq,
            kind: change.kind(),
            body,
            at: self.now,
        });
        Ok(())
    }

    /// Appends to a topic's history.
    pub(super) fn append_publication(
        &mut self,
        key: &TopicKey,
        data: Bytes,
        publisher: Option<PublisherInfo>,
    ) -> Result<Position, StoreError> {
        let numbered = self.topics.get_mut(key).ok_or_else(|| not_locked("topic"))?;
        numbered.touched = true;
        let topic = &mut numbered.row;
        topic.last_seq += 1;
        topic.oldest_at.get_or_insert(self.now);
        topic.used_at = self.now;
        let position = topic.position();
        self.writes.topic_log.push(PublicationRow {
            tenant: topic.tenant.clone(),
            topic: topic.topic.clone(),
            seq: topic.last_seq,
            data: data.clone(),
            publisher: publisher.clone(),
            at: self.now,
        });
        self.writes.envelopes.push(publication(
            self.now,
            key,
            Some(position.clone()),
            data,
            publisher,
        ));
        Ok(position)
    }

    /// Everything to write, each row once. Logs that outgrew their bound by enough are cut back to it.
    pub(super) fn finish(mut self) -> Writes {
        self.writes.events = self.told.events;
        self.writes.outside.append(&mut self.told.outside);
        self.writes.work.append(&mut self.told.work);
        let mut last: HashMap<_, EntryRow> = HashMap::with_capacity(self.writes.entry_states.len());
        for row in std::mem::take(&mut self.writes.entry_states) {
            last.insert((row.key(), row.id), row);
        }
        self.writes.entry_states.extend(last.into_values());
        for Numbered { mut row, touched } in self.mailboxes.into_values() {
            if !touched {
                continue;
            }
            if let Some(floor) = cut(row.last_seq, row.floor_seq, self.limits.log_count) {
                row.floor_seq = floor;
                self.writes.log_cuts.push(row.clone());
            }
            self.writes.mailboxes.push(row);
        }
        // Rows that follow each other in a table cost less than rows in no order.
        self.writes
            .mailboxes
            .sort_unstable_by(|one, other| (&one.tenant, one.user).cmp(&(&other.tenant, other.user)));
        self.writes.entries.sort_unstable_by(|one, other| {
            (&one.tenant, one.user, one.seq).cmp(&(&other.tenant, other.user, other.seq))
        });
        for Numbered { mut row, touched } in self.topics.into_values() {
            if !touched {
                continue;
            }
            if let Some(floor) = cut(row.last_seq, row.floor_seq, self.limits.topic_count) {
                row.floor_seq = floor;
                self.writes.topic_cuts.push(row.clone());
            }
            self.writes.topics.push(row);
        }
        self.writes
    }
}

/// An envelope of a publication.
pub(crate) fn publication(
    now: Timestamp,
    (tenant, topic): &TopicKey,
    position: Option<Position>,
    body: Bytes,
    publisher: Option<PublisherInfo>,
) -> Envelope {
    Envelope {
        id: EnvelopeId::at(now),
        tenant: tenant.clone(),
        subject: Subject::Topic(topic.clone()),
        position,
        kind: EnvelopeKind::Publication { publisher },
        body,
    }
}

/// The new floor of a log that holds more than `keep` and an eighth, [`SPARE`] at the most.
fn cut(last: u64, floor: u64, keep: u64) -> Option<u64> {
    (last - floor > keep + (keep / 8).min(SPARE)).then(|| last - keep)
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(format!("cannot be encoded: {error}")))
}

fn not_locked(what: &str) -> StoreError {
    StoreError::Corrupt(format!("a {what} is written that was not locked"))
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn logs_are_cut_back_to_their_bound_a_little_at_a_time() {
        for (keep, spare) in [(0, 0), (7, 0), (40, 5), (1_000, 16), (10_000, 16)] {
            let floor = 500;
            assert_eq!(cut(floor + keep + spare, floor, keep), None, "{keep}");
            let last = floor + keep + spare + 1;
            assert_eq!(cut(last, floor, keep), Some(last - keep), "{keep}");
        }
    }
}
