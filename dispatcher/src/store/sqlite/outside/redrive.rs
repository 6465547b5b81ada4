use carillon_domain::{DeliveryId, RedriveId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    super::{SqliteStore, keys::json_list},
    read::matching,
};
use crate::store::{
    ledger::encode,
    outside::{self, DeadFilter, DeliveryState, NotResendable, RedriveRow, Resent},
    rows::json,
};

/// The columns of a redrive.
const REDRIVE: &str = "SELECT id, filter, state, total, done, created_at, updated_at FROM redrives";

impl SqliteStore {
    pub(super) async fn begin_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        filter: &DeadFilter,
    ) -> Result<RedriveRow, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let mut count = QueryBuilder::<Sqlite>::new("SELECT COUNT(*) FROM deliveries d WHERE ");
        matching(&mut count, tenant, filter)?;
        let (total,): (i64,) = count.build_query_as().fetch_one(&mut *tx).await?;
        let id = RedriveId::at(now);
        let state = if total == 0 { "done" } else { "running" };
        sqlx::query(
            "INSERT INTO redrives (tenant, id, filter, state, total, done, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, 0, $6, $6)",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(encode(filter)?)
        .bind(state)
        .bind(total)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(RedriveRow {
            id,
            filter: filter.clone(),
            is_done: total == 0,
            total: crate::store::rows::number(total)?,
            done: 0,
            created_at: now,
            updated_at: now,
        })
    }

    pub(super) async fn redrive_page(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: RedriveId,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let row: Option<(String, Option<String>, i64)> = sqlx::query_as(
            "SELECT filter, cursor, created_at FROM redrives \
             WHERE tenant = $1 AND id = $2 AND state = 'running'",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((filter, cursor, created)) = row else {
            return Ok(false);
        };
        let filter: DeadFilter = json(&filter)?;
        let mut select = QueryBuilder::<Sqlite>::new("SELECT d.id FROM deliveries d WHERE ");
        matching(&mut select, tenant, &filter)?;
        // What died after the redrive began is not its own.
        select
            .push(" AND d.ended_at <= ")
            .push_bind(created)
            .push(" AND d.id > ")
            .push_bind(cursor.clone().unwrap_or_default())
            .push(" ORDER BY d.id LIMIT ")
            .push_bind(limit as i64);
        let ids: Vec<(String,)> = select.build_query_as().fetch_all(&mut *tx).await?;
        let more = ids.len() >= limit;
        let last = ids.last().map(|(id,)| id.clone()).or(cursor);
        // What another redrive or a resend opened, and what its sender took back, is left out.
        let done = if ids.is_empty() {
            0
        } else {
            revive(&mut tx, now, tenant, json_list(ids.iter().map(|(id,)| id))?).await?
        };
        sqlx::query(
            "UPDATE redrives SET cursor = $3, done = done + $4, state = $5, updated_at = $6 \
             WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(last)
        .bind(done)
        .bind(if more { "running" } else { "done" })
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(more)
    }

    pub(super) async fn resend(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Resent, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let row: Option<(String, Option<String>, Option<String>, i64)> = sqlx::query_as(
            "SELECT d.state, q.operation, n.state, CASE WHEN n.answered IS NOT NULL OR r.state = 'acknowledged' \
             THEN 1 ELSE 0 END FROM deliveries d \
             LEFT JOIN delivery_queue q ON q.tenant = d.tenant AND q.delivery = d.id \
             LEFT JOIN notifications n ON n.tenant = d.tenant AND n.id = d.notification \
             LEFT JOIN recipients r ON r.tenant = d.tenant AND r.notification = d.notification AND r.user_id = d.user_id \
             WHERE d.tenant = $1 AND d.id = $2 AND d.channel <> 'in_app'",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((state, open, notification, answered)) = row else {
            return Ok(Resent::NotFound);
        };
        let state = outside::delivery_state(&state)?;
        if let Some(bar) =
            outside::not_resendable(state, open.as_deref(), notification.as_deref(), answered == 1)
        {
            return Ok(Resent::Conflict(bar));
        }
        let revived = revive(&mut tx, now, tenant, json_list([id].into_iter())?).await?;
        tx.commit().await?;
        Ok(if revived > 0 {
            Resent::Done
        } else {
            // Somebody else was first.
            Resent::Conflict(NotResendable::State(DeliveryState::Pending))
        })
    }

    pub(super) async fn running_redrives(
        &self,
        limit: usize,
    ) -> Result<Vec<(TenantId, RedriveId)>, StoreError> {
        let mut read = self
            .sqlite
            .read_system("the deliverer serves all tenants")
            .await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT tenant, id FROM redrives WHERE state = 'running' ORDER BY updated_at LIMIT $1",
        )
        .bind(limit as i64)
        .fetch_all(&mut *read)
        .await?;
        let key = |(tenant, id): (String, String)| {
            Ok((crate::store::rows::word(&tenant)?, crate::store::rows::word(&id)?))
        };
        rows.into_iter().map(key).collect()
    }

    pub(super) async fn put_off_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: RedriveId,
    ) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        sqlx::query("UPDATE redrives SET updated_at = $3 WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.to_string())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn redrive(
        &self,
        tenant: &TenantId,
        id: RedriveId,
    ) -> Result<Option<RedriveRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(REDRIVE);
        statement
            .push(" WHERE tenant = ")
            .push_bind(tenant.as_str())
            .push(" AND id = ")
            .push_bind(id.to_string());
        let row: Option<outside::RedriveColumns> =
            statement.build_query_as().fetch_optional(&mut *read).await?;
        row.map(outside::redrive).transpose()
    }

    pub(super) async fn redrives(
        &self,
        tenant: &TenantId,
        before: Option<RedriveId>,
        limit: u32,
    ) -> Result<Vec<RedriveRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Sqlite>::new(REDRIVE);
        statement.push(" WHERE tenant = ").push_bind(tenant.as_str());
        if let Some(before) = before {
            statement.push(" AND id < ").push_bind(before.to_string());
        }
        statement
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(i64::from(limit));
        let rows: Vec<outside::RedriveColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(outside::redrive).collect()
    }
}

