//! What users, the clock and senders do to mailboxes. Pure: rows in, rows out.

use std::collections::HashMap;

use carillon_domain::{
    AckKind, Acknowledgement, DeviceName, EntryId, EntryRef, ExternalUserId, NotificationId, PlainAddress,
    StateChange, Timestamp,
};
use carillon_sql::StoreError;

use super::withdrawals::CANCELLED;
use super::{
    ledger::Ledger,
    records::{
        ConfirmationRow, EntryAction, EntryRow, MailboxCommand, MailboxReply, Operation, OperationResult,
        ReceiptRow, RecipientState, UserKey, Which,
    },
};
use crate::{events::EventKind, wire::ChangeBody};

/// The most entries that one change names, and that one `read-all` turn takes.
pub(super) const MAX_REFERENCES: usize = 500;

/// Said of recipients whose entry was forgotten unanswered.
const FORGOTTEN: &str = "the inbox's retention ended";

/// What the commands name, as far as it exists.
#[derive(Default)]
pub(super) struct Found {
    /// The entries, without their content.
    pub(super) entries: HashMap<(UserKey, EntryId), EntryRow>,
    /// Notifications of the mailbox's user, each with where it is shown to him.
    pub(super) notifications: HashMap<(UserKey, NotificationId), Shown>,
    /// How far a device had confirmed.
    pub(super) confirmed: HashMap<(UserKey, DeviceName), u64>,
    /// Unread entries for `read-all`, oldest first, by the command's and the operation's index.
    pub(super) unread: HashMap<(usize, usize), Vec<EntryId>>,
}

/// Where a notification is shown to one of its recipients.
pub(super) enum Shown {
    /// In this entry of his inbox.
    Entry(EntryId),
    /// It was superseded, or its entry is gone.
    Gone,
    /// It never was in an inbox: it went out over other channels alone.
    Outside {
        state: RecipientState,
        /// The plain address that he is.
        plain: Option<PlainAddress>,
        /// Receipts that there are: kind, and device or nothing.
        receipts: Vec<(String, String)>,
        /// Whether this transaction answers it.
        answered: bool,
    },
}

impl Found {
    /// Notes which receipts there are of what went out over other channels alone.
    pub(super) fn receipt(&mut self, whose: &(UserKey, NotificationId), kind: String, device: String) {
        if let Some(Shown::Outside { receipts, .. }) = self.notifications.get_mut(whose) {
            receipts.push((kind, device));
        }
    }

    /// Of those which are answered by now.
    pub(super) fn answered_outside(&self) -> Vec<&(UserKey, NotificationId)> {
        let all = self.notifications.iter();
        all.filter(|(_, shown)| matches!(shown, Shown::Outside { answered: true, .. }))
            .map(|(whose, _)| whose)
            .collect()
    }

    /// What went out over other channels alone.
    pub(super) fn outside(&self) -> Vec<&(UserKey, NotificationId)> {
        let outside = |shown: &Shown| matches!(shown, Shown::Outside { .. });
        let all = self.notifications.iter();
        all.filter(|(_, shown)| outside(shown))
            .map(|(whose, _)| whose)
            .collect()
    }
}

/// Carries out one command; `index` is its place among the commands.
pub(super) fn apply(
    ledger: &mut Ledger,
    found: &mut Found,
    index: usize,
    command: &MailboxCommand,
) -> Result<MailboxReply, StoreError> {
    let mut turn = Turn {
        ledger,
        found,
        command,
        key: command.key(),
        pending: None,
    };
    let mut results = Vec::with_capacity(command.operations.len());
    let mut more = false;
    for (number, operation) in command.operations.iter().enumerate() {
        results.push(match operation {
            Operation::Confirm(position) => turn.confirm(position)?,
            Operation::Entry(which, action) => turn.entry(*which, action)?,
            Operation::ReadAll { before, .. } => {
                let epoch = turn.ledger.mailbox(&turn.key)?.epoch.clone();
                if before.as_ref().is_some_and(|position| position.epoch != epoch) {
                    OperationResult::NotFound
                } else {
                    let unread = turn.found.unread.remove(&(index, number)).unwrap_or_default();
                    more |= unread.len() >= MAX_REFERENCES;
                    turn.read_all(&unread)?
                }
            }
        });
    }
    turn.flush()?;
    let mailbox = ledger.mailbox(&command.key())?;
    Ok(MailboxReply {
        position: mailbox.position(),
        counts: mailbox.counts,
        results,
        more,
    })
}

