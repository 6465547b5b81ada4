use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::SqliteConnection;

use super::{
    broadcasts::write_broadcasts,
    bulk::Bulk,
    digests::write_digests,
    keys::{json_list, pairs},
    ladder::write_climbs,
    outside::{write_deliveries, write_events, write_overtaken, write_work},
    policy::write_alerts,
};
use crate::store::{
    ledger::{Writes, encode},
    records::{ReceiptRow, RecipientPhase},
    rows::{stored, text},
};

static MAILBOXES: Bulk = Bulk::new(
    "INSERT INTO mailboxes (tenant, user_id, epoch, last_seq, floor_seq, total, unread, unseen, oldest_at) VALUES ",
    9,
    " ON CONFLICT (tenant, user_id) DO UPDATE SET last_seq = excluded.last_seq, floor_seq = excluded.floor_seq, \
     total = excluded.total, unread = excluded.unread, unseen = excluded.unseen, oldest_at = excluded.oldest_at",
);
static LOG: Bulk = Bulk::new(
    "INSERT INTO mailbox_log (tenant, user_id, seq, kind, body, at) VALUES ",
    6,
    "",
);
static ENTRIES: Bulk = Bulk::new(
    "INSERT INTO entries (tenant, user_id, id, notification, category, collapse_key, priority, content, \
     created_at, updated_at, arrived_at, seq, silent) VALUES ",
    13,
    " ON CONFLICT (tenant, user_id, id) DO UPDATE SET notification = excluded.notification, \
     priority = excluded.priority, content = excluded.content, updated_at = excluded.updated_at, \
     arrived_at = excluded.arrived_at, seen_at = NULL, read_at = NULL, snoozed_until = NULL, \
     acknowledgement = NULL, seq = excluded.seq, silent = excluded.silent",
);
static ENTRY_STATES: Bulk = Bulk::new(
    "UPDATE entries SET updated_at = v.column4, seen_at = v.column5, read_at = v.column6, \
     archived_at = v.column7, snoozed_until = v.column8, acknowledgement = v.column9, gone_at = v.column10, \
     content = CASE WHEN v.column10 IS NULL THEN content ELSE '' END FROM (VALUES ",
    10,
    ") AS v WHERE entries.tenant = v.column1 AND entries.user_id = v.column2 AND entries.id = v.column3",
);
static RECIPIENTS: Bulk = Bulk::new(
    "INSERT INTO recipients (tenant, notification, user_id, state, reason, entry, seq, channel, address, phase, step, \
     step_at, counted) VALUES ",
    13,
    "",
);
static RECIPIENT_ENDS: Bulk = Bulk::new(
    "UPDATE recipients SET state = v.column4, reason = v.column5, acknowledgement = v.column6, phase = NULL \
     FROM (VALUES ",
    6,
    ") AS v WHERE recipients.tenant = v.column1 AND recipients.notification = v.column2 \
     AND recipients.user_id = v.column3 AND (recipients.state = 'open' \
     OR recipients.state = 'completed' AND v.column4 = 'acknowledged')",
);
static RECIPIENT_MOVES: Bulk = Bulk::new(
    "UPDATE recipients SET phase = v.column4, step = v.column5, step_at = v.column6, counted = v.column7, \
     entry = COALESCE(v.column8, entry), seq = COALESCE(v.column9, seq) FROM (VALUES ",
    9,
    ") AS v WHERE recipients.tenant = v.column1 AND recipients.notification = v.column2 \
     AND recipients.user_id = v.column3 AND recipients.state = 'open'",
);
static RECEIPTS: Bulk = Bulk::new(
    "INSERT INTO receipts (tenant, notification, user_id, kind, at, device, channel) VALUES ",
    7,
    " ON CONFLICT DO NOTHING",
);
static CONFIRMATIONS: Bulk = Bulk::new(
    "INSERT INTO confirmations (tenant, user_id, device, seq, at) VALUES ",
    5,
    " ON CONFLICT DO NOTHING",
);
static TOPICS: Bulk = Bulk::new(
    "INSERT INTO topics (tenant, topic, epoch, last_seq, floor_seq, oldest_at, used_at) VALUES ",
    7,
    " ON CONFLICT (tenant, topic) DO UPDATE SET last_seq = excluded.last_seq, floor_seq = excluded.floor_seq, \
     oldest_at = excluded.oldest_at, used_at = excluded.used_at",
);
static TOPIC_LOG: Bulk = Bulk::new(
    "INSERT INTO topic_log (tenant, topic, seq, data, publisher, at) VALUES ",
    6,
    "",
);
static ENDED: Bulk = Bulk::new(
    "UPDATE notifications SET state = v.column3, ended_at = v.column4, topics = v.column5, \
     plan = COALESCE(v.column6, plan) FROM (VALUES ",
    6,
    ") AS v WHERE notifications.tenant = v.column1 AND notifications.id = v.column2",
);

