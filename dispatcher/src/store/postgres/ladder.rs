use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    PostgresStore,
    column::column,
    digests::wake_members,
    outside,
    plan::{mailboxes, open_entries},
    write::write,
};
use crate::store::{
    digests::{self, ARRIVED, CAME},
    ladder::{
        self, CLOSED_AT_ONCE, ClimbLease, LATE, LATE_COMPLETED, LATE_EXPIRED, LadderStore, LoadedClimbs,
        RecipientCount, RecipientKey,
    },
    ledger::{Ledger, Writes},
    listeners::Listeners,
    outside::Outcomes,
    plan::Known,
    records::{Committed, PlanJob, UserKey},
    rows::{self, word},
};

#[async_trait]
impl LadderStore for PostgresStore {
    async fn lease_climbs(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<ClimbLease>, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the ladder serves all tenants")
            .await?;
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
            "UPDATE climbs c SET lease = c.lease + 1, due_at = $3 FROM (SELECT tenant, notification, user_id \
             FROM climbs WHERE due_at <= $1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) d \
             WHERE c.tenant = d.tenant AND c.notification = d.notification AND c.user_id = d.user_id \
             RETURNING c.tenant, c.notification, c.user_id, c.lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(until.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        let (leases, unreadable) = ladder::leases(rows);
        if !unreadable.is_empty() {
            sqlx::query(
                "DELETE FROM climbs c USING UNNEST($1::text[], $2::text[], $3::text[]) AS v(tenant, notification, user_id) \
                 WHERE c.tenant = v.tenant AND c.notification = v.notification AND c.user_id = v.user_id",
            )
            .bind(column!(unreadable, (tenant, _, _) => tenant.as_str()))
            .bind(column!(unreadable, (_, notification, _) => notification.as_str()))
            .bind(column!(unreadable, (_, _, user) => user.as_str()))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(leases)
    }

    async fn next_climb(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self.postgres.read_system("the ladder serves all tenants").await?;
        let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM climbs")
            .fetch_one(&mut *read)
            .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn postpone_climb(&self, lease: &ClimbLease, until: Timestamp) -> Result<(), StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the ladder serves all tenants")
            .await?;
        let (tenant, notification, user) = &lease.key;
        sqlx::query(
            "UPDATE climbs SET due_at = $5 WHERE tenant = $1 AND notification = $2 AND user_id = $3 AND lease = $4",
        )
        .bind(tenant.as_str())
        .bind(notification.to_string())
        .bind(user.to_string())
        .bind(lease.token)
        .bind(until.as_micros())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn load_climbs(&self, leases: &[ClimbLease]) -> Result<LoadedClimbs, StoreError> {
        let mut read = self.postgres.read_system("the ladder serves all tenants").await?;
        let recipients: Vec<ladder::ClimbingColumns> = sqlx::query_as(
            "SELECT j.place - 1, r.channel, r.address FROM UNNEST($1::text[], $2::text[], $3::text[]) \
             WITH ORDINALITY AS j(tenant, notification, user_id, place) JOIN recipients r ON r.tenant = j.tenant \
             AND r.notification = j.notification AND r.user_id = j.user_id WHERE r.state = 'open'",
        )
        .bind(column!(leases, lease => lease.key.0.as_str()))
        .bind(column!(leases, lease => lease.key.1.to_string()))
        .bind(column!(leases, lease => lease.key.2.to_string()))
        .fetch_all(&mut *read)
        .await?;
        let notifications = ladder::notifications(leases);
        let statement = format!(
            "SELECT {} FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
             JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id",
            rows::NOTIFICATION
        );
        let found: Vec<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(column!(notifications, (tenant, _) => tenant.as_str()))
            .bind(column!(notifications, (_, id) => id.to_string()))
            .fetch_all(&mut *read)
            .await?;
        ladder::climbing(leases, recipients, found)
    }

    async fn climb(
        &self,
        now: Timestamp,
        leases: &[ClimbLease],
        jobs: &[PlanJob],
    ) -> Result<Committed<u64>, StoreError> {
        self.anew(|| self.climb_once(now, leases, jobs)).await
    }

    async fn drop_climbs(&self, leases: &[ClimbLease]) -> Result<(), StoreError> {
        self.anew(|| self.forget_climbs(leases)).await
    }

    async fn close_late(&self, now: Timestamp, limit: usize) -> Result<bool, StoreError> {
        self.anew(|| self.close(now, limit)).await
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self.postgres.read_system("the ladder serves all tenants").await?;
        let (micros,): (i64,) =
            sqlx::query_as("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint")
                .fetch_one(&mut *read)
                .await?;
        Ok(Some(Timestamp::from_micros(micros)))
    }

    async fn recipient_counts(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Vec<RecipientCount>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
        let rows: Vec<rows::CountColumns> = sqlx::query_as(
            "SELECT state, phase, COUNT(*) FROM recipients WHERE tenant = $1 AND notification = $2 \
             GROUP BY state, phase ORDER BY state, phase",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(rows::recipient_count).collect()
    }
}

impl PostgresStore {
    async fn climb_once(
        &self,
        now: Timestamp,
        leases: &[ClimbLease],
        jobs: &[PlanJob],
    ) -> Result<Committed<u64>, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the ladder serves all tenants")
            .await?;
        let tenants = column!(leases, lease => lease.key.0.as_str());
        let notifications = column!(leases, lease => lease.key.1.to_string());
        let users = column!(leases, lease => lease.key.2.to_string());
        // Whoever withdraws a notification waits for those who look at it, and they see that he did.
        sqlx::query(
            "SELECT 1 FROM notifications n WHERE (n.tenant, n.id) IN (SELECT * FROM UNNEST($1::text[], $2::text[])) \
             ORDER BY n.tenant, n.id FOR SHARE",
        )
        .bind(&tenants)
        .bind(&notifications)
        .fetch_all(&mut *tx)
        .await?;
        let inboxes: HashSet<UserKey> = jobs
            .iter()
            .flat_map(|job| job.mailboxes().chain(job.counted()).chain(job.gathered()))
            .collect();
        let mailboxes = mailboxes(&mut tx, &self.epoch, &inboxes).await?;
        let rows: Vec<ladder::StandingColumns> = sqlx::query_as(
            "SELECT j.place - 1, CASE WHEN r.state = 'open' AND n.state IN ('accepted', 'planned') \
             AND n.answered IS NULL THEN 1 ELSE 0 END::bigint, r.step, r.step_at, r.counted, \
             CASE WHEN EXISTS (SELECT 1 FROM receipts s WHERE s.tenant = r.tenant \
             AND s.notification = r.notification AND s.user_id = r.user_id AND s.kind = 'seen') THEN 1 ELSE 0 END::bigint, \
             r.phase FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[]) \
             WITH ORDINALITY AS j(tenant, notification, user_id, lease, place) \
             JOIN climbs c ON c.tenant = j.tenant AND c.notification = j.notification AND c.user_id = j.user_id \
             AND c.lease = j.lease JOIN recipients r ON r.tenant = c.tenant AND r.notification = c.notification \
             AND r.user_id = c.user_id JOIN notifications n ON n.tenant = c.tenant AND n.id = c.notification \
             ORDER BY r.tenant, r.notification, r.user_id FOR UPDATE OF r",
        )
        .bind(&tenants)
        .bind(&notifications)
        .bind(&users)
        .bind(column!(leases, lease => lease.token))
        .fetch_all(&mut *tx)
        .await?;
        outside::hold_lanes(&mut tx, now, jobs, &Listeners::default()).await?;
        let deliveries: Vec<ladder::StandingDelivery> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT j.place - 1, d.step, d.channel, d.address, {CAME}, {} FROM UNNEST($1::text[], $2::text[], $3::text[]) \
             WITH ORDINALITY AS j(tenant, notification, user_id, place) JOIN deliveries d ON d.tenant = j.tenant \
             AND d.notification = j.notification AND d.user_id = j.user_id",
            ladder::under_way("$4"),
        )))
        .bind(&tenants)
        .bind(&notifications)
        .bind(&users)
        .bind(now.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        let decisions: Vec<ladder::StandingDecision> = sqlx::query_as(
            "SELECT j.place - 1, d.step, d.body FROM UNNEST($1::text[], $2::text[], $3::text[]) \
             WITH ORDINALITY AS j(tenant, notification, user_id, place) JOIN decisions d ON d.tenant = j.tenant \
             AND d.notification = j.notification AND d.user_id = j.user_id ORDER BY j.place, d.number",
        )
        .bind(&tenants)
        .bind(&notifications)
        .bind(&users)
        .fetch_all(&mut *tx)
        .await?;
        let places = ladder::standings(jobs, rows, deliveries, decisions)?;
        let known = Known {
            open: open_entries(&mut tx, jobs).await?,
            bars: outside::bars(&mut tx, &self.prints, now, jobs).await?,
            earlier: outside::earlier(&mut tx, jobs).await?,
            ..Known::default()
        };
        let mut ledger = Ledger::new(now, self.limits, mailboxes, []);
        let value = ladder::climb_on(&mut ledger, known, leases, jobs, places)?;
        let mut writes = ledger.finish();
        write(&mut tx, now, self.limits.devices, &writes).await?;
        tx.commit().await?;
        Ok(Committed {
            value,
            told: false,
            envelopes: std::mem::take(&mut writes.envelopes),
        })
    }

