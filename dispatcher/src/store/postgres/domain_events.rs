use std::collections::HashSet;

use async_trait::async_trait;
use carillon_domain::{DomainEventId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{PostgresStore, column::column};
use crate::store::{
    domain_events::{
        self, DOMAIN_EVENT, DomainEventColumns, DomainEventQuery, DomainEventRow, DomainEventStore,
        DomainEventSweep, EventEnd, EventLease, EventReply, KEPT_ERRORS, KnownEventColumns, NewDomainEvent,
        RuleResult,
    },
    ledger::encode,
    rows::{number, stored},
};

#[async_trait]
impl DomainEventStore for PostgresStore {
    async fn accept_events(&self, events: &[NewDomainEvent]) -> Result<Vec<EventReply>, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("accepts what several tenants handed in in one commit")
            .await?;
        // One order on every node, so that two nodes cannot wait for each other.
        let mut sorted: Vec<&NewDomainEvent> = events.iter().collect();
        sorted.sort_unstable_by_key(|event| (&event.tenant, &event.source, &event.event_id));
        let (tenants, sources, names) = (
            column!(sorted, event => event.tenant.as_str()),
            column!(sorted, event => &*event.source),
            column!(sorted, event => &*event.event_id),
        );
        sqlx::query(
            "INSERT INTO domain_events (tenant, id, source, event_id, type, body, state, received_at) \
             SELECT j.tenant, j.id, j.source, j.event_id, j.type, j.body, 'waiting', j.at \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[]) \
             AS j(tenant, id, source, event_id, type, body, at) ON CONFLICT (tenant, source, event_id) DO NOTHING",
        )
        .bind(&tenants)
        .bind(column!(sorted, event => event.id.to_string()))
        .bind(&sources)
        .bind(&names)
        .bind(column!(sorted, event => &*event.kind))
        .bind(column!(sorted, event => &*event.body))
        .bind(column!(sorted, event => event.received_at.as_micros()))
        .execute(&mut *tx)
        .await?;
        let found: Vec<KnownEventColumns> = sqlx::query_as(
            "SELECT DISTINCT e.tenant, e.source, e.event_id, e.id, e.state \
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, source, event_id) \
             JOIN domain_events e ON e.tenant = j.tenant AND e.source = j.source AND e.event_id = j.event_id",
        )
        .bind(&tenants)
        .bind(&sources)
        .bind(&names)
        .fetch_all(&mut *tx)
        .await?;
        let replies = domain_events::event_replies(events, found)?;
        let accepted: Vec<&NewDomainEvent> = events
            .iter()
            .zip(&replies)
            .filter_map(|(event, reply)| (*reply == EventReply::Accepted).then_some(event))
            .collect();
        sqlx::query(
            "INSERT INTO domain_event_outbox (tenant, event, due_at) \
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[])",
        )
        .bind(column!(accepted, event => event.tenant.as_str()))
        .bind(column!(accepted, event => event.id.to_string()))
        .bind(column!(accepted, event => event.received_at.as_micros()))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(replies)
    }

    async fn release_events(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("leases of a dead process are of all tenants")
            .await?;
        let released =
            sqlx::query("UPDATE domain_event_outbox SET due_at = $1 WHERE due_at > $1 AND lease > 0")
                .bind(now.as_micros())
                .execute(&mut *tx)
                .await?
                .rows_affected();
        tx.commit().await?;
        Ok(released)
    }

    async fn lease_events(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<EventLease>, StoreError> {
        let mut tx = self.postgres.begin_system("rules of all tenants").await?;
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE domain_event_outbox o SET lease = o.lease + 1, due_at = $3 FROM \
             (SELECT tenant, event FROM domain_event_outbox WHERE due_at <= $1 ORDER BY due_at, event LIMIT $2 \
             FOR UPDATE SKIP LOCKED) d WHERE o.tenant = d.tenant AND o.event = d.event \
             RETURNING o.tenant, o.event, o.lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(until.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        domain_events::event_leases(rows)
    }

    async fn next_event_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self.postgres.read_system("rules of all tenants").await?;
        let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM domain_event_outbox")
            .fetch_one(&mut *read)
            .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn load_events(
        &self,
        ids: &[(TenantId, DomainEventId)],
    ) -> Result<Vec<DomainEventRow>, StoreError> {
        let mut read = self.postgres.read_system("rules of all tenants").await?;
        let statement = format!(
            "SELECT {DOMAIN_EVENT} FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
             JOIN domain_events e ON e.tenant = j.tenant AND e.id = j.id"
        );
        let found: Vec<DomainEventColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(column!(ids, (tenant, _) => tenant.as_str()))
            .bind(column!(ids, (_, id) => id.to_string()))
            .fetch_all(&mut *read)
            .await?;
        found.into_iter().map(domain_events::domain_event).collect()
    }

    async fn settle_events(&self, now: Timestamp, ends: &[EventEnd]) -> Result<Vec<bool>, StoreError> {
        let mut tx = self.postgres.begin_system("rules of all tenants").await?;
        let gone: Vec<(String, String)> = sqlx::query_as(
            "DELETE FROM domain_event_outbox o USING UNNEST($1::text[], $2::text[], $3::bigint[]) \
             AS j(tenant, event, lease) WHERE o.tenant = j.tenant AND o.event = j.event AND o.lease = j.lease \
             RETURNING o.tenant, o.event",
        )
        .bind(column!(ends, end => end.lease.tenant.as_str()))
        .bind(column!(ends, end => end.lease.event.to_string()))
        .bind(column!(ends, end => end.lease.token))
        .fetch_all(&mut *tx)
        .await?;
        let gone: HashSet<(String, String)> = gone.into_iter().collect();
        let held: Vec<bool> = ends
            .iter()
            .map(|end| gone.contains(&(end.lease.tenant.to_string(), end.lease.event.to_string())))
            .collect();
        let ended: Vec<&EventEnd> = ends
            .iter()
            .zip(&held)
            .filter_map(|(end, held)| held.then_some(end))
            .collect();
        let results: Vec<String> = ended
            .iter()
            .map(|end| encode(&end.results))
            .collect::<Result<_, _>>()?;
        sqlx::query(
            "UPDATE domain_events e SET state = 'done', done_at = $4, results = j.results \
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, event, results) \
             WHERE e.tenant = j.tenant AND e.id = j.event",
        )
        .bind(column!(ended, end => end.lease.tenant.as_str()))
        .bind(column!(ended, end => end.lease.event.to_string()))
        .bind(results)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        let made = domain_events::made(&ended);
        sqlx::query(
            "INSERT INTO domain_event_notifications (tenant, notification, event) \
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(column!(made, (lease, _) => lease.tenant.as_str()))
        .bind(column!(made, (_, notification) => notification.to_string()))
        .bind(column!(made, (lease, _) => lease.event.to_string()))
        .execute(&mut *tx)
        .await?;
        let failed = domain_events::failed(&ended);
        sqlx::query(
            "INSERT INTO rule_errors (tenant, rule, event, version, reason, at) SELECT j.*, $6 FROM \
             UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) AS j ON CONFLICT DO NOTHING",
        )
        .bind(column!(failed, (lease, _) => lease.tenant.as_str()))
        .bind(column!(failed, (_, result) => result.rule.as_str()))
        .bind(column!(failed, (lease, _) => lease.event.to_string()))
        .bind(column!(failed, (_, result) => stored(result.version)))
        .bind(column!(failed, (_, result) => result.reason.as_deref().unwrap_or_default()))
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        // Two nodes may cut the same rule's errors: what the other one holds is its to cut.
        for (tenant, rule) in domain_events::with_more_errors(&failed) {
            sqlx::query(
                "DELETE FROM rule_errors WHERE tenant = $1 AND rule = $2 AND event IN \
                 (SELECT event FROM rule_errors WHERE tenant = $1 AND rule = $2 \
                 ORDER BY event DESC OFFSET $3 FOR UPDATE SKIP LOCKED)",
            )
            .bind(tenant.as_str())
            .bind(rule.as_str())
            .bind(i64::from(KEPT_ERRORS))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(held)
    }

    async fn put_off_event(
        &self,
        lease: &EventLease,
        results: &[RuleResult],
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(&lease.tenant)).await?;
        let held = sqlx::query(
            "UPDATE domain_event_outbox SET due_at = $4 WHERE tenant = $1 AND event = $2 AND lease = $3",
        )
        .bind(lease.tenant.as_str())
        .bind(lease.event.to_string())
        .bind(lease.token)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?
        .rows_affected()
            > 0;
        if held {
            sqlx::query("UPDATE domain_events SET results = $3 WHERE tenant = $1 AND id = $2")
                .bind(lease.tenant.as_str())
                .bind(lease.event.to_string())
                .bind(encode(&results)?)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(held)
    }

    async fn event(
        &self,
        tenant: &TenantId,
        id: DomainEventId,
    ) -> Result<Option<DomainEventRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let statement =
            format!("SELECT {DOMAIN_EVENT} FROM domain_events e WHERE e.tenant = $1 AND e.id = $2");
        let row: Option<DomainEventColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *read)
            .await?;
        row.map(domain_events::domain_event).transpose()
    }

    async fn events(
        &self,
        tenant: &TenantId,
        query: &DomainEventQuery,
    ) -> Result<Vec<DomainEventRow>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let of_kind = if query.kind.is_some() {
            "AND e.type = $4"
        } else {
            ""
        };
        let statement = format!(
            "SELECT {DOMAIN_EVENT} FROM domain_events e WHERE e.tenant = $1 AND e.id < $2 {of_kind} \
             ORDER BY e.id DESC LIMIT $3"
        );
        let mut asked = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(domain_events::below(query.before))
            .bind(i64::from(query.limit));
        if let Some(kind) = &query.kind {
            asked = asked.bind(kind.as_str());
        }
        let rows: Vec<DomainEventColumns> = asked.fetch_all(&mut *read).await?;
        rows.into_iter().map(domain_events::domain_event).collect()
    }

    async fn sweep_events(
        &self,
        sweep: DomainEventSweep,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the janitor serves all tenants")
            .await?;
        let statements: &[&'static str] = match sweep {
            DomainEventSweep::Events => &[
                "DELETE FROM domain_event_notifications WHERE (tenant, event) IN (SELECT tenant, id \
                 FROM domain_events WHERE done_at IS NOT NULL AND done_at < $1 ORDER BY done_at LIMIT $2)",
                "DELETE FROM domain_events WHERE (tenant, id) IN (SELECT tenant, id FROM domain_events \
                 WHERE done_at IS NOT NULL AND done_at < $1 ORDER BY done_at LIMIT $2)",
            ],
            DomainEventSweep::RuleErrors => &[
                "DELETE FROM rule_errors WHERE (tenant, rule, event) IN (SELECT tenant, rule, event \
                 FROM rule_errors WHERE at < $1 ORDER BY at LIMIT $2)",
            ],
            DomainEventSweep::Rules => &[
                "DELETE FROM rule_versions WHERE (tenant, name) IN (SELECT tenant, name FROM rules \
                 WHERE version IS NULL AND updated_at < $1 ORDER BY updated_at LIMIT $2)",
                "DELETE FROM rules WHERE (tenant, name) IN (SELECT tenant, name FROM rules \
                 WHERE version IS NULL AND updated_at < $1 ORDER BY updated_at LIMIT $2)",
            ],
        };
        let mut removed = 0;
        for statement in statements {
            removed += sweep_one(&mut tx, statement, cutoff, limit).await?;
        }
        tx.commit().await?;
        Ok(removed)
    }

    async fn waiting_events(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        let mut read = self.postgres.read_system("metrics count all tenants").await?;
        let (waiting, due): (i64, Option<i64>) =
            sqlx::query_as("SELECT COUNT(*), MIN(due_at) FROM domain_event_outbox")
                .fetch_one(&mut *read)
                .await?;
        Ok((number(waiting)?, due.map(Timestamp::from_micros)))
    }
}

async fn sweep_one(
    tx: &mut PgConnection,
    statement: &'static str,
    cutoff: Timestamp,
    limit: usize,
) -> Result<u64, StoreError> {
    Ok(sqlx::query(statement)
        .bind(cutoff.as_micros())
        .bind(limit as i64)
        .execute(tx)
        .await?
        .rows_affected())
}
