use carillon_domain::Timestamp;
use carillon_sql::StoreError;
use sqlx::PgConnection;

use super::{
    broadcasts::write_broadcasts,
    column::column,
    digests::write_digests,
    ladder::write_climbs,
    outside::{write_events, write_new, write_overtaken},
    policy::write_alerts,
};
use crate::store::{
    ladder::RecipientKey,
    ledger::{Writes, encode},
    records::{ReceiptRow, RecipientPhase},
    rows::{stored, text},
};

/// Writes everything, in the order of the fields.
pub(super) async fn write(
    connection: &mut PgConnection,
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
    if !ended.is_empty() {
        let tenants = column!(ended, row => row.tenant.as_str());
        let ids = column!(ended, row => row.id.to_string());
        sqlx::query(
            "UPDATE notifications SET state = v.state, ended_at = $5, topics = v.topics, \
             plan = COALESCE(v.plan, notifications.plan) \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $6::text[]) AS v(tenant, id, state, topics, plan) \
             WHERE notifications.tenant = v.tenant AND notifications.id = v.id",
        )
        .bind(&tenants)
        .bind(&ids)
        .bind(column!(ended, row => row.state.as_str()))
        .bind(column!(ended, row => row.topics.as_deref()))
        .bind(now.as_micros())
        .bind(column!(ended, row => row.plan.as_deref()))
        .execute(&mut *connection)
        .await?;
        sqlx::query(
            "DELETE FROM outbox USING UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
             WHERE outbox.tenant = v.tenant AND outbox.notification = v.id",
        )
        .bind(&tenants)
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    }
    write_broadcasts(connection, now, &writes.broadcasts).await?;
    write_events(connection, &writes.events).await?;
    write_new(connection, &writes.outside, &writes.work).await?;
    write_overtaken(connection, now, &writes.overtaken).await?;
    write_alerts(connection, &writes.alerts).await?;
    write_climbs(connection, writes).await?;
    write_digests(connection, now, &writes.digests).await
}