    async fn forget_climbs(&self, leases: &[ClimbLease]) -> Result<(), StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the ladder serves all tenants")
            .await?;
        sqlx::query(
            "DELETE FROM climbs c USING (SELECT c.tenant, c.notification, c.user_id FROM UNNEST($1::text[], $2::text[], \
             $3::text[], $4::bigint[]) AS v(tenant, notification, user_id, lease) JOIN climbs c ON c.tenant = v.tenant \
             AND c.notification = v.notification AND c.user_id = v.user_id AND c.lease = v.lease \
             ORDER BY c.tenant, c.notification, c.user_id FOR UPDATE OF c) d \
             WHERE c.tenant = d.tenant AND c.notification = d.notification AND c.user_id = d.user_id",
        )
        .bind(column!(leases, lease => lease.key.0.as_str()))
        .bind(column!(leases, lease => lease.key.1.to_string()))
        .bind(column!(leases, lease => lease.key.2.to_string()))
        .bind(column!(leases, lease => lease.token))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn close(&self, now: Timestamp, limit: usize) -> Result<bool, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the ladder serves all tenants")
            .await?;
        let most = limit.min(CLOSED_AT_ONCE);
        let mut late: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT tenant, id, digest FROM notifications WHERE state = 'planned' AND closed_at IS NULL \
             AND expires_at <= $1 ORDER BY expires_at, tenant, id LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(now.as_micros())
        .bind(most as i64)
        .fetch_all(&mut *tx)
        .await?;
        if late.is_empty() {
            return Ok(false);
        }
        // Recipients are locked by key, as by everybody else.
        late.sort_unstable();
        let mut left = limit;
        let mut closed = Vec::with_capacity(late.len());
        for (tenant, id, digest) in &late {
            let open: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT r.user_id FROM recipients r WHERE r.tenant = $1 AND r.notification = $2 AND r.state = 'open' \
                 AND NOT ({}) AND NOT {} ORDER BY r.user_id LIMIT $4 FOR UPDATE",
                ladder::is_undecided(),
                digests::under_way(),
            )))
            .bind(tenant)
            .bind(id)
            .bind(now.as_micros())
            .bind(left as i64)
            .fetch_all(&mut *tx)
            .await?;
            let users = column!(open, (user,) => user.as_str());
            end_late(&mut tx, now, tenant, id, &users).await?;
            if digest.is_some() {
                wake_members(&mut tx, now, &word(tenant)?, word(id)?).await?;
            }
            left -= open.len();
            if left == 0 {
                break;
            }
            // Of whom it is not known yet, the ladder looks after.
            sqlx::query(AssertSqlSafe(undecided()))
                .bind(tenant)
                .bind(id)
                .bind(now.as_micros())
                .execute(&mut *tx)
                .await?;
            closed.push((tenant, id));
        }
        let all = closed.len() == late.len();
        sqlx::query(
            "UPDATE notifications n SET closed_at = $3 FROM UNNEST($1::text[], $2::text[]) AS v(tenant, id) \
             WHERE n.tenant = v.tenant AND n.id = v.id",
        )
        .bind(column!(closed, (tenant, _) => tenant.as_str()))
        .bind(column!(closed, (_, id) => id.as_str()))
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(!all || late.len() >= most)
    }
}

