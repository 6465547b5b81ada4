//! Rows as the databases give them, the same columns on both, made into records.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use carillon_domain::{
    Acknowledgement, ChangeKind, Counts, DeviceName, Epoch, ExternalUserId, LoggedChange, NotificationId,
    NotificationState, PlainAddress, Position, Priority, Publication, Target, TenantId, Timestamp, TopicName,
    UserId,
    ports::{Gap, Since},
};
use carillon_sql::StoreError;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::plan::Before;
use super::records::{
    AcceptReply, Claim, DeliveryDetail, EntryAction, EntryRow, Lease, MailboxCommand, MailboxRow,
    NotificationRow, Operation, ReceiptDetail, RecipientDetail, RecipientState, StoredTarget, TemplateUse,
    TopicRow, UserKey, Which,
};

/// The columns of [`notification`].
pub(super) const NOTIFICATION: &str = "n.tenant, n.id, n.state, n.category, n.priority, n.collapse_key, \
    n.content, n.targets, n.created_at, n.send_at, n.expires_at, n.topics, n.channels, n.template, \
    n.template_version, n.data";

pub(super) type NotificationColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    String,
    i64,
    i64,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
);

pub(super) fn notification(row: NotificationColumns) -> Result<NotificationRow, StoreError> {
    let (tenant, id, state, category, priority, collapse, content, targets, created, send, expires, ..) =
        &row;
    let (.., topics, channels, template, version, data) = &row;
    Ok(NotificationRow {
        tenant: word(tenant)?,
        id: word(id)?,
        state: notification_state(state)?,
        category: word(category)?,
        priority: from_priority(priority)?,
        collapse_key: collapse.as_deref().map(word).transpose()?,
        content: Arc::from(content.as_str()),
        targets: json(targets)?,
        channels: channels.as_deref().map(json).transpose()?,
        template: match (template, version) {
            (Some(name), Some(version)) => Some(TemplateUse {
                name: word(name)?,
                version: number(*version)?,
                data: Arc::from(data.as_deref().unwrap_or("{}")),
            }),
            _ => None,
        },
        created_at: Timestamp::from_micros(*created),
        send_at: Timestamp::from_micros(*send),
        expires_at: Timestamp::from_micros(*expires),
        topics: topics.clone(),
    })
}

/// The ids of entries and of notifications that are named, as they are stored.
pub(super) fn named(which: &[Which]) -> (Vec<String>, Vec<String>) {
    let (mut entries, mut notifications) = (Vec::new(), Vec::new());
    for which in which {
        match which {
            Which::Entry(id) => entries.push(id.to_string()),
            Which::Notification(id) => notifications.push(id.to_string()),
        }
    }
    (entries, notifications)
}

/// The columns of [`EntryColumns`], without the content.
pub(super) const ENTRY_STATE: &str = "e.tenant, e.user_id, e.id, e.notification, e.category, e.collapse_key, \
    e.priority, e.created_at, e.updated_at, e.arrived_at, e.seen_at, e.read_at, e.archived_at, \
    e.snoozed_until, e.acknowledgement, e.seq, e.gone_at, ''";

/// The columns of [`EntryColumns`].
pub(super) const ENTRY: &str = "e.tenant, e.user_id, e.id, e.notification, e.category, e.collapse_key, \
    e.priority, e.created_at, e.updated_at, e.arrived_at, e.seen_at, e.read_at, e.archived_at, \
    e.snoozed_until, e.acknowledgement, e.seq, e.gone_at, e.content";

/// A row of `entries` as it is read: more columns than sqlx's tuples have.
pub(super) struct EntryColumns {
    ids: [String; 4],
    category: String,
    collapse_key: Option<String>,
    priority: String,
    times: [i64; 3],
    states: [Option<i64>; 4],
    acknowledgement: Option<String>,
    seq: i64,
    gone_at: Option<i64>,
    content: String,
}