async fn mailboxes(connection: &mut PgConnection, writes: &Writes) -> Result<(), StoreError> {
    let rows = &writes.mailboxes;
    if !rows.is_empty() {
        // Their rows are there and locked.
        sqlx::query(
            "UPDATE mailboxes SET last_seq = v.last_seq, floor_seq = v.floor_seq, total = v.total, \
             unread = v.unread, unseen = v.unseen, oldest_at = v.oldest_at \
             FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::bigint[]) \
             AS v(tenant, user_id, last_seq, floor_seq, total, unread, unseen, oldest_at) \
             WHERE mailboxes.tenant = v.tenant AND mailboxes.user_id = v.user_id",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => stored(row.last_seq)))
        .bind(column!(rows, row => stored(row.floor_seq)))
        .bind(column!(rows, row => stored(row.counts.total)))
        .bind(column!(rows, row => stored(row.counts.unread)))
        .bind(column!(rows, row => stored(row.counts.unseen)))
        .bind(column!(rows, row => row.oldest_at.map(Timestamp::as_micros)))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.log;
    if !rows.is_empty() {
        let bodies: Vec<&str> = rows.iter().map(|row| text(&row.body)).collect::<Result<_, _>>()?;
        sqlx::query(
            "INSERT INTO mailbox_log (tenant, user_id, seq, kind, body, at) SELECT * FROM \
             UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => stored(row.seq)))
        .bind(column!(rows, row => row.kind.as_str()))
        .bind(bodies)
        .bind(column!(rows, row => row.at.as_micros()))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.log_cuts;
    if !rows.is_empty() {
        sqlx::query(
            "DELETE FROM mailbox_log USING UNNEST($1::text[], $2::text[], $3::bigint[]) \
             AS v(tenant, user_id, floor_seq) WHERE mailbox_log.tenant = v.tenant \
             AND mailbox_log.user_id = v.user_id AND mailbox_log.seq <= v.floor_seq",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => stored(row.floor_seq)))
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn entries(connection: &mut PgConnection, writes: &Writes) -> Result<(), StoreError> {
    let rows = &writes.entries;
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO entries (tenant, user_id, id, notification, category, collapse_key, priority, content, \
             created_at, updated_at, arrived_at, seq, silent) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], \
             $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], \
             $11::bigint[], $12::bigint[], $13::bigint[]) \
             ON CONFLICT (tenant, user_id, id) DO UPDATE SET notification = excluded.notification, \
             priority = excluded.priority, content = excluded.content, updated_at = excluded.updated_at, \
             arrived_at = excluded.arrived_at, seen_at = NULL, read_at = NULL, snoozed_until = NULL, \
             acknowledgement = NULL, seq = excluded.seq, silent = excluded.silent",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => row.id.to_string()))
        .bind(column!(rows, row => row.notification.to_string()))
        .bind(column!(rows, row => row.category.as_str()))
        .bind(column!(rows, row => row.collapse_key.as_ref().map(|key| key.as_str())))
        .bind(column!(rows, row => row.priority.as_str()))
        .bind(column!(rows, row => &*row.content))
        .bind(column!(rows, row => row.created_at.as_micros()))
        .bind(column!(rows, row => row.updated_at.as_micros()))
        .bind(column!(rows, row => row.arrived_at.as_micros()))
        .bind(column!(rows, row => stored(row.seq)))
        .bind(column!(rows, row => i64::from(row.silent)))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.entry_states;
    if !rows.is_empty() {
        let acknowledgements: Vec<Option<String>> = rows
            .iter()
            .map(|row| row.acknowledgement.as_ref().map(encode).transpose())
            .collect::<Result<_, _>>()?;
        sqlx::query(
            "UPDATE entries SET updated_at = v.updated_at, seen_at = v.seen_at, read_at = v.read_at, \
             archived_at = v.archived_at, snoozed_until = v.snoozed_until, \
             acknowledgement = v.acknowledgement, gone_at = v.gone_at, \
             content = CASE WHEN v.gone_at IS NULL THEN entries.content ELSE '' END \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], \
             $7::bigint[], $8::bigint[], $9::text[], $10::bigint[]) AS v(tenant, user_id, id, updated_at, \
             seen_at, read_at, archived_at, snoozed_until, acknowledgement, gone_at) \
             WHERE entries.tenant = v.tenant AND entries.user_id = v.user_id AND entries.id = v.id",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => row.id.to_string()))
        .bind(column!(rows, row => row.updated_at.as_micros()))
        .bind(column!(rows, row => row.seen_at.map(Timestamp::as_micros)))
        .bind(column!(rows, row => row.read_at.map(Timestamp::as_micros)))
        .bind(column!(rows, row => row.archived_at.map(Timestamp::as_micros)))
        .bind(column!(rows, row => row.snoozed_until.map(Timestamp::as_micros)))
        .bind(acknowledgements)
        .bind(column!(rows, row => row.gone_at.map(Timestamp::as_micros)))
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Locks recipients, in the one order: after mailboxes, before topics and lanes.
pub(super) async fn lock_recipients(
    connection: &mut PgConnection,
    keys: &[RecipientKey],
) -> Result<(), StoreError> {
    sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, notification, user_id) \
         JOIN recipients r ON r.tenant = j.tenant AND r.notification = j.notification AND r.user_id = j.user_id \
         ORDER BY r.tenant, r.notification, r.user_id FOR UPDATE OF r",
    )
    .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
    .bind(column!(keys, (_, id, _) => id.to_string()))
    .bind(column!(keys, (_, _, user) => user.to_string()))
    .fetch_all(connection)
    .await?;
    Ok(())
}

