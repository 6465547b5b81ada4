use std::collections::{HashMap, HashSet};

use carillon_domain::{
    Counts, DeviceName, EntryId, LoggedChange, Position, TenantId, Timestamp, UserId, ports::Since,
};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteConnection};

use super::{
    SqliteStore,
    digests::{answered_members, end_digests, live_digests},
    keys::json_list,
    outside::{self, listeners},
    plan::mailboxes,
    withdrawals,
    write::write,
};
use crate::store::{
    apply::{Found, MAX_REFERENCES, Shown, apply},
    digests::with_members,
    ledger::Ledger,
    records::{
        Committed, EntryAction, EntryQuery, EntryRow, MailboxCommand, MailboxReply, Operation, UserKey, Which,
    },
    rows::{self, number, stored, word},
    withdrawals::{ACKNOWLEDGED, Recallable, ended_keys, first_answers},
};

impl SqliteStore {
    pub(super) async fn mutate(
        &self,
        now: Timestamp,
        commands: &[MailboxCommand],
        recallable: &Recallable,
    ) -> Result<Committed<Vec<MailboxReply>>, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("changes mailboxes of several tenants in one commit")
            .await?;
        let asked = commands;
        let members = answered_members(&mut tx, commands).await?;
        let commands = with_members(commands, &members);
        let commands = commands.as_deref().unwrap_or(asked);
        let users: HashSet<UserKey> = commands.iter().map(MailboxCommand::key).collect();
        let mailboxes = mailboxes(&mut tx, &self.epoch, &users).await?;
        let mut found = find(&mut tx, commands).await?;
        let mut ledger = Ledger::new(now, self.limits, mailboxes, []);
        ledger.listeners = listeners(
            &mut tx,
            commands.iter().map(|command| &command.tenant),
            self.limits.event_ttl,
        )
        .await?;
        let mut value = Vec::with_capacity(commands.len());
        for (index, command) in commands.iter().enumerate() {
            let mut reply = apply(&mut ledger, &mut found, index, command)?;
            reply.results.truncate(asked[index].operations.len());
            value.push(reply);
        }
        let mut writes = ledger.finish();
        write(&mut tx, now, self.limits.devices, &writes).await?;
        let answers = writes.answers();
        if !answers.is_empty() {
            let enough = withdrawals::answerable(&mut tx, &answers).await?;
            let keys = ended_keys(&answers);
            let except = commands
                .iter()
                .flat_map(|command| command.answering.iter().copied());
            let (reason, except) = (ACKNOWLEDGED, except.collect());
            outside::end_outside(&mut tx, now, &keys, reason, recallable, &except).await?;
            let digests = live_digests(&mut tx, &keys).await?;
            end_digests(&mut tx, now, &digests, recallable).await?;
            for (by, answered) in first_answers(&answers, &enough) {
                withdrawals::answer(&mut tx, now, by, &answered, recallable).await?;
            }
        }
        tx.commit().await?;
        Ok(Committed {
            value,
            told: !writes.events.is_empty() || !answers.is_empty(),
            envelopes: std::mem::take(&mut writes.envelopes),
        })
    }

    pub(super) async fn due_snoozes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<MailboxCommand>, StoreError> {
        let mut read = self
            .sqlite
            .read_system("the clock wakes entries of all tenants")
            .await?;
        let rows = sqlx::query_as(
            "SELECT tenant, user_id, id FROM entries \
             WHERE snoozed_until IS NOT NULL AND snoozed_until <= $1 ORDER BY snoozed_until LIMIT $2",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .fetch_all(&mut *read)
        .await?;
        rows::entry_commands(rows, EntryAction::Wake)
    }

    pub(super) async fn next_snooze(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self
            .sqlite
            .read_system("the clock wakes entries of all tenants")
            .await?;
        let (next,): (Option<i64>,) =
            sqlx::query_as("SELECT MIN(snoozed_until) FROM entries WHERE snoozed_until IS NOT NULL")
                .fetch_one(&mut *read)
                .await?;
        Ok(next.map(Timestamp::from_micros))
    }

    pub(super) async fn outdated_entries(
        &self,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<Vec<MailboxCommand>, StoreError> {
        let mut read = self.sqlite.read_system("the janitor serves all tenants").await?;
        let rows = sqlx::query_as(
            "SELECT tenant, user_id, id FROM entries \
             WHERE gone_at IS NULL AND arrived_at < $1 ORDER BY arrived_at LIMIT $2",
        )
        .bind(cutoff.as_micros())
        .bind(limit as i64)
        .fetch_all(&mut *read)
        .await?;
        rows::entry_commands(rows, EntryAction::Forget)
    }

    pub(super) async fn mailbox(
        &self,
        tenant: &TenantId,
        user: UserId,
    ) -> Result<(Position, Counts), StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let row = self.mailbox_row(&mut read, tenant, user).await?;
        Ok((row.position(), row.counts))
    }

    async fn mailbox_row(
        &self,
        read: &mut SqliteConnection,
        tenant: &TenantId,
        user: UserId,
    ) -> Result<crate::store::records::MailboxRow, StoreError> {
        let statement = format!(
            "SELECT {} FROM mailboxes m WHERE m.tenant = $1 AND m.user_id = $2",
            rows::MAILBOX
        );
        let row: Option<rows::MailboxColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(user.to_string())
            .fetch_optional(read)
            .await?;
        row.map_or_else(|| rows::new_mailbox(&self.epoch, tenant, user), rows::mailbox)
    }

    pub(super) async fn entries(
        &self,
        tenant: &TenantId,
        user: UserId,
        query: &EntryQuery,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement =
            QueryBuilder::<Sqlite>::new(format!("SELECT {} FROM entries e WHERE ", rows::ENTRY));
        statement.push("e.tenant = ").push_bind(tenant.as_str());
        statement.push(" AND e.user_id = ").push_bind(user.to_string());
        statement.push(query.view.condition());
        if query.unread {
            statement.push(" AND e.read_at IS NULL");
        }
        if let Some(category) = &query.category {
            statement.push(" AND e.category = ").push_bind(category.as_str());
        }
        if let Some(before) = query.before {
            statement.push(" AND e.seq < ").push_bind(stored(before));
        }
        statement
            .push(" ORDER BY e.seq DESC LIMIT ")
            .push_bind(i64::from(query.limit));
        let found: Vec<rows::EntryColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        found.into_iter().map(EntryRow::try_from).collect()
    }

    pub(super) async fn entry(
        &self,
        tenant: &TenantId,
        user: UserId,
        id: EntryId,
    ) -> Result<Option<EntryRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM entries e WHERE e.tenant = $1 AND e.user_id = $2 AND e.id = $3 \
             AND e.gone_at IS NULL",
            rows::ENTRY
        );
        let found: Option<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(user.to_string())
            .bind(id.to_string())
            .fetch_optional(&mut *read)
            .await?;
        found.map(EntryRow::try_from).transpose()
    }

    pub(super) async fn contents(
        &self,
        tenant: &TenantId,
        user: UserId,
        which: &[Which],
    ) -> Result<HashMap<Which, String>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let (entries, notifications) = rows::named(which);
        let mut contents = HashMap::new();
        if !entries.is_empty() {
            let rows: Vec<(String, String)> = sqlx::query_as(
                "SELECT e.id, e.content FROM json_each($3) j CROSS JOIN entries e \
                 ON e.tenant = $1 AND e.user_id = $2 AND e.id = j.value WHERE e.gone_at IS NULL",
            )
            .bind(tenant.as_str())
            .bind(user.to_string())
            .bind(json_list(entries.iter())?)
            .fetch_all(&mut *read)
            .await?;
            for (id, content) in rows {
                contents.insert(Which::Entry(word(&id)?), content);
            }
        }
        if !notifications.is_empty() {
            let rows: Vec<(String, String)> = sqlx::query_as(
                "SELECT n.id, n.content FROM json_each($3) j CROSS JOIN recipients r \
                 ON r.tenant = $1 AND r.user_id = $2 AND r.notification = j.value \
                 JOIN notifications n ON n.tenant = r.tenant AND n.id = r.notification",
            )
            .bind(tenant.as_str())
            .bind(user.to_string())
            .bind(json_list(notifications.iter())?)
            .fetch_all(&mut *read)
            .await?;
            for (id, content) in rows {
                contents.insert(Which::Notification(word(&id)?), content);
            }
        }
        Ok(contents)
    }

    pub(super) async fn since(
        &self,
        tenant: &TenantId,
        user: UserId,
        from: &Position,
        limit: usize,
    ) -> Result<Since<LoggedChange>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let rows: Vec<rows::LogColumns> = sqlx::query_as(
            "SELECT m.epoch, m.last_seq, m.floor_seq, l.seq, l.kind, l.body FROM mailboxes m \
             LEFT JOIN mailbox_log l ON l.tenant = m.tenant AND l.user_id = m.user_id AND l.seq > $3 \
             WHERE m.tenant = $1 AND m.user_id = $2 ORDER BY l.seq LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(stored(from.seq))
        .bind(limit as i64 + 1)
        .fetch_all(&mut *read)
        .await?;
        let slice = match rows::log_slice(rows)? {
            Some(slice) => slice,
            None => rows::LogSlice::empty(rows::new_mailbox(&self.epoch, tenant, user)?.epoch),
        };
        Ok(slice.since(from, limit))
    }

    pub(super) async fn confirmed(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: &DeviceName,
    ) -> Result<Option<Position>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let row: Option<(String, i64)> = sqlx::query_as(
            "SELECT m.epoch, c.seq FROM confirmations c \
             JOIN mailboxes m ON m.tenant = c.tenant AND m.user_id = c.user_id \
             WHERE c.tenant = $1 AND c.user_id = $2 AND c.device = $3 ORDER BY c.seq DESC LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(user.to_string())
        .bind(device.as_str())
        .fetch_optional(&mut *read)
        .await?;
        row.map(|(epoch, seq)| {
            Ok(Position {
                epoch: word(&epoch)?,
                seq: number(seq)?,
            })
        })
        .transpose()
    }
}

