use std::collections::BTreeSet;

use carillon_domain::{EndpointId, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, QueryBuilder};

use super::{
    super::{
        PostgresStore,
        column::column,
        outside::{hold, listeners, refresh, write_events, write_new},
    },
    secrets::insert,
};
use crate::events::EventKind;
use crate::store::{
    endpoints::{
        self, ENDPOINT, EndpointChange, EndpointColumns, EndpointMoved, EndpointQuery, EndpointRow,
        EndpointState, SecretRow, UserEndpoint,
    },
    ledger::encode,
    listeners::{Listeners, Told},
    outside::{self, LaneKey},
    rows::stored,
};

impl PostgresStore {
    pub(super) async fn create_endpoint(
        &self,
        endpoint: &EndpointRow,
        secret: &SecretRow,
        most: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(&endpoint.tenant)).await?;
        let user = endpoint.user.map_or_else(String::new, |user| user.to_string());
        // Two that come at once must not both be the last one that there is room for.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("endpoints/{}/{user}", endpoint.tenant))
            .execute(&mut *tx)
            .await?;
        let (known,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM endpoints WHERE tenant = $1 AND user_id = $2 AND state <> 'deleted'",
        )
        .bind(endpoint.tenant.as_str())
        .bind(user.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if known >= stored(most) {
            return Ok(false);
        }
        let statement = format!(
            "INSERT INTO endpoints ({ENDPOINT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        );
        sqlx::query(AssertSqlSafe(statement))
            .bind(endpoint.tenant.as_str())
            .bind(endpoint.id.to_string())
            .bind(user)
            .bind(endpoint.url.as_str())
            .bind(&*endpoint.lane)
            .bind(encode(&endpoint.events)?)
            .bind(i64::from(endpoint.fifo))
            .bind(endpoint.description.as_deref())
            .bind(endpoint.state.as_str())
            .bind(endpoint.reason.as_deref())
            .bind(endpoint.failing_since.map(Timestamp::as_micros))
            .bind(endpoint.created_at.as_micros())
            .bind(endpoint.updated_at.as_micros())
            .execute(&mut *tx)
            .await?;
        insert(&mut tx, secret).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn endpoints(
        &self,
        tenant: &TenantId,
        query: &EndpointQuery,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let mut statement = QueryBuilder::<Postgres>::new(format!("SELECT {ENDPOINT} FROM endpoints WHERE "));
        statement
            .push("tenant = ")
            .push_bind(tenant.as_str())
            .push(" AND state <> 'deleted'");
        if let Some(user) = query.user {
            statement.push(" AND user_id = ").push_bind(user.to_string());
        }
        if let Some(before) = query.before {
            statement.push(" AND id < ").push_bind(before.to_string());
        }
        statement
            .push(" ORDER BY id DESC LIMIT ")
            .push_bind(i64::from(query.limit));
        let rows: Vec<EndpointColumns> = statement.build_query_as().fetch_all(&mut *read).await?;
        rows.into_iter().map(endpoints::endpoint).collect()
    }

    pub(super) async fn user_endpoints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<UserEndpoint>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<endpoints::UserEndpointColumns> = sqlx::query_as(
            "SELECT e.user_id, e.id, e.lane, e.fifo FROM endpoints e WHERE e.tenant = $1 AND e.user_id = ANY($2) \
             AND e.state = 'enabled' AND e.user_id <> '' ORDER BY e.id",
        )
        .bind(tenant.as_str())
        .bind(column!(users, user => user.to_string()))
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(endpoints::user_endpoint).collect()
    }

    pub(super) async fn endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<Option<(EndpointRow, Vec<SecretRow>)>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let Some(row) = endpoint(&mut read, tenant, id, "").await? else {
            return Ok(None);
        };
        let secrets = super::secrets::signing(&mut read, now, tenant, &id.to_string()).await?;
        Ok(Some((row, secrets)))
    }