async fn recipients(connection: &mut PgConnection, writes: &Writes) -> Result<(), StoreError> {
    let rows = &writes.recipients;
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO recipients (tenant, notification, user_id, state, reason, entry, seq, channel, address, phase, \
             step, step_at, counted) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
             $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[])",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.notification.to_string()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => row.state.as_str()))
        .bind(column!(rows, row => row.reason))
        .bind(column!(rows, row => row.entry.map(|id| id.to_string())))
        .bind(column!(rows, row => row.seq.map(stored)))
        .bind(column!(rows, row => row.plain.as_ref().map(|plain| plain.channel.as_str())))
        .bind(column!(rows, row => row.plain.as_ref().map(|plain| plain.to.as_str())))
        .bind(column!(rows, row => row.phase.map(RecipientPhase::as_str)))
        .bind(column!(rows, row => row.step.map(i64::from)))
        .bind(column!(rows, row => row.step_at.map(Timestamp::as_micros)))
        .bind(column!(rows, row => i64::from(row.counted)))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.recipient_ends;
    if !rows.is_empty() {
        let acknowledgements: Vec<Option<String>> = rows
            .iter()
            .map(|row| row.acknowledgement.as_ref().map(encode).transpose())
            .collect::<Result<_, _>>()?;
        sqlx::query(
            "UPDATE recipients SET state = v.state, reason = v.reason, acknowledgement = v.acknowledgement, phase = NULL \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) \
             AS v(tenant, notification, user_id, state, reason, acknowledgement) \
             WHERE recipients.tenant = v.tenant AND recipients.notification = v.notification \
             AND recipients.user_id = v.user_id AND (recipients.state = 'open' \
             OR recipients.state = 'completed' AND v.state = 'acknowledged')",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.notification.to_string()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => row.state.as_str()))
        .bind(column!(rows, row => row.reason))
        .bind(acknowledgements)
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.moves;
    if !rows.is_empty() {
        sqlx::query(
            "UPDATE recipients SET phase = v.phase, step = v.step, step_at = v.step_at, counted = v.counted, \
             entry = COALESCE(v.entry, recipients.entry), seq = COALESCE(v.seq, recipients.seq) \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
             $8::text[], $9::bigint[]) \
             AS v(tenant, notification, user_id, phase, step, step_at, counted, entry, seq) \
             WHERE recipients.tenant = v.tenant AND recipients.notification = v.notification \
             AND recipients.user_id = v.user_id AND recipients.state = 'open'",
        )
        .bind(column!(rows, row => row.key.0.as_str()))
        .bind(column!(rows, row => row.key.1.to_string()))
        .bind(column!(rows, row => row.key.2.to_string()))
        .bind(column!(rows, row => row.phase.as_str()))
        .bind(column!(rows, row => row.step.map(|(step, _)| i64::from(step))))
        .bind(column!(rows, row => row.step.map(|(_, at)| at.as_micros())))
        .bind(column!(rows, row => i64::from(row.counted)))
        .bind(column!(rows, row => row.entry.map(|(entry, _)| entry.to_string())))
        .bind(column!(rows, row => row.entry.map(|(_, seq)| stored(seq))))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.deliveries;
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO deliveries (tenant, notification, user_id, step, channel, address, id, state, created_at) \
             SELECT v.tenant, v.notification, v.user_id, v.step, 'in_app', 'inbox', v.id, 'accepted', v.created_at \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[]) \
             AS v(tenant, notification, user_id, id, created_at, step)",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.notification.to_string()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => row.id.to_string()))
        .bind(column!(rows, row => row.created_at.as_micros()))
        .bind(column!(rows, row => i64::from(row.step)))
        .execute(&mut *connection)
        .await?;
    }
    write_receipts(connection, &writes.receipts).await
}