impl<'r, R> FromRow<'r, R> for EntryColumns
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            ids: [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?],
            category: row.try_get(4)?,
            collapse_key: row.try_get(5)?,
            priority: row.try_get(6)?,
            times: [row.try_get(7)?, row.try_get(8)?, row.try_get(9)?],
            states: [
                row.try_get(10)?,
                row.try_get(11)?,
                row.try_get(12)?,
                row.try_get(13)?,
            ],
            acknowledgement: row.try_get(14)?,
            seq: row.try_get(15)?,
            gone_at: row.try_get(16)?,
            content: row.try_get(17)?,
        })
    }
}

impl TryFrom<EntryColumns> for EntryRow {
    type Error = StoreError;

    fn try_from(row: EntryColumns) -> Result<Self, StoreError> {
        let [tenant, user, id, notification] = &row.ids;
        let [created_at, updated_at, arrived_at] = row.times.map(Timestamp::from_micros);
        let [seen_at, read_at, archived_at, snoozed_until] =
            row.states.map(|at| at.map(Timestamp::from_micros));
        Ok(Self {
            tenant: word(tenant)?,
            user: word(user)?,
            id: word(id)?,
            notification: word(notification)?,
            category: word(&row.category)?,
            collapse_key: row.collapse_key.as_deref().map(word).transpose()?,
            priority: from_priority(&row.priority)?,
            content: Arc::from(row.content),
            created_at,
            updated_at,
            arrived_at,
            seen_at,
            read_at,
            archived_at,
            snoozed_until,
            acknowledgement: acknowledgement(row.acknowledgement.as_deref())?,
            seq: number(row.seq)?,
            gone_at: row.gone_at.map(Timestamp::from_micros),
        })
    }
}

/// The columns of [`mailbox`].
pub(super) const MAILBOX: &str = "m.tenant, m.user_id, m.epoch, m.last_seq, m.floor_seq, m.total, m.unread, \
    m.unseen, m.oldest_at";

pub(super) type MailboxColumns = (String, String, String, i64, i64, i64, i64, i64, Option<i64>);

pub(super) fn mailbox(row: MailboxColumns) -> Result<MailboxRow, StoreError> {
    let (tenant, user, epoch, last, floor, total, unread, unseen, oldest) = row;
    Ok(MailboxRow {
        tenant: word(&tenant)?,
        user: word(&user)?,
        epoch: word(&epoch)?,
        last_seq: number(last)?,
        floor_seq: number(floor)?,
        counts: Counts {
            total: number(total)?,
            unread: number(unread)?,
            unseen: number(unseen)?,
        },
        oldest_at: oldest.map(Timestamp::from_micros),
    })
}

/// A mailbox that nothing was written to yet. Its epoch comes from the store's and the user's id, so that telling it
/// writes nothing and it stays when the first change comes.
pub(super) fn new_mailbox(store: &str, tenant: &TenantId, user: UserId) -> Result<MailboxRow, StoreError> {
    Ok(MailboxRow {
        tenant: tenant.clone(),
        user,
        epoch: mailbox_epoch(store, tenant, user)?,
        last_seq: 0,
        floor_seq: 0,
        counts: Counts::default(),
        oldest_at: None,
    })
}

fn mailbox_epoch(store: &str, tenant: &TenantId, user: UserId) -> Result<Epoch, StoreError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = crate::digest::sha256(format!("{store}/{tenant}/{user}").as_bytes());
    let text: String = digest[..8]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) & 31]))
        .collect();
    word(&text)
}

/// The columns of [`topic`].
pub(super) const TOPIC: &str = "t.tenant, t.topic, t.epoch, t.last_seq, t.floor_seq, t.oldest_at, t.used_at";

pub(super) type TopicColumns = (String, String, String, i64, i64, Option<i64>, i64);