    pub(super) async fn update_endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
        change: &EndpointChange,
        page: usize,
    ) -> Result<Option<EndpointMoved>, StoreError> {
        let (mut tx, before, row, listeners) = loop {
            let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
            let Some(seen) = endpoint(&mut tx, tenant, id, "").await? else {
                return Ok(None);
            };
            // Lanes are locked before their endpoints are.
            let to = change.apply(now, &seen).lane_key();
            let own = BTreeSet::from([seen.lane_key(), to]);
            let mut lanes = own.clone();
            let listeners = if change.state == Some(EndpointState::Disabled) {
                listeners(&mut tx, std::iter::once(tenant), self.limits.event_ttl).await?
            } else {
                Listeners::default()
            };
            lanes.extend(listeners.lanes(&[EventKind::EndpointDisabled]));
            hold(&mut tx, now, &lanes).await?;
            let Some(before) = endpoint(&mut tx, tenant, id, "FOR UPDATE").await? else {
                return Ok(None);
            };
            let row = change.apply(now, &before);
            // Whoever holds the lane of an endpoint keeps it there: nobody moves it out of one that he does not hold.
            if own.contains(&before.lane_key()) && own.contains(&row.lane_key()) {
                break (tx, before, row, listeners);
            }
            tx.rollback().await?;
        };
        sqlx::query(
            "UPDATE endpoints SET url = $3, lane = $4, events = $5, fifo = $6, description = $7, state = $8, \
             reason = $9, failing_since = $10, updated_at = $11 WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(row.url.as_str())
        .bind(&*row.lane)
        .bind(encode(&row.events)?)
        .bind(i64::from(row.fifo))
        .bind(row.description.as_deref())
        .bind(row.state.as_str())
        .bind(row.reason.as_deref())
        .bind(row.failing_since.map(Timestamp::as_micros))
        .bind(row.updated_at.as_micros())
        .execute(&mut *tx)
        .await?;
        if before.state == EndpointState::Enabled {
            tell(&mut tx, now, &listeners, (tenant, id), row.reason.as_deref()).await?;
        }
        let from = before.lane_key();
        let more = from != row.lane_key() && relocate(&mut tx, now, &row, &from, page).await?;
        tx.commit().await?;
        Ok(Some(EndpointMoved {
            row,
            from: more.then_some(from),
        }))
    }

    pub(super) async fn move_work(
        &self,
        now: Timestamp,
        moving: &EndpointMoved,
        page: usize,
    ) -> Result<bool, StoreError> {
        let Some(from) = &moving.from else {
            return Ok(false);
        };
        let (tenant, id) = (&moving.row.tenant, moving.row.id);
        loop {
            let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
            // It may have moved on since.
            let Some(seen) = endpoint(&mut tx, tenant, id, "").await? else {
                return Ok(false);
            };
            if seen.lane_key() == *from {
                return Ok(false);
            }
            let own = BTreeSet::from([from.clone(), seen.lane_key()]);
            hold(&mut tx, now, &own).await?;
            let row = endpoint(&mut tx, tenant, id, "").await?;
            let Some(row) = row.filter(|row| row.lane_key() == seen.lane_key()) else {
                tx.rollback().await?;
                continue;
            };
            let more = relocate(&mut tx, now, &row, from, page).await?;
            tx.commit().await?;
            return Ok(more);
        }
    }

    pub(super) async fn delete_endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<bool, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let listeners = listeners(&mut tx, std::iter::once(tenant), self.limits.event_ttl).await?;
        // Lanes are locked before their endpoints are.
        hold(&mut tx, now, &listeners.lanes(&[EventKind::EndpointDisabled])).await?;
        let Some(before) = endpoint(&mut tx, tenant, id, "FOR UPDATE").await? else {
            return Ok(false);
        };
        // The row stays until nothing waits for it, without what it said of others.
        sqlx::query(
            "UPDATE endpoints SET state = 'deleted', reason = 'deleted', url = 'deleted', description = NULL, \
             updated_at = $3 WHERE tenant = $1 AND id = $2 AND state <> 'deleted'",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        if before.state == EndpointState::Enabled {
            tell(&mut tx, now, &listeners, (tenant, id), Some("deleted")).await?;
        }
        sqlx::query("DELETE FROM endpoint_secrets WHERE tenant = $1 AND endpoint = $2")
            .bind(tenant.as_str())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Tells the tenant's other endpoints that this one is told nothing any more.
async fn tell(
    tx: &mut PgConnection,
    now: Timestamp,
    listeners: &Listeners,
    endpoint: (&TenantId, EndpointId),
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let mut told = Told::default();
    outside::tell_disabled(&mut told, now, listeners, endpoint, reason.unwrap_or_default());
    write_events(tx, &told.events).await?;
    write_new(tx, &told.outside, &told.work).await
}

async fn endpoint(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: EndpointId,
    lock: &str,
) -> Result<Option<EndpointRow>, StoreError> {
    let statement = format!(
        "SELECT {ENDPOINT} FROM endpoints WHERE tenant = $1 AND id = $2 AND state <> 'deleted' {lock}"
    );
    let row: Option<EndpointColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_optional(tx)
        .await?;
    row.map(endpoints::endpoint).transpose()
}

/// Moves up to `page` deliveries that wait for an endpoint from one lane to where it is now. Answers whether there is
/// more. Both lanes are locked.
async fn relocate(
    tx: &mut PgConnection,
    now: Timestamp,
    row: &EndpointRow,
    from: &LaneKey,
    page: usize,
) -> Result<bool, StoreError> {
    let to = row.lane_key();
    let moved = sqlx::query(
        "UPDATE delivery_queue SET lane = $5, strand = $6 WHERE tenant = $1 AND delivery IN \
         (SELECT q.delivery FROM delivery_queue q JOIN deliveries d ON d.tenant = q.tenant AND d.id = q.delivery \
         AND d.channel = 'webhook' WHERE q.tenant = $1 AND q.channel = 'webhook' AND q.lane = $2 AND q.strand = $3 \
         AND d.address = $4 ORDER BY q.ord, q.delivery LIMIT $7)",
    )
    .bind(row.tenant.as_str())
    .bind(&*from.lane)
    .bind(&*from.strand)
    .bind(row.id.to_string())
    .bind(&*to.lane)
    .bind(&*to.strand)
    .bind(page as i64)
    .execute(&mut *tx)
    .await?
    .rows_affected();
    refresh(tx, now, &BTreeSet::from([from.clone(), to]), None).await?;
    Ok(moved >= page as u64)
}