/// Reads what the commands name.
async fn find(tx: &mut SqliteConnection, commands: &[MailboxCommand]) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let mut entries: HashSet<(UserKey, EntryId)> = HashSet::new();
    let mut notifications = HashSet::new();
    let mut devices = HashSet::new();
    for (index, command) in commands.iter().enumerate() {
        for (number, operation) in command.operations.iter().enumerate() {
            match operation {
                Operation::Confirm(_) => {
                    devices.extend(command.device.clone().map(|name| (command.key(), name)))
                }
                Operation::Entry(Which::Entry(id), _) => {
                    entries.insert((command.key(), *id));
                }
                Operation::Entry(Which::Notification(id), _) => {
                    notifications.insert((command.key(), *id));
                }
                Operation::ReadAll { category, before } => {
                    let before = before.as_ref().map_or(u64::MAX, |position| position.seq);
                    let unread = unread(tx, command, category.as_ref().map(|c| c.as_str()), before).await?;
                    entries.extend(unread.iter().map(|id| (command.key(), *id)));
                    found.unread.insert((index, number), unread);
                }
            }
        }
    }
    if !notifications.is_empty() {
        let statement = format!(
            "SELECT {} FROM json_each($1) j \
             CROSS JOIN recipients r ON r.tenant = j.value ->> 0 AND r.notification = j.value ->> 1 \
             AND r.user_id = j.value ->> 2 \
             LEFT JOIN entries e ON e.tenant = r.tenant AND e.user_id = r.user_id AND e.id = r.entry \
             AND e.notification = r.notification",
            rows::SHOWN
        );
        let rows: Vec<rows::ShownColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(json_list(
                notifications
                    .iter()
                    .map(|((tenant, user), id)| (tenant.as_str(), id, user)),
            )?)
            .fetch_all(&mut *tx)
            .await?;
        for row in rows {
            let (whose, shown) = rows::shown(row)?;
            if let Shown::Entry(id) = shown {
                entries.insert((whose.0.clone(), id));
            }
            found.notifications.insert(whose, shown);
        }
        receipts(tx, &mut found).await?;
    }
    found.entries = named(tx, &entries).await?;
    if !devices.is_empty() {
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
            "SELECT c.tenant, c.user_id, c.device, MAX(c.seq) FROM json_each($1) j \
             CROSS JOIN confirmations c ON c.tenant = j.value ->> 0 AND c.user_id = j.value ->> 1 \
             AND c.device = j.value ->> 2 GROUP BY c.tenant, c.user_id, c.device",
        )
        .bind(json_list(devices.iter().map(|((tenant, user), name)| {
            (tenant.as_str(), user, name.as_str())
        }))?)
        .fetch_all(&mut *tx)
        .await?;
        for (tenant, user, device, seq) in rows {
            found
                .confirmed
                .insert(((word(&tenant)?, word(&user)?), word(&device)?), number(seq)?);
        }
    }
    Ok(found)
}