/// Open recipients that an attempt may still reach. Those whose digest is under way end with it.
fn undecided() -> String {
    format!(
        "INSERT INTO climbs (tenant, notification, user_id, due_at) \
         SELECT r.tenant, r.notification, r.user_id, $3::bigint FROM recipients r WHERE r.tenant = $1 AND r.notification = $2 \
         AND r.state = 'open' AND NOT {} ORDER BY r.user_id ON CONFLICT (tenant, notification, user_id) DO UPDATE \
         SET due_at = LEAST(climbs.due_at, excluded.due_at), lease = climbs.lease + 1",
        digests::under_way()
    )
}

/// Ends open recipients of a notification whose time to live is over: completed where anything of it arrived.
async fn end_late(
    tx: &mut PgConnection,
    now: Timestamp,
    tenant: &str,
    id: &str,
    users: &[&str],
) -> Result<(), StoreError> {
    if users.is_empty() {
        return Ok(());
    }
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
         SELECT r.tenant, r.notification, r.user_id, 1 + COALESCE((SELECT MAX(d.number) FROM decisions d \
         WHERE d.tenant = r.tenant AND d.notification = r.notification AND d.user_id = r.user_id), 0), \
         $4, 'ended', r.step, CASE WHEN EXISTS (SELECT 1 FROM deliveries o WHERE o.tenant = r.tenant \
         AND o.notification = r.notification AND o.user_id = r.user_id \
         AND {ARRIVED}) THEN $5 ELSE $6 END FROM recipients r \
         WHERE r.tenant = $1 AND r.notification = $2 AND r.user_id = ANY($3)",
    )))
    .bind(tenant)
    .bind(id)
    .bind(users)
    .bind(now.as_micros())
    .bind(LATE_COMPLETED)
    .bind(LATE_EXPIRED)
    .execute(&mut *tx)
    .await?;
    sqlx::query(AssertSqlSafe(format!(
        "UPDATE recipients r SET phase = NULL, reason = $4, state = CASE WHEN EXISTS (SELECT 1 FROM deliveries o \
         WHERE o.tenant = r.tenant AND o.notification = r.notification AND o.user_id = r.user_id \
         AND {ARRIVED}) THEN 'completed' ELSE 'expired' END \
         WHERE r.tenant = $1 AND r.notification = $2 AND r.user_id = ANY($3)",
    )))
    .bind(tenant)
    .bind(id)
    .bind(users)
    .bind(LATE)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM climbs c USING (SELECT tenant, notification, user_id FROM climbs WHERE tenant = $1 \
         AND notification = $2 AND user_id = ANY($3) ORDER BY user_id FOR UPDATE) d \
         WHERE c.tenant = d.tenant AND c.notification = d.notification AND c.user_id = d.user_id",
    )
    .bind(tenant)
    .bind(id)
    .bind(users)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes decisions and when something is due.