/// Writes everything, in the order of the fields.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    now: Timestamp,
    devices: usize,
    writes: &Writes,
) -> Result<(), StoreError> {
    mailboxes(connection, writes).await?;
    entries(connection, writes).await?;
    recipients(connection, writes).await?;
    confirmations(connection, devices, writes).await?;
    topics(connection, writes).await?;
    for row in &writes.published {
        sqlx::query(
            "UPDATE notifications SET topics = COALESCE($3, topics), plan = COALESCE($4, plan) \
             WHERE tenant = $1 AND id = $2",
        )
        .bind(row.tenant.as_str())
        .bind(row.id.to_string())
        .bind(row.topics.as_deref())
        .bind(row.plan.as_deref())
        .execute(&mut *connection)
        .await?;
    }
    let ended = &writes.ended;
    ENDED
        .run(connection, ended, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.id)
                .bind(row.state.as_str())
                .bind(now)
                .bind(row.topics.as_deref())
                .bind(row.plan.as_ref())
        })
        .await?;
    if !ended.is_empty() {
        let keys = pairs(ended.iter().map(|row| (&row.tenant, row.id)))?;
        sqlx::query(
            "DELETE FROM outbox WHERE (tenant, notification) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(keys)
        .execute(&mut *connection)
        .await?;
    }
    write_broadcasts(connection, now, &writes.broadcasts).await?;
    write_events(connection, &writes.events).await?;
    write_work(connection, &writes.work).await?;
    write_overtaken(connection, now, &writes.overtaken).await?;
    write_alerts(connection, &writes.alerts).await?;
    write_climbs(connection, writes).await?;
    write_digests(connection, now, &writes.digests).await
}

async fn mailboxes(connection: &mut SqliteConnection, writes: &Writes) -> Result<(), StoreError> {
    MAILBOXES
        .run(connection, &writes.mailboxes, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.user)
                .bind(row.epoch.as_str())
                .bind(stored(row.last_seq))
                .bind(stored(row.floor_seq))
                .bind(stored(row.counts.total))
                .bind(stored(row.counts.unread))
                .bind(stored(row.counts.unseen))
                .bind(row.oldest_at)
        })
        .await?;
    for row in &writes.log {
        text(&row.body)?;
    }
    LOG.run(connection, &writes.log, |columns, row| {
        columns
            .bind(row.tenant.as_str())
            .bind(row.user)
            .bind(stored(row.seq))
            .bind(row.kind.as_str())
            .bind(text(&row.body).unwrap_or_default())
            .bind(row.at)
    })
    .await?;
    if !writes.log_cuts.is_empty() {
        let cuts = json_list(
            writes
                .log_cuts
                .iter()
                .map(|row| (row.tenant.as_str(), row.user.to_string(), row.floor_seq)),
        )?;
        sqlx::query(
            "DELETE FROM mailbox_log WHERE rowid IN (SELECT l.rowid FROM json_each($1) j \
             CROSS JOIN mailbox_log l ON l.tenant = j.value ->> 0 AND l.user_id = j.value ->> 1 \
             AND l.seq <= j.value ->> 2)",
        )
        .bind(cuts)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn entries(connection: &mut SqliteConnection, writes: &Writes) -> Result<(), StoreError> {
    ENTRIES
        .run(connection, &writes.entries, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.user)
                .bind(row.id)
                .bind(row.notification)
                .bind(row.category.as_str())
                .bind(row.collapse_key.as_ref().map(|key| key.as_str()))
                .bind(row.priority.as_str())
                .bind(&row.content)
                .bind(row.created_at)
                .bind(row.updated_at)
                .bind(row.arrived_at)
                .bind(stored(row.seq))
                .bind(i64::from(row.silent))
        })
        .await?;
    let states: Vec<_> = writes
        .entry_states
        .iter()
        .map(|row| Ok((row, row.acknowledgement.as_ref().map(encode).transpose()?)))
        .collect::<Result<_, StoreError>>()?;
    ENTRY_STATES
        .run(connection, &states, |columns, (row, acknowledgement)| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.user)
                .bind(row.id)
                .bind(row.updated_at)
                .bind(row.seen_at)
                .bind(row.read_at)
                .bind(row.archived_at)
                .bind(row.snoozed_until)
                .bind(acknowledgement.as_deref())
                .bind(row.gone_at)
        })
        .await?;
    Ok(())
}