/// Makes what ended pending again: last in its strand, due now, with as much time to live as it had at first, an hour at
/// the least. What is open stays as it is, but for a recall of what never arrived. Answers how many.
async fn revive(
    tx: &mut SqliteConnection,
    now: Timestamp,
    tenant: &TenantId,
    ids: String,
) -> Result<i64, StoreError> {
    let revived: Vec<(String,)> = sqlx::query_as(REVIVE)
        .bind(tenant.as_str())
        .bind(ids)
        .bind(now.as_micros())
        .fetch_all(&mut *tx)
        .await?;
    let ids = json_list(revived.iter().map(|(id,)| id))?;
    for statement in REVIVED {
        sqlx::query(statement)
            .bind(tenant.as_str())
            .bind(ids.as_str())
            .bind(now.as_micros())
            .execute(&mut *tx)
            .await?;
    }
    Ok(revived.len() as i64)
}

/// Opens the work. It replaces an earlier message only where that is what it was planned to do and it never got through.
const REVIVE: &str = "INSERT INTO delivery_queue (tenant, delivery, channel, lane, strand, ord, operation, due_at, \
    expires_at, earlier, stands) SELECT d.tenant, d.id, d.channel, COALESCE(e.lane, d.lane, ''), \
    CASE WHEN e.fifo = 1 THEN e.id ELSE '' END, \
    MAX($3, COALESCE((SELECT MAX(q.ord) + 1 FROM delivery_queue q WHERE q.tenant = d.tenant \
    AND q.channel = d.channel AND q.lane = e.lane AND q.strand = e.id AND q.strand <> ''), 0)), \
    CASE WHEN d.provider_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.tenant = d.tenant \
    AND a.delivery = d.id AND a.outcome IN ('accepted', 'delivered')) THEN 'replace' ELSE 'deliver' END, $3, \
    $3 + MAX(COALESCE(d.expires_at, 0) - COALESCE(d.revived_at, d.created_at), 3600000000), \
    MAX(d.attempts, COALESCE((SELECT MAX(a.number) FROM attempts a WHERE a.tenant = d.tenant \
    AND a.delivery = d.id), 0)), CASE WHEN d.state = 'dead' THEN NULL ELSE d.state END \
    FROM json_each($2) j CROSS JOIN deliveries d ON d.tenant = $1 AND d.id = j.value AND d.channel <> 'in_app' \
    LEFT JOIN endpoints e ON d.channel = 'webhook' AND e.tenant = d.tenant AND e.id = d.address \
    LEFT JOIN notifications n ON n.tenant = d.tenant AND n.id = d.notification \
    WHERE d.state IN ('dead', 'accepted', 'delivered') AND COALESCE(n.state, '') <> 'cancelled' AND n.answered IS NULL \
    AND NOT EXISTS (SELECT 1 FROM recipients r WHERE r.tenant = d.tenant AND r.notification = d.notification \
    AND r.user_id = d.user_id AND r.state = 'acknowledged') \
    ON CONFLICT (tenant, delivery) DO UPDATE SET lane = excluded.lane, strand = excluded.strand, ord = excluded.ord, \
    operation = excluded.operation, due_at = excluded.due_at, expires_at = excluded.expires_at, lease = 0, \
    earlier = excluded.earlier, stands = NULL \
    WHERE delivery_queue.operation = 'recall' AND excluded.stands IS NULL RETURNING delivery";

/// What goes with the work that was opened. An attempt of a recall that was replaced has nothing to say any more.
const REVIVED: [&str; 3] = [
    "UPDATE attempts SET outcome = 'lost', ended_at = $3 WHERE tenant = $1 AND outcome IS NULL \
     AND delivery IN (SELECT value FROM json_each($2))",
    "INSERT INTO lanes (tenant, channel, lane, strand, due_at) \
     SELECT DISTINCT q.tenant, q.channel, q.lane, q.strand, $3 FROM json_each($2) j \
     CROSS JOIN delivery_queue q ON q.tenant = $1 AND q.delivery = j.value WHERE TRUE \
     ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = MIN(lanes.due_at, excluded.due_at)",
    "UPDATE deliveries SET state = 'pending', ended_at = NULL, news = NULL, revived_at = $3, \
     expires_at = $3 + MAX(COALESCE(expires_at, 0) - COALESCE(revived_at, created_at), 3600000000) \
     WHERE tenant = $1 AND id IN (SELECT value FROM json_each($2)) AND channel <> 'in_app'",
];