pub(super) async fn write_climbs(tx: &mut PgConnection, writes: &Writes) -> Result<(), StoreError> {
    let rows = &writes.decisions;
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
             SELECT v.tenant, v.notification, v.user_id, v.place + COALESCE((SELECT MAX(d.number) FROM decisions d \
             WHERE d.tenant = v.tenant AND d.notification = v.notification AND d.user_id = v.user_id), 0), \
             v.at, v.kind, v.step, v.body FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], \
             $6::bigint[], $7::text[]) WITH ORDINALITY AS v(tenant, notification, user_id, at, kind, step, body, place)",
        )
        .bind(column!(rows, row => row.key.0.as_str()))
        .bind(column!(rows, row => row.key.1.to_string()))
        .bind(column!(rows, row => row.key.2.to_string()))
        .bind(column!(rows, row => row.at.as_micros()))
        .bind(column!(rows, row => row.kind))
        .bind(column!(rows, row => row.step.map(i64::from)))
        .bind(column!(rows, row => row.body.as_str()))
        .execute(&mut *tx)
        .await?;
    }
    let (over, looked) = (ladder::over(writes), ladder::looked(writes));
    let rows = ladder::new_climbs(writes);
    if !over.is_empty() || !looked.is_empty() {
        // All of them in one order: whoever settles makes them due in it.
        let keys: BTreeSet<&RecipientKey> = over
            .iter()
            .chain(looked.iter().map(|(key, _, _)| *key))
            .chain(rows.iter().map(|row| &row.key))
            .collect();
        sqlx::query(
            "SELECT 1 FROM UNNEST($1::text[], $2::text[], $3::text[]) AS v(tenant, notification, user_id) \
             JOIN climbs c ON c.tenant = v.tenant AND c.notification = v.notification AND c.user_id = v.user_id \
             ORDER BY c.tenant, c.notification, c.user_id FOR UPDATE OF c",
        )
        .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
        .bind(column!(keys, (_, notification, _) => notification.to_string()))
        .bind(column!(keys, (_, _, user) => user.to_string()))
        .fetch_all(&mut *tx)
        .await?;
    }
    end_climbs(tx, &over).await?;
    if !looked.is_empty() {
        for statement in [
            "UPDATE climbs c SET due_at = v.due_at FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], \
             $5::bigint[]) AS v(tenant, notification, user_id, lease, due_at) WHERE c.tenant = v.tenant \
             AND c.notification = v.notification AND c.user_id = v.user_id AND c.lease = v.lease \
             AND v.due_at IS NOT NULL",
            "DELETE FROM climbs c USING UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) \
             AS v(tenant, notification, user_id, lease, due_at) WHERE c.tenant = v.tenant \
             AND c.notification = v.notification AND c.user_id = v.user_id AND c.lease = v.lease \
             AND v.due_at IS NULL",
        ] {
            sqlx::query(statement)
                .bind(column!(looked, ((tenant, _, _), _, _) => tenant.as_str()))
                .bind(column!(looked, ((_, notification, _), _, _) => notification.to_string()))
                .bind(column!(looked, ((_, _, user), _, _) => user.to_string()))
                .bind(column!(looked, (_, token, _) => *token))
                .bind(column!(looked, (_, _, due) => due.map(Timestamp::as_micros)))
                .execute(&mut *tx)
                .await?;
        }
    }
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO climbs (tenant, notification, user_id, due_at) SELECT * FROM \
             UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[]) AS v(tenant, notification, user_id, due_at) \
             ORDER BY v.tenant, v.notification, v.user_id \
             ON CONFLICT (tenant, notification, user_id) DO UPDATE SET due_at = excluded.due_at",
        )
        .bind(column!(rows, row => row.key.0.as_str()))
        .bind(column!(rows, row => row.key.1.to_string()))
        .bind(column!(rows, row => row.key.2.to_string()))
        .bind(column!(rows, row => row.due_at.as_micros()))
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Nothing is due of these recipients any more.
pub(super) async fn end_climbs(tx: &mut PgConnection, keys: &[RecipientKey]) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM climbs c USING (SELECT c.tenant, c.notification, c.user_id FROM UNNEST($1::text[], $2::text[], \
         $3::text[]) AS v(tenant, notification, user_id) JOIN climbs c ON c.tenant = v.tenant \
         AND c.notification = v.notification AND c.user_id = v.user_id \
         ORDER BY c.tenant, c.notification, c.user_id FOR UPDATE OF c) d \
         WHERE c.tenant = d.tenant AND c.notification = d.notification AND c.user_id = d.user_id",
    )
    .bind(column!(keys, (tenant, _, _) => tenant.as_str()))
    .bind(column!(keys, (_, notification, _) => notification.to_string()))
    .bind(column!(keys, (_, _, user) => user.to_string()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes open recipients due of whose step something did not arrive; and those who are past the step of which something
/// arrived, by themselves or with a digest, or whose time is over. Whether anything is left that may, whoever looks finds
/// out: of two that end at once neither sees the other. Before a step is over it changes nothing that something of it
/// arrives.
pub(super) async fn climb_on(
    tx: &mut PgConnection,
    now: Timestamp,
    outcomes: &Outcomes,
) -> Result<(), StoreError> {
    if outcomes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO climbs (tenant, notification, user_id, due_at) \
         SELECT DISTINCT r.tenant, r.notification, r.user_id, $4::bigint FROM (\
         SELECT d.tenant, d.notification, d.user_id, d.step, j.arrived \
         FROM UNNEST($1::text[], $2::text[], $3::bool[]) AS j(tenant, id, arrived) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.id = j.id AND d.channel <> 'in_app' \
         UNION SELECT m.tenant, m.notification, m.user_id, m.step, TRUE \
         FROM UNNEST($1::text[], $2::text[], $3::bool[]) AS j(tenant, id, arrived) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.id = j.id AND d.channel <> 'in_app' \
         JOIN deliveries m ON m.tenant = d.tenant AND m.digest = d.notification AND m.user_id = d.user_id \
         WHERE j.arrived AND m.digest IS NOT NULL) v \
         JOIN recipients r ON r.tenant = v.tenant AND r.notification = v.notification \
         AND r.user_id = v.user_id AND r.state = 'open' \
         JOIN notifications n ON n.tenant = r.tenant AND n.id = r.notification \
         WHERE NOT v.arrived OR v.step < r.step OR n.expires_at <= $4 OR r.step_at \
         + (n.plan::jsonb -> 'steps' -> r.step::int ->> 'deadline')::bigint * 1000000 <= $5 \
         ORDER BY r.tenant, r.notification, r.user_id \
         ON CONFLICT (tenant, notification, user_id) DO UPDATE SET due_at = LEAST(climbs.due_at, excluded.due_at), \
         lease = climbs.lease + 1",
    )
    .bind(column!(outcomes, ((tenant, _), _) => tenant.as_str()))
    .bind(column!(outcomes, ((_, id), _) => id.as_str()))
    .bind(column!(outcomes, (_, arrived) => *arrived))
    .bind(now.as_micros())
    .bind(now.after(ladder::AHEAD).as_micros())
    .execute(tx)
    .await?;
    Ok(())
}
