//! Rows of mailboxes and their entries.

use std::{collections::HashMap, sync::Arc};

use carillon_domain::{Counts, Epoch, NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{acknowledgement, from_priority, json, number, word};
use crate::store::{
    plan::{Before, OpenKey},
    records::{EntryAction, EntryRow, MailboxCommand, MailboxRow, Operation, UserKey, Which},
};

/// The columns of [`EntryColumns`], without the content.
pub(in crate::store) const ENTRY_STATE: &str = "e.tenant, e.user_id, e.id, e.notification, e.category, e.collapse_key, \
    e.priority, e.created_at, e.updated_at, e.arrived_at, e.seen_at, e.read_at, e.archived_at, \
    e.snoozed_until, e.acknowledgement, e.seq, e.gone_at, '', e.silent";

/// The columns of [`EntryColumns`].
pub(in crate::store) const ENTRY: &str = "e.tenant, e.user_id, e.id, e.notification, e.category, e.collapse_key, \
    e.priority, e.created_at, e.updated_at, e.arrived_at, e.seen_at, e.read_at, e.archived_at, \
    e.snoozed_until, e.acknowledgement, e.seq, e.gone_at, e.content, e.silent";

/// A row of `entries` as it is read: more columns than sqlx's tuples have.
pub(in crate::store) struct EntryColumns {
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
    silent: i64,
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
            silent: row.try_get(18)?,
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
            silent: row.silent != 0,
        })
    }
}

/// Open entries by what a collapse key names.
pub(in crate::store) fn by_open_key(
    rows: Vec<EntryColumns>,
) -> Result<HashMap<OpenKey, EntryRow>, StoreError> {
    let mut open = HashMap::with_capacity(rows.len());
    for row in rows {
        let entry = EntryRow::try_from(row)?;
        if let Some(collapse) = entry.collapse_key.clone() {
            open.insert((entry.key(), entry.category.clone(), collapse), entry);
        }
    }
    Ok(open)
}

/// What was planned earlier, by its notification: tenant, notification and user of those who are to be planned now and
/// have a row, tenant and id of what was sent to anybody, and tenant, id and topics of what was published.
pub(in crate::store) fn before(
    recipients: Vec<(String, String, String)>,
    delivered: Vec<(String, String)>,
    topics: Vec<(String, String, String)>,
) -> Result<HashMap<(TenantId, NotificationId), Before>, StoreError> {
    let mut before: HashMap<_, Before> = HashMap::new();
    for (tenant, id, user) in recipients {
        let of = before.entry((word(&tenant)?, word(&id)?)).or_default();
        of.users.insert(word(&user)?);
    }
    for (tenant, id) in delivered {
        before.entry((word(&tenant)?, word(&id)?)).or_default().delivered = true;
    }
    for (tenant, id, topics) in topics {
        before.entry((word(&tenant)?, word(&id)?)).or_default().topics = json(&topics)?;
    }
    Ok(before)
}

/// Commands that do one thing to each of the named entries, a command per user.
pub(in crate::store) fn entry_commands(
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
            name: None,
            device: None,
            answering: Vec::new(),
            channel: None,
            operations,
        })
        .collect())
}

/// The columns of [`mailbox`].
pub(in crate::store) const MAILBOX: &str = "m.tenant, m.user_id, m.epoch, m.last_seq, m.floor_seq, m.total, m.unread, \
    m.unseen, m.oldest_at";

pub(in crate::store) type MailboxColumns = (String, String, String, i64, i64, i64, i64, i64, Option<i64>);

pub(in crate::store) fn mailbox(row: MailboxColumns) -> Result<MailboxRow, StoreError> {
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
pub(in crate::store) fn new_mailbox(
    store: &str,
    tenant: &TenantId,
    user: UserId,
) -> Result<MailboxRow, StoreError> {
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
