use std::time::Duration;

use carillon_domain::Timestamp;
use carillon_sql::{StoreError, TenantScope};
use sqlx::SqliteConnection;

use super::{SqliteStore, keys::json_list, schedules};
use crate::store::{
    Fingerprints,
    records::{Erasure, Sweep, Tally},
    rows::{self, first_id_at, number},
};

impl SqliteStore {
    pub(super) async fn erase(&self, now: Timestamp, erasure: &Erasure) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&erasure.tenant)).await?;
        let (tenant, user) = (erasure.tenant.as_str(), erasure.user.to_string());
        sqlx::query("INSERT INTO erased (tenant, user_id, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(tenant)
            .bind(user.as_str())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
        // Who bears the name later is somebody else: what came after the first pass is his.
        let (until,): (i64,) = sqlx::query_as("SELECT at FROM erased WHERE tenant = $1 AND user_id = $2")
            .bind(tenant)
            .bind(user.as_str())
            .fetch_one(&mut *tx)
            .await?;
        // What he answered for all stays answered, by nobody.
        sqlx::query(
            "UPDATE notifications SET answered = json_remove(answered, '$.user', '$.acknowledgement.device', \
             '$.acknowledgement.action') WHERE tenant = $1 AND answered IS NOT NULL AND answered ->> 'user' = $2 \
             AND id IN (SELECT notification FROM recipients WHERE tenant = $1 AND user_id = $2)",
        )
        .bind(tenant)
        .bind(user.as_str())
        .execute(&mut *tx)
        .await?;
        if let Some(name) = &erasure.name {
            let mentions: Vec<(String, String)> = sqlx::query_as(
                "SELECT id, targets FROM notifications WHERE tenant = $1 AND id IN \
                 (SELECT notification FROM recipients WHERE tenant = $1 AND user_id = $2) UNION ALL \
                 SELECT id, targets FROM notifications WHERE tenant = $1 AND state = 'accepted' \
                 AND state <> 'planned' AND created_at <= $3",
            )
            .bind(tenant)
            .bind(user.as_str())
            .bind(until)
            .fetch_all(&mut *tx)
            .await?;
            for (id, targets) in mentions {
                let Some((targets, alone)) = rows::without(&targets, name)? else {
                    continue;
                };
                sqlx::query(
                    "UPDATE notifications SET targets = $3, content = CASE WHEN $4 THEN $5 ELSE content END, \
                     collapse_key = CASE WHEN $4 THEN NULL ELSE collapse_key END, \
                     digest_key = CASE WHEN $4 THEN NULL ELSE digest_key END, \
                     template = CASE WHEN $4 THEN NULL ELSE template END, \
                     data = CASE WHEN $4 THEN NULL ELSE data END \
                     WHERE tenant = $1 AND id = $2",
                )
                .bind(tenant)
                .bind(id.as_str())
                .bind(targets)
                .bind(i64::from(alone))
                .bind(rows::ERASED_CONTENT)
                .execute(&mut *tx)
                .await?;
                // Whoever planned it as it was must look again.
                sqlx::query(
                    "UPDATE outbox SET lease = lease + 1, due_at = MAX($3, \
                     (SELECT send_at FROM notifications WHERE tenant = $1 AND id = $2)) \
                     WHERE tenant = $1 AND notification = $2",
                )
                .bind(tenant)
                .bind(id)
                .bind(now.as_micros())
                .execute(&mut *tx)
                .await?;
            }
            schedules::forget(&mut tx, &erasure.tenant, name, until).await?;
            sqlx::query(
                "UPDATE events SET body = json_set(body, '$.data.user', NULL) WHERE tenant = $1 \
                 AND kind = 'notification.acknowledged' AND body ->> '$.data.user' = $3 \
                 AND body ->> '$.data.notification_id' IN \
                 (SELECT notification FROM recipients WHERE tenant = $1 AND user_id = $2)",
            )
            .bind(tenant)
            .bind(user.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "UPDATE topic_log SET publisher = NULL \
                 WHERE tenant = $1 AND publisher IS NOT NULL AND publisher ->> '$.user' = $2 AND at <= $3",
            )
            .bind(tenant)
            .bind(name.as_str())
            .bind(until)
            .execute(&mut *tx)
            .await?;
        }
        hide_suppressed(&mut tx, &self.prints, tenant, user.as_str()).await?;
        for statement in [
            // What endpoints were told of him, without who and where he is.
            "UPDATE events SET body = json_set(body, '$.data.address', NULL, '$.data.user', NULL) WHERE tenant = $1 AND kind LIKE 'delivery.%' \
             AND body ->> '$.data.delivery_id' IN (SELECT d.id FROM recipients r JOIN deliveries d ON d.tenant = r.tenant \
             AND d.notification = r.notification AND d.user_id = r.user_id AND d.channel <> 'in_app' \
             WHERE r.tenant = $1 AND r.user_id = $2)",
            // What was handed in and told him.
            "UPDATE domain_events SET body = NULL WHERE tenant = $1 AND id IN (SELECT e.event FROM recipients r \
             JOIN domain_event_notifications e ON e.tenant = r.tenant AND e.notification = r.notification \
             WHERE r.tenant = $1 AND r.user_id = $2)",
            "DELETE FROM receipts WHERE (tenant, notification, user_id) IN \
             (SELECT tenant, notification, user_id FROM recipients WHERE tenant = $1 AND user_id = $2)",
            "DELETE FROM attempts WHERE (tenant, delivery) IN (SELECT d.tenant, d.id FROM deliveries d \
             WHERE d.channel <> 'in_app' AND (d.tenant, d.notification, d.user_id) IN \
             (SELECT tenant, notification, user_id FROM recipients WHERE tenant = $1 AND user_id = $2))",
            "DELETE FROM delivery_queue WHERE (tenant, delivery) IN (SELECT d.tenant, d.id FROM deliveries d \
             WHERE d.channel <> 'in_app' AND (d.tenant, d.notification, d.user_id) IN \
             (SELECT tenant, notification, user_id FROM recipients WHERE tenant = $1 AND user_id = $2))",
            "DELETE FROM deliveries WHERE (tenant, notification, user_id) IN \
             (SELECT tenant, notification, user_id FROM recipients WHERE tenant = $1 AND user_id = $2)",
            // What his endpoints were told beside notifications: tests.
            "DELETE FROM attempts WHERE (tenant, delivery) IN (SELECT d.tenant, d.id FROM endpoints e \
             JOIN deliveries d ON d.tenant = e.tenant AND d.channel = 'webhook' AND d.address = e.id \
             WHERE e.tenant = $1 AND e.user_id = $2)",
            "DELETE FROM delivery_queue WHERE (tenant, delivery) IN (SELECT d.tenant, d.id FROM endpoints e \
             JOIN deliveries d ON d.tenant = e.tenant AND d.channel = 'webhook' AND d.address = e.id \
             WHERE e.tenant = $1 AND e.user_id = $2)",
            "DELETE FROM deliveries WHERE tenant = $1 AND channel = 'webhook' AND address IN \
             (SELECT e.id FROM endpoints e WHERE e.tenant = $1 AND e.user_id = $2)",
            "DELETE FROM endpoint_secrets WHERE tenant = $1 AND endpoint IN \
             (SELECT e.id FROM endpoints e WHERE e.tenant = $1 AND e.user_id = $2)",
            "DELETE FROM endpoints WHERE tenant = $1 AND user_id = $2",
            "UPDATE recipients SET state = 'erased', phase = NULL, reason = NULL, entry = NULL, seq = NULL, \
             acknowledgement = NULL WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM preferences WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM user_policies WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM alerts WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM reachability WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM climbs WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM digest_members WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM digests WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM decisions WHERE (tenant, notification, user_id) IN \
             (SELECT tenant, notification, user_id FROM recipients WHERE tenant = $1 AND user_id = $2)",
            "DELETE FROM confirmations WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM mailbox_log WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM entries WHERE tenant = $1 AND user_id = $2",
            "DELETE FROM mailboxes WHERE tenant = $1 AND user_id = $2",
        ] {
            sqlx::query(statement)
                .bind(tenant)
                .bind(user.as_str())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    pub(super) async fn sweep(
        &self,
        sweep: Sweep,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let mut tx = self.sqlite.begin_system("the janitor serves all tenants").await?;
        let limit = limit as i64;
        let removed = match sweep {
            Sweep::Notifications => notifications(&mut tx, cutoff, limit).await?,
            Sweep::Idempotency => {
                let statement = "DELETE FROM idempotency WHERE rowid IN \
                     (SELECT rowid FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::Log => cut_logs(&mut tx, &MAILBOX_CUT, cutoff, limit).await?,
            Sweep::GoneEntries => {
                let statement = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries \
                     WHERE gone_at IS NOT NULL AND gone_at < $1 ORDER BY gone_at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::TopicLog => cut_logs(&mut tx, &TOPIC_CUT, cutoff, limit).await?,
            Sweep::Topics => {
                let statement = "DELETE FROM topics WHERE (tenant, topic) IN (SELECT tenant, topic FROM topics \
                     WHERE oldest_at IS NULL AND used_at < $1 ORDER BY used_at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::Confirmations => {
                let statement = "DELETE FROM confirmations WHERE (tenant, user_id, device, seq) IN \
                     (SELECT c.tenant, c.user_id, c.device, c.seq FROM confirmations c WHERE c.at < $1 \
                     AND EXISTS (SELECT 1 FROM confirmations newer WHERE newer.tenant = c.tenant \
                     AND newer.user_id = c.user_id AND newer.device = c.device AND newer.seq > c.seq) \
                     ORDER BY c.at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::Devices => {
                let statement = "DELETE FROM confirmations WHERE (tenant, user_id, device, seq) IN \
                     (SELECT tenant, user_id, device, seq FROM confirmations WHERE at < $1 ORDER BY at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::Erased => {
                let statement = "DELETE FROM erased WHERE (tenant, user_id) IN \
                     (SELECT tenant, user_id FROM erased WHERE at < $1 ORDER BY at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::Alerts => {
                let statement = "DELETE FROM alerts WHERE (tenant, user_id, at, notification) IN \
                     (SELECT tenant, user_id, at, notification FROM alerts WHERE at < $1 ORDER BY at LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::TemplateVersions => {
                let statement = "DELETE FROM template_versions WHERE (tenant, name, version) IN \
                     (SELECT v.tenant, v.name, v.version FROM templates t JOIN template_versions v \
                     ON v.tenant = t.tenant AND v.name = t.name WHERE t.version IS NULL AND t.updated_at < $1 \
                     AND NOT EXISTS (SELECT 1 FROM notifications n WHERE n.tenant = v.tenant \
                     AND n.template = v.name AND n.template_version = v.version) LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
            Sweep::Templates => {
                let statement = "DELETE FROM templates WHERE (tenant, name) IN \
                     (SELECT t.tenant, t.name FROM templates t WHERE t.version IS NULL AND t.updated_at < $1 \
                     AND NOT EXISTS (SELECT 1 FROM template_versions v WHERE v.tenant = t.tenant \
                     AND v.name = t.name) LIMIT $2)";
                delete(&mut tx, statement, cutoff, limit).await?
            }
        };
        tx.commit().await?;
        Ok(removed)
    }

    pub(super) async fn tally(&self, now: Timestamp) -> Result<Tally, StoreError> {
        let mut read = self.sqlite.read_system("metrics count all tenants").await?;
        // One statement, so that all numbers are of one moment.
        let row: (i64, i64, i64, i64, i64, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM notifications), \
             (SELECT COUNT(*) FROM notifications WHERE state = 'accepted' AND state <> 'planned'), \
             (SELECT COUNT(*) FROM notifications WHERE state = 'cancelled' AND state <> 'planned'), \
             (SELECT COUNT(*) FROM notifications WHERE state = 'expired' AND state <> 'planned'), \
             (SELECT COUNT(*) FROM outbox), (SELECT MIN(due_at) FROM outbox)",
        )
        .fetch_one(&mut *read)
        .await?;
        let (all, accepted, cancelled, expired, outbox, oldest) = row;
        Ok(Tally {
            accepted: number(accepted)?,
            planned: number(all - accepted - cancelled - expired)?,
            cancelled: number(cancelled)?,
            expired: number(expired)?,
            outbox: number(outbox)?,
            lag: oldest.map_or(Duration::ZERO, |oldest| now.since(Timestamp::from_micros(oldest))),
        })
    }
}

async fn delete(
    tx: &mut SqliteConnection,
    statement: &'static str,
    cutoff: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    Ok(sqlx::query(statement)
        .bind(cutoff.as_micros())
        .bind(limit)
        .execute(tx)
        .await?
        .rows_affected())
}

/// Notifications go tenant by tenant, the oldest first, each with everything below it.
async fn notifications(tx: &mut SqliteConnection, cutoff: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let mut removed = 0;
    let mut tenant = String::new();
    loop {
        let (next,): (Option<String>,) =
            sqlx::query_as("SELECT MIN(tenant) FROM notifications WHERE tenant > $1")
                .bind(tenant.as_str())
                .fetch_one(&mut *tx)
                .await?;
        let Some(next) = next else { return Ok(removed) };
        tenant = next;
        let ids: Vec<(String,)> = sqlx::query_as(
            // What was revived of it is still under way.
            "SELECT n.id FROM notifications n WHERE n.tenant = $1 AND n.id < $2 AND n.state <> 'accepted' \
             AND n.ended_at < $3 AND n.expires_at < $3 AND NOT EXISTS (SELECT 1 FROM deliveries d \
             JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id WHERE d.tenant = n.tenant \
             AND d.notification = n.id) ORDER BY n.id LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(first_id_at(cutoff))
        .bind(cutoff.as_micros())
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        if ids.is_empty() {
            continue;
        }
        let ids = json_list(ids.iter().map(|(id,)| id))?;
        for statement in [
            "DELETE FROM receipts WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM attempts WHERE tenant = $1 AND delivery IN (SELECT d.id FROM deliveries d \
             WHERE d.tenant = $1 AND d.channel <> 'in_app' AND d.notification IN (SELECT value FROM json_each($2)))",
            "DELETE FROM delivery_queue WHERE tenant = $1 AND delivery IN (SELECT d.id FROM deliveries d \
             WHERE d.tenant = $1 AND d.channel <> 'in_app' AND d.notification IN (SELECT value FROM json_each($2)))",
            "DELETE FROM deliveries WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM climbs WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM decisions WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM broadcasts WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM withdrawals WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM recipients WHERE tenant = $1 AND notification IN (SELECT value FROM json_each($2))",
            "DELETE FROM notifications WHERE tenant = $1 AND id IN (SELECT value FROM json_each($2))",
        ] {
            let done = sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(ids.as_str())
                .execute(&mut *tx)
                .await?;
            removed += done.rows_affected();
        }
        if removed >= limit.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// The statements that cut one kind of log.
struct Cut {
    /// The logs with something too old.
    outdated: &'static str,
    /// Raises the floors of logs by at most so many.
    raise: &'static str,
    /// Deletes what lies below.
    delete: &'static str,
    /// Notes what is the oldest now.
    oldest: &'static str,
}

const MAILBOX_CUT: Cut = Cut {
    outdated: "SELECT tenant, user_id FROM mailboxes WHERE oldest_at IS NOT NULL AND oldest_at < $1 \
               ORDER BY oldest_at LIMIT 64",
    raise: "UPDATE mailboxes SET floor_seq = MAX(floor_seq, COALESCE((SELECT MAX(l.seq) FROM mailbox_log l \
            WHERE l.tenant = mailboxes.tenant AND l.user_id = mailboxes.user_id AND l.at < $2 \
            AND l.seq <= mailboxes.floor_seq + $3), 0)) WHERE (tenant, user_id) IN \
            (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    delete: "DELETE FROM mailbox_log WHERE rowid IN (SELECT l.rowid FROM json_each($1) j \
             CROSS JOIN mailboxes m ON m.tenant = j.value ->> 0 AND m.user_id = j.value ->> 1 \
             CROSS JOIN mailbox_log l ON l.tenant = m.tenant AND l.user_id = m.user_id AND l.seq <= m.floor_seq)",
    oldest: "UPDATE mailboxes SET oldest_at = (SELECT l.at FROM mailbox_log l \
             WHERE l.tenant = mailboxes.tenant AND l.user_id = mailboxes.user_id ORDER BY l.seq LIMIT 1) \
             WHERE (tenant, user_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
};

const TOPIC_CUT: Cut = Cut {
    outdated: "SELECT tenant, topic FROM topics WHERE oldest_at IS NOT NULL AND oldest_at < $1 \
               ORDER BY oldest_at LIMIT 64",
    raise: "UPDATE topics SET floor_seq = MAX(floor_seq, COALESCE((SELECT MAX(l.seq) FROM topic_log l \
            WHERE l.tenant = topics.tenant AND l.topic = topics.topic AND l.at < $2 \
            AND l.seq <= topics.floor_seq + $3), 0)) WHERE (tenant, topic) IN \
            (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
    delete: "DELETE FROM topic_log WHERE rowid IN (SELECT l.rowid FROM json_each($1) j \
             CROSS JOIN topics t ON t.tenant = j.value ->> 0 AND t.topic = j.value ->> 1 \
             CROSS JOIN topic_log l ON l.tenant = t.tenant AND l.topic = t.topic AND l.seq <= t.floor_seq)",
    oldest: "UPDATE topics SET oldest_at = (SELECT l.at FROM topic_log l \
             WHERE l.tenant = topics.tenant AND l.topic = topics.topic ORDER BY l.seq LIMIT 1) \
             WHERE (tenant, topic) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
};

async fn cut_logs(
    tx: &mut SqliteConnection,
    cut: &Cut,
    cutoff: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let logs: Vec<(String, String)> = sqlx::query_as(cut.outdated)
        .bind(cutoff.as_micros())
        .fetch_all(&mut *tx)
        .await?;
    if logs.is_empty() {
        return Ok(0);
    }
    let count = logs.len() as u64;
    let keys = json_list(logs.into_iter())?;
    sqlx::query(cut.raise)
        .bind(keys.as_str())
        .bind(cutoff.as_micros())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
    let removed = sqlx::query(cut.delete)
        .bind(keys.as_str())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    sqlx::query(cut.oldest)
        .bind(keys.as_str())
        .execute(&mut *tx)
        .await?;
    // A log whose note of its oldest change was too old counts as work done: its note is right now.
    Ok(removed.max(count))
}

/// Of suppressed addresses that were the user's only fingerprints stay: nothing is sent there, and nobody can read where.
async fn hide_suppressed(
    tx: &mut SqliteConnection,
    prints: &Fingerprints,
    tenant: &str,
    user: &str,
) -> Result<(), StoreError> {
    let hidden: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT s.channel, s.address FROM recipients r JOIN deliveries d ON d.tenant = r.tenant \
         AND d.notification = r.notification AND d.user_id = r.user_id AND d.channel <> 'in_app' \
         JOIN suppressions s ON s.tenant = d.tenant AND s.channel = d.channel AND s.address = d.address \
         WHERE r.tenant = $1 AND r.user_id = $2 ORDER BY s.channel, s.address",
    )
    .bind(tenant)
    .bind(user)
    .fetch_all(&mut *tx)
    .await?;
    for (channel, address) in hidden {
        sqlx::query(
            "INSERT INTO suppressions (tenant, channel, address, reason, at) SELECT tenant, channel, $4, reason, at \
             FROM suppressions WHERE tenant = $1 AND channel = $2 AND address = $3 ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(channel.as_str())
        .bind(address.as_str())
        .bind(prints.of(tenant, &channel, &address))
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM suppressions WHERE tenant = $1 AND channel = $2 AND address = $3")
            .bind(tenant)
            .bind(channel)
            .bind(address)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
