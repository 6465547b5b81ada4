use async_trait::async_trait;
use carillon_domain::{DomainEventId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    SqliteStore,
    bulk::Bulk,
    keys::{json_list, pairs},
};
use crate::store::{
    domain_events::{
        self, DOMAIN_EVENT, DomainEventColumns, DomainEventQuery, DomainEventRow, DomainEventStore,
        DomainEventSweep, EventEnd, EventLease, EventReply, KEPT_ERRORS, KnownEventColumns, NewDomainEvent,
        RuleResult,
    },
    ledger::encode,
    rows::{number, stored},
};

static EVENTS: Bulk = Bulk::new(
    "INSERT INTO domain_events (tenant, id, source, event_id, type, body, state, received_at) VALUES ",
    8,
    " ON CONFLICT (tenant, source, event_id) DO NOTHING",
);
static OUTBOX: Bulk = Bulk::new(
    "INSERT INTO domain_event_outbox (tenant, event, due_at) VALUES ",
    3,
    "",
);
static MADE: Bulk = Bulk::new(
    "INSERT INTO domain_event_notifications (tenant, notification, event) VALUES ",
    3,
    " ON CONFLICT DO NOTHING",
);
static ERRORS: Bulk = Bulk::new(
    "INSERT INTO rule_errors (tenant, rule, event, version, reason, at) VALUES ",
    6,
    " ON CONFLICT DO NOTHING",
);

#[async_trait]
impl DomainEventStore for SqliteStore {
    async fn accept_events(&self, events: &[NewDomainEvent]) -> Result<Vec<EventReply>, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("accepts what several tenants handed in in one commit")
            .await?;
        EVENTS
            .run(&mut tx, events, |columns, event| {
                columns
                    .bind(event.tenant.as_str())
                    .bind(event.id)
                    .bind(&*event.source)
                    .bind(&*event.event_id)
                    .bind(&*event.kind)
                    .bind(&*event.body)
                    .bind("waiting")
                    .bind(event.received_at)
            })
            .await?;
        let names = events
            .iter()
            .map(|event| (event.tenant.as_str(), &*event.source, &*event.event_id));
        let found: Vec<KnownEventColumns> = sqlx::query_as(
            "SELECT e.tenant, e.source, e.event_id, e.id, e.state FROM json_each($1) j \
             CROSS JOIN domain_events e ON e.tenant = j.value ->> 0 AND e.source = j.value ->> 1 \
             AND e.event_id = j.value ->> 2",
        )
        .bind(json_list(names)?)
        .fetch_all(&mut *tx)
        .await?;
        let replies = domain_events::event_replies(events, found)?;
        let accepted: Vec<&NewDomainEvent> = events
            .iter()
            .zip(&replies)
            .filter_map(|(event, reply)| (*reply == EventReply::Accepted).then_some(event))
            .collect();
        OUTBOX
            .run(&mut tx, &accepted, |columns, event| {
                columns
                    .bind(event.tenant.as_str())
                    .bind(event.id)
                    .bind(event.received_at)
            })
            .await?;
        tx.commit().await?;
        Ok(replies)
    }

    async fn release_events(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self
            .sqlite
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
        let mut tx = self.sqlite.begin_system("rules of all tenants").await?;
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "UPDATE domain_event_outbox SET lease = lease + 1, due_at = $3 WHERE (tenant, event) IN \
             (SELECT tenant, event FROM domain_event_outbox WHERE due_at <= $1 ORDER BY due_at, event LIMIT $2) \
             RETURNING tenant, event, lease",
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
        let mut read = self.sqlite.read_system("rules of all tenants").await?;
        let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM domain_event_outbox")
            .fetch_one(&mut *read)
            .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn load_events(
        &self,
        ids: &[(TenantId, DomainEventId)],
    ) -> Result<Vec<DomainEventRow>, StoreError> {
        let mut read = self.sqlite.read_system("rules of all tenants").await?;
        let statement = format!(
            "SELECT {DOMAIN_EVENT} FROM json_each($1) j CROSS JOIN domain_events e \
             ON e.tenant = j.value ->> 0 AND e.id = j.value ->> 1"
        );
        let found: Vec<DomainEventColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(pairs(ids.iter().map(|(tenant, id)| (tenant, id)))?)
            .fetch_all(&mut *read)
            .await?;
        found.into_iter().map(domain_events::domain_event).collect()
    }

    async fn settle_events(&self, now: Timestamp, ends: &[EventEnd]) -> Result<Vec<bool>, StoreError> {
        let mut tx = self.sqlite.begin_system("rules of all tenants").await?;
        let mut held = Vec::with_capacity(ends.len());
        for EventEnd { lease, .. } in ends {
            let gone = sqlx::query(
                "DELETE FROM domain_event_outbox WHERE tenant = $1 AND event = $2 AND lease = $3",
            )
            .bind(lease.tenant.as_str())
            .bind(lease.event.to_string())
            .bind(lease.token)
            .execute(&mut *tx)
            .await?;
            held.push(gone.rows_affected() > 0);
        }
        let ended: Vec<&EventEnd> = ends
            .iter()
            .zip(&held)
            .filter_map(|(end, held)| held.then_some(end))
            .collect();
        for EventEnd { lease, results } in &ended {
            sqlx::query(
                "UPDATE domain_events SET state = 'done', done_at = $3, results = $4 \
                 WHERE tenant = $1 AND id = $2",
            )
            .bind(lease.tenant.as_str())
            .bind(lease.event.to_string())
            .bind(now.as_micros())
            .bind(encode(results)?)
            .execute(&mut *tx)
            .await?;
        }
        MADE.run(
            &mut tx,
            &domain_events::made(&ended),
            |columns, (lease, notification)| {
                columns
                    .bind(lease.tenant.as_str())
                    .bind(*notification)
                    .bind(lease.event)
            },
        )
        .await?;
        let failed = domain_events::failed(&ended);
        ERRORS
            .run(&mut tx, &failed, |columns, (lease, result)| {
                columns
                    .bind(lease.tenant.as_str())
                    .bind(result.rule.as_str())
                    .bind(lease.event)
                    .bind(stored(result.version))
                    .bind(result.reason.as_deref().unwrap_or_default())
                    .bind(now)
            })
            .await?;
        for (tenant, rule) in domain_events::with_more_errors(&failed) {
            sqlx::query(
                "DELETE FROM rule_errors WHERE tenant = $1 AND rule = $2 AND event IN \
                 (SELECT event FROM rule_errors WHERE tenant = $1 AND rule = $2 \
                 ORDER BY event DESC LIMIT -1 OFFSET $3)",
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
        let mut tx = self.sqlite.begin(TenantScope::new(&lease.tenant)).await?;
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
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
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
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
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
        let mut tx = self.sqlite.begin_system("the janitor serves all tenants").await?;
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
        let mut read = self.sqlite.read_system("metrics count all tenants").await?;
        let (waiting, due): (i64, Option<i64>) =
            sqlx::query_as("SELECT COUNT(*), MIN(due_at) FROM domain_event_outbox")
                .fetch_one(&mut *read)
                .await?;
        Ok((number(waiting)?, due.map(Timestamp::from_micros)))
    }
}

async fn sweep_one(
    tx: &mut SqliteConnection,
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