pub(super) fn topic(row: TopicColumns) -> Result<TopicRow, StoreError> {
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
pub(super) fn new_topic(now: Timestamp, tenant: &TenantId, topic: &TopicName) -> TopicRow {
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

/// What is read of a log: its bounds, and the rows after a position, in one statement and so of one moment.
pub(super) struct LogSlice<T> {
    pub(super) epoch: Epoch,
    pub(super) last_seq: u64,
    pub(super) floor_seq: u64,
    /// Oldest first, up to one more than asked for.
    pub(super) items: Vec<(u64, T)>,
}

impl<T> LogSlice<T> {
    /// Of a log that was never written.
    pub(super) fn empty(epoch: Epoch) -> Self {
        Self {
            epoch,
            last_seq: 0,
            floor_seq: 0,
            items: Vec::new(),
        }
    }

    /// What follows `from`, or the gap that must be announced. Numbers have no holes: where they seem to, the log
    /// was cut behind them.
    pub(super) fn since(self, from: &Position, limit: usize) -> Since<T> {
        let head = Position {
            epoch: self.epoch.clone(),
            seq: self.last_seq,
        };
        let gap = if from.epoch != self.epoch {
            Some(Gap::Epoch)
        } else if from.seq > self.last_seq {
            Some(Gap::Future)
        } else if from.seq < self.floor_seq
            || self
                .items
                .iter()
                .zip(from.seq + 1..)
                .any(|((seq, _), expected)| *seq != expected)
            || (self.items.is_empty() && from.seq < self.last_seq)
        {
            Some(Gap::Trimmed)
        } else {
            None
        };
        if gap.is_some() {
            return Since {
                items: Vec::new(),
                position: head,
                more: false,
                gap,
            };
        }
        let more = self.items.len() > limit;
        let items: Vec<_> = self.items.into_iter().take(limit).collect();
        let seq = items.last().map_or(from.seq, |(seq, _)| *seq);
        Since {
            items: items.into_iter().map(|(_, item)| item).collect(),
            position: Position {
                epoch: self.epoch,
                seq,
            },
            more,
            gap: None,
        }
    }
}

/// Epoch, last and floor of a mailbox beside each of its changes: seq, kind, body.
pub(super) type LogColumns = (String, i64, i64, Option<i64>, Option<String>, Option<String>);

pub(super) fn log_slice(rows: Vec<LogColumns>) -> Result<Option<LogSlice<LoggedChange>>, StoreError> {
    let Some((epoch, last, floor, ..)) = rows.first() else {
        return Ok(None);
    };
    let epoch: Epoch = word(epoch)?;
    let mut slice = LogSlice {
        epoch: epoch.clone(),
        last_seq: number(*last)?,
        floor_seq: number(*floor)?,
        items: Vec::new(),
    };
    for (.., seq, kind, body) in rows {
        if let (Some(seq), Some(kind), Some(body)) = (seq, kind, body) {
            let seq = number(seq)?;
            let kind = ChangeKind::from_stored(&kind).ok_or_else(|| corrupt("a kind of change", &kind))?;
            let position = Position {
                epoch: epoch.clone(),
                seq,
            };
            slice.items.push((
                seq,
                LoggedChange {
                    position,
                    kind,
                    body: body.into(),
                },
            ));
        }
    }
    Ok(Some(slice))
}

/// Epoch, last and floor of a topic beside each of its publications: seq, data, publisher, at.
pub(super) type TopicLogColumns = (
    String,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(super) fn topic_slice(rows: Vec<TopicLogColumns>) -> Result<Option<LogSlice<Publication>>, StoreError> {
    let Some((epoch, last, floor, ..)) = rows.first() else {
        return Ok(None);
    };
    let epoch: Epoch = word(epoch)?;
    let mut slice = LogSlice {
        epoch: epoch.clone(),
        last_seq: number(*last)?,
        floor_seq: number(*floor)?,
        items: Vec::new(),
    };
    for (.., seq, data, publisher, at) in rows {
        if let (Some(seq), Some(data), Some(at)) = (seq, data, at) {
            let seq = number(seq)?;
            let publication = Publication {
                position: Some(Position {
                    epoch: epoch.clone(),
                    seq,
                }),
                data: data.into(),
                publisher: publisher.as_deref().map(json).transpose()?,
                at: Timestamp::from_micros(at),
            };
            slice.items.push((seq, publication));
        }
    }
    Ok(Some(slice))
}

pub(super) fn acknowledgement(text: Option<&str>) -> Result<Option<Acknowledgement>, StoreError> {
    text.map(json).transpose()
}

/// A word of ours, as written by `Display`.
pub(super) fn word<T: FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse()
        .map_err(|_| corrupt(std::any::type_name::<T>(), text))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A count or sequence number, which is never negative.
pub(super) fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| corrupt("a number", &stored.to_string()))
}

/// As stored; sequence numbers and counts stay far below the limit.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A body as text. Everything that is stored came from JSON, which is UTF-8.
pub(super) fn text(body: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(body).map_err(|error| StoreError::Corrupt(format!("a body: {error}")))
}

pub(super) fn notification_state(text: &str) -> Result<NotificationState, StoreError> {
    use NotificationState::{Accepted, Cancelled, Expired, Planned};
    [Accepted, Planned, Cancelled, Expired]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| corrupt("a state", text))
}