/// Writes the first receipts of their kinds.
pub(super) async fn write_receipts(
    connection: &mut PgConnection,
    rows: &[ReceiptRow],
) -> Result<(), StoreError> {
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO receipts (tenant, notification, user_id, kind, at, device, channel) SELECT * FROM \
             UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[]) \
             ON CONFLICT DO NOTHING",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.notification.to_string()))
        .bind(column!(rows, row => row.user.to_string()))
        .bind(column!(rows, row => row.kind))
        .bind(column!(rows, row => row.at.as_micros()))
        .bind(column!(rows, row => row.device.as_ref().map_or("", |device| device.as_str())))
        .bind(column!(rows, row => row.channel()))
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn confirmations(
    connection: &mut PgConnection,
    devices: usize,
    writes: &Writes,
) -> Result<(), StoreError> {
    let rows = &writes.confirmations;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO confirmations (tenant, user_id, device, seq, at) SELECT * FROM \
         UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) ON CONFLICT DO NOTHING",
    )
    .bind(column!(rows, row => row.tenant.as_str()))
    .bind(column!(rows, row => row.user.to_string()))
    .bind(column!(rows, row => row.device.as_str()))
    .bind(column!(rows, row => stored(row.seq)))
    .bind(column!(rows, row => row.at.as_micros()))
    .execute(&mut *connection)
    .await?;
    // A user's devices are bounded: the ones that were silent the longest go.
    for row in rows.iter().filter(|row| row.new_device) {
        sqlx::query(
            "DELETE FROM confirmations WHERE tenant = $1 AND user_id = $2 AND device IN (SELECT device \
             FROM confirmations WHERE tenant = $1 AND user_id = $2 GROUP BY device \
             ORDER BY MAX(at) DESC, device OFFSET $3)",
        )
        .bind(row.tenant.as_str())
        .bind(row.user.to_string())
        .bind(stored(devices as u64))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn topics(connection: &mut PgConnection, writes: &Writes) -> Result<(), StoreError> {
    let rows = &writes.topics;
    if !rows.is_empty() {
        // Their rows are there and locked.
        sqlx::query(
            "UPDATE topics SET last_seq = v.last_seq, floor_seq = v.floor_seq, oldest_at = v.oldest_at, \
             used_at = v.used_at FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], \
             $5::bigint[], $6::bigint[]) AS v(tenant, topic, last_seq, floor_seq, oldest_at, used_at) \
             WHERE topics.tenant = v.tenant AND topics.topic = v.topic",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.topic.as_str()))
        .bind(column!(rows, row => stored(row.last_seq)))
        .bind(column!(rows, row => stored(row.floor_seq)))
        .bind(column!(rows, row => row.oldest_at.map(Timestamp::as_micros)))
        .bind(column!(rows, row => row.used_at.as_micros()))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.topic_log;
    if !rows.is_empty() {
        let bodies: Vec<&str> = rows.iter().map(|row| text(&row.data)).collect::<Result<_, _>>()?;
        let publishers: Vec<Option<String>> = rows
            .iter()
            .map(|row| row.publisher.as_ref().map(encode).transpose())
            .collect::<Result<_, _>>()?;
        sqlx::query(
            "INSERT INTO topic_log (tenant, topic, seq, data, publisher, at) SELECT * FROM \
             UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.topic.as_str()))
        .bind(column!(rows, row => stored(row.seq)))
        .bind(bodies)
        .bind(publishers)
        .bind(column!(rows, row => row.at.as_micros()))
        .execute(&mut *connection)
        .await?;
    }
    let rows = &writes.topic_cuts;
    if !rows.is_empty() {
        sqlx::query(
            "DELETE FROM topic_log USING UNNEST($1::text[], $2::text[], $3::bigint[]) \
             AS v(tenant, topic, floor_seq) WHERE topic_log.tenant = v.tenant \
             AND topic_log.topic = v.topic AND topic_log.seq <= v.floor_seq",
        )
        .bind(column!(rows, row => row.tenant.as_str()))
        .bind(column!(rows, row => row.topic.as_str()))
        .bind(column!(rows, row => stored(row.floor_seq)))
        .execute(connection)
        .await?;
    }
    Ok(())
}