/// Which receipts there are of what went out over other channels alone.
async fn receipts(tx: &mut SqliteConnection, found: &mut Found) -> Result<(), StoreError> {
    let outside = found.outside();
    if outside.is_empty() {
        return Ok(());
    }
    let rows: Vec<(String, String, String, String, String)> = sqlx::query_as(
        "SELECT r.tenant, r.user_id, r.notification, r.kind, r.device FROM json_each($1) j CROSS JOIN receipts r \
         ON r.tenant = j.value ->> 0 AND r.notification = j.value ->> 1 AND r.user_id = j.value ->> 2",
    )
    .bind(json_list(
        outside
            .into_iter()
            .map(|((tenant, user), id)| (tenant.as_str(), id, user)),
    )?)
    .fetch_all(tx)
    .await?;
    for (tenant, user, notification, kind, device) in rows {
        let whose = ((word(&tenant)?, word(&user)?), word(&notification)?);
        found.receipt(&whose, kind, device);
    }
    Ok(())
}

async fn named(
    tx: &mut SqliteConnection,
    entries: &HashSet<(UserKey, EntryId)>,
) -> Result<HashMap<(UserKey, EntryId), EntryRow>, StoreError> {
    if entries.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = format!(
        "SELECT {} FROM json_each($1) j CROSS JOIN entries e \
         ON e.tenant = j.value ->> 0 AND e.user_id = j.value ->> 1 AND e.id = j.value ->> 2",
        rows::ENTRY_STATE
    );
    let rows: Vec<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(json_list(
            entries
                .iter()
                .map(|((tenant, user), id)| (tenant.as_str(), user, id)),
        )?)
        .fetch_all(&mut *tx)
        .await?;
    rows.into_iter()
        .map(|row| EntryRow::try_from(row).map(|entry| ((entry.key(), entry.id), entry)))
        .collect()
}

/// The oldest unread entries of the inbox.
async fn unread(
    tx: &mut SqliteConnection,
    command: &MailboxCommand,
    category: Option<&str>,
    before: u64,
) -> Result<Vec<EntryId>, StoreError> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT id FROM entries WHERE tenant = $1 AND user_id = $2 AND seq <= $3 AND read_at IS NULL \
         AND gone_at IS NULL AND archived_at IS NULL AND snoozed_until IS NULL \
         AND ($4 IS NULL OR category = $4) ORDER BY seq LIMIT $5",
    )
    .bind(command.tenant.as_str())
    .bind(command.user.to_string())
    .bind(stored(before))
    .bind(category)
    .bind(MAX_REFERENCES as i64)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|(id,)| word(id)).collect()
}