fn from_priority(text: &str) -> Result<Priority, StoreError> {
    [Priority::Low, Priority::Normal, Priority::High]
        .into_iter()
        .find(|priority| priority.as_str() == text)
        .ok_or_else(|| corrupt("a priority", text))
}

pub(super) fn corrupt(what: &str, text: &str) -> StoreError {
    StoreError::Corrupt(format!("{what}: {text:?}"))
}

/// What a used idempotency key answers.
pub(super) fn replay(claim: &Claim, fingerprint: &str, status: i64, body: String) -> AcceptReply {
    if fingerprint == claim.fingerprint {
        AcceptReply::Replayed {
            status: u16::try_from(status).unwrap_or(claim.status),
            body,
        }
    } else {
        AcceptReply::Mismatch
    }
}

/// The smallest notification id of a time, as text.
pub(super) fn first_id_at(at: Timestamp) -> String {
    let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0);
    format!("{}_{millis:012x}00000000000000000000", NotificationId::PREFIX)
}

/// The targets without an erased user. `None`: they never named him. `Some((_, true))`: nobody else is left, so
/// that the content was about him alone.
pub(super) fn without(targets: &str, name: &ExternalUserId) -> Result<Option<(String, bool)>, StoreError> {
    let mut targets: Vec<StoredTarget> = json(targets)?;
    let mut named = false;
    for target in &mut targets {
        if matches!(target, StoredTarget::Known(Target::User(user)) if user == name) {
            *target = StoredTarget::Erased { erased: true };
            named = true;
        }
    }
    let alone = targets
        .iter()
        .all(|target| matches!(target, StoredTarget::Erased { .. }));
    Ok(if named {
        Some((super::ledger::encode(&targets)?, alone))
    } else {
        None
    })
}

/// What stays of a notification's content whose only recipients were erased.
pub(super) const ERASED_CONTENT: &str = r#"{"title":"(erased)"}"#;

/// Open entries by what a collapse key names.
pub(super) fn by_open_key(
    rows: Vec<EntryColumns>,
) -> Result<HashMap<super::plan::OpenKey, EntryRow>, StoreError> {
    let mut open = HashMap::with_capacity(rows.len());
    for row in rows {
        let entry = EntryRow::try_from(row)?;
        if let Some(collapse) = entry.collapse_key.clone() {
            open.insert((entry.key(), entry.category.clone(), collapse), entry);
        }
    }
    Ok(open)
}

/// Tenant, notification, user, and where it stands for him.
pub(super) type BeforeColumns = (String, String, String, String);

/// What was planned earlier, by its notification: recipients, and tenant, id and topics of what was published.
pub(super) fn before(
    recipients: Vec<BeforeColumns>,
    topics: Vec<(String, String, String)>,
) -> Result<HashMap<(TenantId, NotificationId), Before>, StoreError> {
    let mut before: HashMap<_, Before> = HashMap::new();
    for (tenant, id, user, state) in recipients {
        let of = before.entry((word(&tenant)?, word(&id)?)).or_default();
        of.users.insert(word(&user)?);
        of.delivered |= state != RecipientState::Expired.as_str() && state != RecipientState::Erased.as_str();
    }
    for (tenant, id, topics) in topics {
        before.entry((word(&tenant)?, word(&id)?)).or_default().topics = json(&topics)?;
    }
    Ok(before)
}