/// Takes back the entries that show a cancelled notification; answers how many.
pub(super) fn recall(ledger: &mut Ledger, entries: Vec<EntryRow>) -> Result<u64, StoreError> {
    let mut recalled = 0;
    for mut entry in entries.into_iter().filter(EntryRow::is_open) {
        let key = entry.key();
        let before = entry.counted();
        entry.gone_at = Some(ledger.now);
        entry.snoozed_until = None;
        entry.updated_at = ledger.now;
        ledger.recount(&key, before, entry.counted())?;
        let change = ChangeBody::Recalled {
            entry: EntryRef {
                id: entry.id,
                notification_id: entry.notification,
            },
            reason: CANCELLED,
            counts: ledger.mailbox(&key)?.counts,
        };
        ledger.append(&key, &change)?;
        ledger.writes.entry_states.push(entry);
        recalled += 1;
    }
    Ok(recalled)
}

/// Marks entries that show a notification that somebody else answered: their devices fall silent.
pub(super) fn answered(
    ledger: &mut Ledger,
    entries: Vec<EntryRow>,
    acknowledgement: &Acknowledgement,
) -> Result<(), StoreError> {
    let unanswered = |entry: &EntryRow| entry.gone_at.is_none() && entry.acknowledgement.is_none();
    for mut entry in entries.into_iter().filter(unanswered) {
        let key = entry.key();
        let before = entry.counted();
        entry.seen_at.get_or_insert(ledger.now);
        entry.read_at.get_or_insert(ledger.now);
        entry.acknowledgement = Some(acknowledgement.clone());
        entry.updated_at = ledger.now;
        ledger.recount(&key, before, entry.counted())?;
        let change = ChangeBody::StateChanged {
            change: StateChange::Read,
            entries: &[EntryRef {
                id: entry.id,
                notification_id: entry.notification,
            }],
            at: ledger.now,
            until: None,
            acknowledgement: Some(acknowledgement),
            counts: ledger.mailbox(&key)?.counts,
        };
        ledger.append(&key, &change)?;
        ledger.writes.entry_states.push(entry);
    }
    Ok(())
}

/// What endpoints are told of a first acknowledgement.
#[derive(serde::Serialize)]
struct AcknowledgedEvent<'a> {
    notification_id: NotificationId,
    /// The tenant's own id of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a ExternalUserId>,
    /// Instead of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a PlainAddress>,
    acknowledgement: &'a Acknowledgement,
}

impl MailboxCommand {
    fn acknowledgement(&self, kind: AckKind, action: &EntryAction, at: Timestamp) -> Acknowledgement {
        Acknowledgement {
            kind,
            at,
            device: self.device.clone(),
            action: match action {
                EntryAction::Acted { action } => action.clone(),
                _ => None,
            },
            by: None,
        }
    }
}

/// One command under way.
struct Turn<'a> {
    ledger: &'a mut Ledger,
    found: &'a mut Found,
    command: &'a MailboxCommand,
    key: UserKey,
    /// Equal steps that will be one change.
    pending: Option<Pending>,
}

struct Pending {
    step: Step,
    entries: Vec<EntryRef>,
}

/// What becomes one change of the log.
#[derive(Clone, PartialEq)]
struct Step {
    kind: StepKind,
    /// When this is the first acknowledgement.
    acknowledgement: Option<Acknowledgement>,
}