async fn recipients(connection: &mut SqliteConnection, writes: &Writes) -> Result<(), StoreError> {
    RECIPIENTS
        .run(connection, &writes.recipients, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.notification)
                .bind(row.user)
                .bind(row.state.as_str())
                .bind(row.reason)
                .bind(row.entry)
                .bind(row.seq.map(stored))
                .bind(row.plain.as_ref().map(|plain| plain.channel.as_str()))
                .bind(row.plain.as_ref().map(|plain| plain.to.as_str()))
                .bind(row.phase.map(RecipientPhase::as_str))
                .bind(row.step.map(i64::from))
                .bind(row.step_at)
                .bind(i64::from(row.counted))
        })
        .await?;
    let ends: Vec<_> = writes
        .recipient_ends
        .iter()
        .map(|row| Ok((row, row.acknowledgement.as_ref().map(encode).transpose()?)))
        .collect::<Result<_, StoreError>>()?;
    RECIPIENT_ENDS
        .run(connection, &ends, |columns, (row, acknowledgement)| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.notification)
                .bind(row.user)
                .bind(row.state.as_str())
                .bind(row.reason)
                .bind(acknowledgement.as_deref())
        })
        .await?;
    RECIPIENT_MOVES
        .run(connection, &writes.moves, |columns, row| {
            let (tenant, notification, user) = &row.key;
            columns
                .bind(tenant.as_str())
                .bind(*notification)
                .bind(*user)
                .bind(row.phase.as_str())
                .bind(row.step.map(|(step, _)| i64::from(step)))
                .bind(row.step.map(|(_, at)| at))
                .bind(i64::from(row.counted))
                .bind(row.entry.map(|(entry, _)| entry))
                .bind(row.entry.map(|(_, seq)| stored(seq)))
        })
        .await?;
    write_deliveries(connection, &writes.deliveries, &writes.outside).await?;
    write_receipts(connection, &writes.receipts).await
}

/// Writes the first receipts of their kinds.
pub(super) async fn write_receipts(
    connection: &mut SqliteConnection,
    rows: &[ReceiptRow],
) -> Result<(), StoreError> {
    RECEIPTS
        .run(connection, rows, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.notification)
                .bind(row.user)
                .bind(row.kind)
                .bind(row.at)
                .bind(row.device.as_ref().map_or("", |device| device.as_str()))
                .bind(row.channel())
        })
        .await?;
    Ok(())
}

async fn confirmations(
    connection: &mut SqliteConnection,
    devices: usize,
    writes: &Writes,
) -> Result<(), StoreError> {
    CONFIRMATIONS
        .run(connection, &writes.confirmations, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.user)
                .bind(row.device.as_str())
                .bind(stored(row.seq))
                .bind(row.at)
        })
        .await?;
    // A user's devices are bounded: the ones that were silent the longest go.
    for row in writes.confirmations.iter().filter(|row| row.new_device) {
        sqlx::query(
            "DELETE FROM confirmations WHERE tenant = $1 AND user_id = $2 AND device IN (SELECT device \
             FROM confirmations WHERE tenant = $1 AND user_id = $2 GROUP BY device \
             ORDER BY MAX(at) DESC, device LIMIT -1 OFFSET $3)",
        )
        .bind(row.tenant.as_str())
        .bind(row.user.to_string())
        .bind(stored(devices as u64))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn topics(connection: &mut SqliteConnection, writes: &Writes) -> Result<(), StoreError> {
    TOPICS
        .run(connection, &writes.topics, |columns, row| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.topic.as_str())
                .bind(row.epoch.as_str())
                .bind(stored(row.last_seq))
                .bind(stored(row.floor_seq))
                .bind(row.oldest_at)
                .bind(row.used_at)
        })
        .await?;
    let publications: Vec<_> = writes
        .topic_log
        .iter()
        .map(|row| {
            Ok((
                row,
                text(&row.data)?,
                row.publisher.as_ref().map(encode).transpose()?,
            ))
        })
        .collect::<Result<_, StoreError>>()?;
    TOPIC_LOG
        .run(connection, &publications, |columns, (row, data, publisher)| {
            columns
                .bind(row.tenant.as_str())
                .bind(row.topic.as_str())
                .bind(stored(row.seq))
                .bind(*data)
                .bind(publisher.as_deref())
                .bind(row.at)
        })
        .await?;
    if !writes.topic_cuts.is_empty() {
        let cuts = json_list(
            writes
                .topic_cuts
                .iter()
                .map(|row| (row.tenant.as_str(), row.topic.as_str(), row.floor_seq)),
        )?;
        sqlx::query(
            "DELETE FROM topic_log WHERE rowid IN (SELECT l.rowid FROM json_each($1) j \
             CROSS JOIN topic_log l ON l.tenant = j.value ->> 0 AND l.topic = j.value ->> 1 \
             AND l.seq <= j.value ->> 2)",
        )
        .bind(cuts)
        .execute(connection)
        .await?;
    }
    Ok(())
}