/// Commands that do one thing to each of the named entries, a command per user.
pub(super) fn entry_commands(
    rows: Vec<(String, String, String)>,
    action: EntryAction,
) -> Result<Vec<MailboxCommand>, StoreError> {
    let mut commands: HashMap<UserKey, Vec<Operation>> = HashMap::new();
    for (tenant, user, id) in rows {
        let operation = Operation::Entry(Which::Entry(word(&id)?), action.clone());
        commands
            .entry((word(&tenant)?, word(&user)?))
            .or_default()
            .push(operation);
    }
    Ok(commands
        .into_iter()
        .map(|((tenant, user), operations)| MailboxCommand {
            tenant,
            user,
            device: None,
            operations,
        })
        .collect())
}

/// User, state, reason, entry, the mailbox's epoch, seq, acknowledgement; a plain address's channel and address.
pub(super) type RecipientColumns = (
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
);

pub(super) fn recipient(row: RecipientColumns) -> Result<RecipientDetail, StoreError> {
    let (user, state, reason, entry, epoch, seq, acknowledged, channel, address) = row;
    let plain = match (channel, address) {
        (Some(channel), Some(address)) => Some(PlainAddress {
            channel: word(&channel)?,
            to: word(&address)?,
        }),
        _ => None,
    };
    let position = match (epoch, seq) {
        (Some(epoch), Some(seq)) => Some(Position {
            epoch: word(&epoch)?,
            seq: number(seq)?,
        }),
        _ => None,
    };
    Ok(RecipientDetail {
        user: word(&user)?,
        state: RecipientState::from_stored(&state).ok_or_else(|| corrupt("a recipient's state", &state))?,
        reason,
        entry: entry.as_deref().map(word).transpose()?,
        position,
        acknowledgement: acknowledgement(acknowledged.as_deref())?,
        plain,
        deliveries: Vec::new(),
        receipts: Vec::new(),
        confirmed: Vec::new(),
    })
}

/// Attempts that a recipient's detail shows of each delivery, at the most.
pub(super) const SHOWN_ATTEMPTS: i64 = 20;

/// The columns of [`delivery`]: of a delivery `d` and its work `q`.
pub(super) const DELIVERY: &str =
    "d.user_id, d.id, d.channel, d.address, d.state, d.reason, d.created_at, d.device, q.due_at";

pub(super) type DeliveryColumns = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<String>,
    Option<i64>,
);

pub(super) fn delivery(row: DeliveryColumns) -> Result<DeliveryDetail, StoreError> {
    let (_, id, channel, address, state, reason, created, device, due) = row;
    let created_at = Timestamp::from_micros(created);
    Ok(DeliveryDetail {
        id: word(&id)?,
        channel,
        address,
        state,
        reason,
        device: device.as_deref().map(word).transpose()?,
        created_at,
        next_at: due.map(Timestamp::from_micros),
        attempts: Vec::new(),
    })
}

/// User, kind, time, device.
pub(super) type ReceiptColumns = (String, String, i64, Option<String>);

pub(super) fn receipt(row: ReceiptColumns) -> Result<ReceiptDetail, StoreError> {
    let (_, kind, at, device) = row;
    let device = device.as_deref().map(word).transpose()?;
    Ok(ReceiptDetail {
        kind,
        at: Timestamp::from_micros(at),
        device,
    })
}

/// User, device, time.
pub(super) type ConfirmedColumns = (String, String, i64);

pub(super) fn confirmed(row: ConfirmedColumns) -> Result<(DeviceName, Timestamp), StoreError> {
    let (_, device, at) = row;
    Ok((word(&device)?, Timestamp::from_micros(at)))
}

/// Leases, the oldest notification first: ids begin with their time.
pub(super) fn leases(rows: Vec<(String, String, i64)>) -> Result<Vec<Lease>, StoreError> {
    let lease = |(tenant, notification, token): (String, String, i64)| {
        Ok(Lease {
            tenant: word(&tenant)?,
            notification: word(&notification)?,
            token,
        })
    };
    let mut leases = rows
        .into_iter()
        .map(lease)
        .collect::<Result<Vec<_>, StoreError>>()?;
    leases.sort_unstable_by_key(|lease| lease.notification);
    Ok(leases)
}