#[derive(Clone, Copy, PartialEq)]
enum StepKind {
    State {
        change: StateChange,
        until: Option<Timestamp>,
    },
    Deleted,
}

impl Turn<'_> {
    fn confirm(&mut self, position: &carillon_domain::Position) -> Result<OperationResult, StoreError> {
        let mailbox = self.ledger.mailbox(&self.key)?;
        let Some(device) = &self.command.device else {
            return Ok(OperationResult::NotFound);
        };
        if position.epoch != mailbox.epoch || position.seq > mailbox.last_seq {
            return Ok(OperationResult::NotFound);
        }
        let key = (self.key.clone(), device.clone());
        let before = self.found.confirmed.get(&key).copied();
        if position.seq <= before.unwrap_or(0) {
            return Ok(OperationResult::Unchanged);
        }
        self.found.confirmed.insert(key, position.seq);
        self.ledger.writes.confirmations.push(ConfirmationRow {
            tenant: self.key.0.clone(),
            user: self.key.1,
            device: device.clone(),
            seq: position.seq,
            at: self.ledger.now,
            new_device: before.is_none(),
        });
        Ok(OperationResult::Ok)
    }

    fn entry(&mut self, which: Which, action: &EntryAction) -> Result<OperationResult, StoreError> {
        let id = match which {
            Which::Entry(id) => id,
            Which::Notification(id) => match self.found.notifications.get(&(self.key.clone(), id)) {
                None => return Ok(OperationResult::NotFound),
                // There is nothing left to answer.
                Some(Shown::Gone) => return Ok(OperationResult::Unchanged),
                Some(Shown::Outside { .. }) => return Ok(self.outside(id, action)),
                Some(Shown::Entry(entry)) => *entry,
            },
        };
        self.act(id, action)
    }

    /// Of what went out over other channels alone there is no entry: the receipt is all that is kept, and an answer ends it
    /// for the recipient.
    fn outside(&mut self, id: NotificationId, action: &EntryAction) -> OperationResult {
        let (kind, acknowledges) = match action {
            EntryAction::Seen => ("seen", None),
            EntryAction::Read => ("read", Some(AckKind::Read)),
            EntryAction::Clicked => ("clicked", Some(AckKind::Read)),
            EntryAction::Archive | EntryAction::Delete => ("dismissed", Some(AckKind::Dismissed)),
            EntryAction::Acted { .. } => ("acted", Some(AckKind::Acted)),
            _ => return OperationResult::Unchanged,
        };
        let whose = (self.key.clone(), id);
        let Some(Shown::Outside {
            state,
            plain,
            receipts,
            answered,
        }) = self.found.notifications.get_mut(&whose)
        else {
            return OperationResult::Unchanged;
        };
        let receipt = (
            kind.to_owned(),
            self.command
                .device
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        );
        if *state == RecipientState::Erased || receipts.contains(&receipt) {
            return OperationResult::Unchanged;
        }
        receipts.push(receipt);
        self.ledger.writes.receipts.push(ReceiptRow {
            tenant: self.key.0.clone(),
            notification: id,
            user: self.key.1,
            kind,
            at: self.ledger.now,
            device: self.command.device.clone(),
            channel: self.command.channel.clone(),
        });
        // A late answer counts as well.
        let answerable = matches!(*state, RecipientState::Open | RecipientState::Completed);
        if let Some(kind) = acknowledges.filter(|_| answerable) {
            (*state, *answered) = (RecipientState::Acknowledged, true);
            let acknowledgement = self.command.acknowledgement(kind, action, self.ledger.now);
            let event = AcknowledgedEvent {
                notification_id: id,
                user: self.command.name.as_ref().filter(|_| plain.is_none()),
                address: plain.as_ref(),
                acknowledgement: &acknowledgement,
            };
            let kind = EventKind::NotificationAcknowledged;
            self.ledger.tell(&self.key.0, kind, &event);
            let recipient = (self.key.0.clone(), id, self.key.1);
            self.ledger.end_recipient(
                &recipient,
                RecipientState::Acknowledged,
                None,
                Some(acknowledgement),
            );
        }
        OperationResult::Ok
    }

    fn read_all(&mut self, unread: &[EntryId]) -> Result<OperationResult, StoreError> {
        let mut result = OperationResult::Unchanged;
        for id in unread {
            if self.act(*id, &EntryAction::Read)? == OperationResult::Ok {
                result = OperationResult::Ok;
            }
        }
        Ok(result)
    }

    fn act(&mut self, id: EntryId, action: &EntryAction) -> Result<OperationResult, StoreError> {
        let Some(entry) = self.found.entries.get(&(self.key.clone(), id)) else {
            return Ok(OperationResult::NotFound);
        };
        if entry.gone_at.is_some() {
            return Ok(OperationResult::Unchanged);
        }
        let mut after = entry.clone();
        let (kind, acknowledges) = match change(&mut after, action, self.ledger.now) {
            Some(changed) => changed,
            None => return Ok(OperationResult::Conflict),
        };
        let first = acknowledges
            .filter(|_| entry.acknowledgement.is_none())
            .map(|kind| self.command.acknowledgement(kind, action, self.ledger.now));
        self.receipt(id, acknowledges, action);
        let entry = &self.found.entries[&(self.key.clone(), id)];
        let unchanged = first.is_none()
            && after.seen_at == entry.seen_at
            && after.read_at == entry.read_at
            && after.archived_at == entry.archived_at
            && after.snoozed_until == entry.snoozed_until
            && after.gone_at == entry.gone_at;
        if unchanged {
            return Ok(OperationResult::Unchanged);
        }
        let step = Step {
            kind,
            acknowledgement: first.clone(),
        };
        self.join(&step)?;
        let entry = &self.found.entries[&(self.key.clone(), id)];
        self.ledger.recount(&self.key, entry.counted(), after.counted())?;
        after.updated_at = self.ledger.now;
        let end = match (&first, action) {
            (Some(_), _) => Some((RecipientState::Acknowledged, None)),
            (None, EntryAction::Forget) if entry.acknowledgement.is_none() => {
                Some((RecipientState::Expired, Some(FORGOTTEN)))
            }
            _ => None,
        };
        if let Some((state, reason)) = end {
            let (tenant, user) = &self.key;
            let key = (tenant.clone(), after.notification, *user);
            self.ledger.end_recipient(&key, state, reason, first.clone());
        }
        if let Some(first) = first {
            let event = AcknowledgedEvent {
                notification_id: after.notification,
                user: self.command.name.as_ref(),
                address: None,
                acknowledgement: &first,
            };
            let kind = EventKind::NotificationAcknowledged;
            self.ledger.tell(&self.key.0, kind, &event);
            after.acknowledgement = Some(first);
        }
        if let Some(pending) = &mut self.pending {
            pending.entries.push(EntryRef {
                id,
                notification_id: after.notification,
            });
        }
        // Later operations of this command see it, and `finish` writes it once.
        self.found.entries.insert((self.key.clone(), id), after);
        Ok(OperationResult::Ok)
    }

    /// Notes the first receipt of a kind from each device; the store keeps the one that is there.
    fn receipt(&mut self, id: EntryId, acknowledges: Option<AckKind>, action: &EntryAction) {
        let entry = &self.found.entries[&(self.key.clone(), id)];
        let device = &self.command.device;
        let told_before = |kind: AckKind| {
            let first = entry.acknowledgement.as_ref();
            self.command.channel.is_none()
                && first
                    .is_some_and(|first| first.kind == kind && (device.is_none() || first.device == *device))
        };
        let clicked = (*action == EntryAction::Clicked).then_some("clicked");
        let other = match (acknowledges, action) {
            (Some(kind), _) if !told_before(kind) => Some(kind.as_str()),
            // Who looks after the answer adds nothing to it.
            (None, EntryAction::Seen)
                if entry.seen_at.is_none()
                    || entry.acknowledgement.is_none()
                        && (device.is_some() || self.command.channel.is_some()) =>
            {
                Some("seen")
            }
            _ => None,
        };
        for kind in clicked.into_iter().chain(other) {
            self.ledger.writes.receipts.push(ReceiptRow {
                tenant: self.key.0.clone(),
                notification: entry.notification,
                user: self.key.1,
                kind,
                at: self.ledger.now,
                device: device.clone(),
                channel: self.command.channel.clone(),
            });
        }
    }

    /// Makes room for one more entry in the pending change, which ends when `step` is another one.
    fn join(&mut self, step: &Step) -> Result<(), StoreError> {
        let fits = self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.step == *step && pending.entries.len() < MAX_REFERENCES);
        if !fits {
            self.flush()?;
            self.pending = Some(Pending {
                step: step.clone(),
                entries: Vec::new(),
            });
        }
        Ok(())
    }

    /// Writes the pending change into the log.
    fn flush(&mut self) -> Result<(), StoreError> {
        let Some(Pending { step, entries }) = self.pending.take() else {
            return Ok(());
        };
        let counts = self.ledger.mailbox(&self.key)?.counts;
        let acknowledgement = step.acknowledgement.as_ref();
        let body = match step.kind {
            StepKind::State { change, until } => ChangeBody::StateChanged {
                change,
                entries: &entries,
                at: self.ledger.now,
                until,
                acknowledgement,
                counts,
            },
            StepKind::Deleted => ChangeBody::Deleted {
                entries: &entries,
                acknowledgement,
                counts,
            },
        };
        self.ledger.append(&self.key, &body)?;
        for entry in entries {
            if let Some(row) = self.found.entries.get(&(self.key.clone(), entry.id)) {
                self.ledger.writes.entry_states.push(row.clone());
            }
        }
        Ok(())
    }
}

