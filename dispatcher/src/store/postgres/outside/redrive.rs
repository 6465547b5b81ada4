use carillon_domain::{DeliveryId, RedriveId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{Postgres, QueryBuilder};

use super::{
    super::{PostgresStore, column::column},
    read::matching,
};
use crate::store::{
    ledger::encode,
    outside::{self, DeadFilter, DeliveryState, RedriveRow, Resent},
    rows::json,
};

/// The columns of a redrive.
const REDRIVE: &str = "SELECT id, filter, state, total, done, created_at, updated_at FROM redrives";

impl PostgresStore {
    pub(super) async fn begin_redrive(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        filter: &DeadFilter,
    ) -> Result<RedriveRow, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let mut count = QueryBuilder::<Postgres>::new("SELECT COUNT(*) FROM deliveries d WHERE ");
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
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let row: Option<(String, Option<String>, i64)> = sqlx::query_as(
            "SELECT filter, cursor, created_at FROM redrives \
             WHERE tenant = $1 AND id = $2 AND state = 'running' FOR UPDATE",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((filter, cursor, created)) = row else {
            return Ok(false);
        };
        let filter: DeadFilter = json(&filter)?;
        let mut select = QueryBuilder::<Postgres>::new("SELECT d.id FROM deliveries d WHERE ");
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
        let done = ids.len() as i64;
        if !ids.is_empty() {
            let ids = column!(ids, (id,) => id.as_str());
            for statement in REVIVE {
                sqlx::query(statement)
                    .bind(tenant.as_str())
                    .bind(&ids)
                    .bind(now.as_micros())
                    .execute(&mut *tx)
                    .await?;
            }
        }
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
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let row: Option<(String, bool)> = sqlx::query_as(
            "SELECT d.state, EXISTS (SELECT 1 FROM delivery_queue q WHERE q.tenant = d.tenant AND q.delivery = d.id) \
             FROM deliveries d WHERE d.tenant = $1 AND d.id = $2 AND d.channel <> 'in_app'",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        let Some((state, open)) = row else {
            return Ok(Resent::NotFound);
        };
        let state = outside::delivery_state(&state)?;
        // What is being taken back is not sent again.
        if open
            || !matches!(
                state,
                DeliveryState::Dead | DeliveryState::Accepted | DeliveryState::Delivered
            )
        {
            return Ok(Resent::Conflict(state));
        }
        let ids = vec![id.to_string()];
        for statement in REVIVE {
            sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(&ids)
                .bind(now.as_micros())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Resent::Done)
    }

    pub(super) async fn running_redrives(
        &self,
        limit: usize,
    ) -> Result<Vec<(TenantId, RedriveId)>, StoreError> {
        let mut read = self
            .postgres
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

    pub(super) async fn redrive(
        &self,
        tenant: &TenantId,
        id: RedriveId,
    ) -> Result<Option<RedriveRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Postgres>::new(REDRIVE);
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
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Postgres>::new(REDRIVE);
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

/// Makes what ended pending again: last in their strands, due now, with as much time to live as they had.
const REVIVE: [&str; 4] = [
    // Lanes are locked before their work is.
    "INSERT INTO lanes (tenant, channel, lane, strand, due_at) SELECT v.tenant, v.channel, v.lane, v.strand, $3 FROM \
     (SELECT DISTINCT d.tenant, d.channel, COALESCE(e.lane, d.lane, '') AS lane, \
     CASE WHEN e.fifo = 1 THEN e.id ELSE '' END AS strand FROM deliveries d \
     LEFT JOIN endpoints e ON e.tenant = d.tenant AND e.id = d.address \
     WHERE d.tenant = $1 AND d.id = ANY($2) AND d.channel <> 'in_app' AND d.state IN ('dead', 'accepted', 'delivered')) v \
     ORDER BY v.tenant, v.channel, v.lane, v.strand \
     ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = LEAST(lanes.due_at, excluded.due_at)",
    "SELECT d.id FROM deliveries d WHERE d.tenant = $1 AND d.id = ANY($2) AND d.channel <> 'in_app' \
     AND d.created_at <= $3 ORDER BY d.tenant, d.id FOR UPDATE",
    "INSERT INTO delivery_queue (tenant, delivery, channel, lane, strand, ord, operation, due_at, expires_at, earlier) \
     SELECT d.tenant, d.id, d.channel, COALESCE(e.lane, d.lane, ''), CASE WHEN e.fifo = 1 THEN e.id ELSE '' END, \
     GREATEST($3, COALESCE((SELECT MAX(q.ord) + 1 FROM delivery_queue q WHERE q.tenant = d.tenant \
     AND q.channel = d.channel AND q.lane = e.lane AND q.strand = e.id AND q.strand <> ''), 0)), \
     CASE WHEN d.state = 'dead' AND d.provider_id IS NOT NULL THEN 'replace' ELSE 'deliver' END, $3, \
     $3 + GREATEST(COALESCE(d.expires_at, 0) - d.created_at, 3600000000), d.attempts FROM deliveries d \
     LEFT JOIN endpoints e ON e.tenant = d.tenant AND e.id = d.address \
     WHERE d.tenant = $1 AND d.id = ANY($2) AND d.channel <> 'in_app' AND d.state IN ('dead', 'accepted', 'delivered') \
     ON CONFLICT DO NOTHING",
    "UPDATE deliveries SET state = 'pending', ended_at = NULL, \
     expires_at = $3 + GREATEST(COALESCE(expires_at, 0) - created_at, 3600000000) \
     WHERE tenant = $1 AND id = ANY($2) AND channel <> 'in_app' AND state IN ('dead', 'accepted', 'delivered')",
];