/// Changes the entry's state; answers what that is in the log and how it acknowledges. `None`: not from this state.
fn change(entry: &mut EntryRow, action: &EntryAction, now: Timestamp) -> Option<(StepKind, Option<AckKind>)> {
    let state = |change| StepKind::State { change, until: None };
    let read = |entry: &mut EntryRow| {
        entry.seen_at.get_or_insert(now);
        entry.read_at.get_or_insert(now);
    };
    Some(match action {
        EntryAction::Seen => {
            entry.seen_at.get_or_insert(now);
            (state(StateChange::Seen), None)
        }
        EntryAction::Read | EntryAction::Clicked => {
            read(entry);
            (state(StateChange::Read), Some(AckKind::Read))
        }
        EntryAction::Unread => {
            entry.read_at = None;
            (state(StateChange::Unread), None)
        }
        EntryAction::Archive => {
            entry.archived_at.get_or_insert(now);
            entry.snoozed_until = None;
            (state(StateChange::Archived), Some(AckKind::Dismissed))
        }
        EntryAction::Delete => {
            entry.gone_at = Some(now);
            entry.snoozed_until = None;
            (StepKind::Deleted, Some(AckKind::Dismissed))
        }
        EntryAction::Acted { .. } => {
            read(entry);
            (state(StateChange::Acted), Some(AckKind::Acted))
        }
        EntryAction::Snooze { until } => {
            if entry.archived_at.is_some() {
                return None;
            }
            entry.snoozed_until = Some(*until);
            (
                StepKind::State {
                    change: StateChange::Snoozed,
                    until: Some(*until),
                },
                None,
            )
        }
        EntryAction::Wake => {
            if entry.snoozed_until.is_some_and(|until| until <= now) {
                entry.snoozed_until = None;
            }
            (state(StateChange::Unsnoozed), None)
        }
        EntryAction::Forget => {
            entry.gone_at = Some(now);
            entry.snoozed_until = None;
            (StepKind::Deleted, None)
        }
    })
}
