use std::collections::HashSet;

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    SqliteStore,
    bulk::Bulk,
    digests::wake_members,
    keys::json_list,
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
    outside::Outcomes,
    plan::Known,
    records::{Committed, PlanJob, UserKey},
    rows::{self, word},
};

static DECISIONS: Bulk = Bulk::new(
    "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
     SELECT v.column1, v.column2, v.column3, v.column4 + COALESCE((SELECT MAX(d.number) FROM decisions d \
     WHERE d.tenant = v.column1 AND d.notification = v.column2 AND d.user_id = v.column3), 0), \
     v.column5, v.column6, v.column7, v.column8 FROM (VALUES ",
    8,
    ") AS v",
);
/// Of new recipients: there is none to count on from.
static FIRST_DECISIONS: Bulk = Bulk::new(
    "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) VALUES ",
    8,
    "",
);
static CLIMBS: Bulk = Bulk::new(
    "INSERT INTO climbs (tenant, notification, user_id, due_at) VALUES ",
    4,
    " ON CONFLICT (tenant, notification, user_id) DO UPDATE SET due_at = excluded.due_at",
);

#[async_trait]
impl LadderStore for SqliteStore {
    async fn lease_climbs(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<ClimbLease>, StoreError> {
        let mut tx = self.sqlite.begin_system("the ladder serves all tenants").await?;
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
            "UPDATE climbs SET lease = lease + 1, due_at = $3 WHERE (tenant, notification, user_id) IN \
             (SELECT tenant, notification, user_id FROM climbs WHERE due_at <= $1 ORDER BY due_at LIMIT $2) \
             RETURNING tenant, notification, user_id, lease",
        )
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(until.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        let (leases, unreadable) = ladder::leases(rows);
        if !unreadable.is_empty() {
            sqlx::query(
                "DELETE FROM climbs WHERE (tenant, notification, user_id) IN \
                 (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))",
            )
            .bind(json_list(unreadable.into_iter())?)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(leases)
    }

    async fn next_climb(&self) -> Result<Option<Timestamp>, StoreError> {
        self.first(&self.next_climb, "SELECT MIN(due_at) FROM climbs")
            .await
    }

    async fn postpone_climb(&self, lease: &ClimbLease, until: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin_system("the ladder serves all tenants").await?;
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
        let mut read = self.sqlite.read_system("the ladder serves all tenants").await?;
        let recipients: Vec<ladder::ClimbingColumns> = sqlx::query_as(
            "SELECT j.key, r.channel, r.address FROM json_each($1) j CROSS JOIN recipients r \
             ON r.tenant = j.value ->> 0 AND r.notification = j.value ->> 1 AND r.user_id = j.value ->> 2 \
             WHERE r.state = 'open'",
        )
        .bind(json_list(leases.iter().map(|lease| {
            let (tenant, notification, user) = &lease.key;
            (tenant.as_str(), *notification, *user)
        }))?)
        .fetch_all(&mut *read)
        .await?;
        let statement = format!(
            "SELECT {} FROM json_each($1) j CROSS JOIN notifications n \
             ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1",
            rows::NOTIFICATION
        );
        let found: Vec<rows::NotificationColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(json_list(
                ladder::notifications(leases)
                    .into_iter()
                    .map(|(tenant, id)| (tenant.as_str(), id)),
            )?)
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
        let mut tx = self.sqlite.begin_system("the ladder serves all tenants").await?;
        let keys = json_list(leases.iter().map(|lease| {
            let (tenant, notification, user) = &lease.key;
            (tenant.as_str(), *notification, *user, lease.token)
        }))?;
        let rows: Vec<ladder::StandingColumns> = sqlx::query_as(
            "SELECT j.key, CASE WHEN r.state = 'open' AND n.state IN ('accepted', 'planned') AND n.answered IS NULL \
             THEN 1 ELSE 0 END, r.step, r.step_at, r.counted, EXISTS (SELECT 1 FROM receipts s WHERE s.tenant = r.tenant \
             AND s.notification = r.notification AND s.user_id = r.user_id AND s.kind = 'seen'), r.phase \
             FROM json_each($1) j CROSS JOIN climbs c ON c.tenant = j.value ->> 0 AND c.notification = j.value ->> 1 \
             AND c.user_id = j.value ->> 2 AND c.lease = j.value ->> 3 \
             CROSS JOIN recipients r ON r.tenant = c.tenant AND r.notification = c.notification AND r.user_id = c.user_id \
             CROSS JOIN notifications n ON n.tenant = c.tenant AND n.id = c.notification",
        )
        .bind(keys.as_str())
        .fetch_all(&mut *tx)
        .await?;
        let deliveries: Vec<ladder::StandingDelivery> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT j.key, d.step, d.channel, d.address, {CAME}, {} FROM json_each($1) j CROSS JOIN deliveries d \
             ON d.tenant = j.value ->> 0 AND d.notification = j.value ->> 1 AND d.user_id = j.value ->> 2",
            ladder::under_way("$2"),
        )))
        .bind(keys.as_str())
        .bind(now.as_micros())
        .fetch_all(&mut *tx)
        .await?;
        let decisions: Vec<ladder::StandingDecision> = sqlx::query_as(
            "SELECT j.key, d.step, d.body FROM json_each($1) j CROSS JOIN decisions d \
             ON d.tenant = j.value ->> 0 AND d.notification = j.value ->> 1 AND d.user_id = j.value ->> 2 \
             ORDER BY j.key, d.number",
        )
        .bind(keys)
        .fetch_all(&mut *tx)
        .await?;
        let places = ladder::standings(jobs, rows, deliveries, decisions)?;
        let users: HashSet<UserKey> = jobs.iter().flat_map(PlanJob::mailboxes).collect();
        let mailboxes = mailboxes(&mut tx, &self.epoch, &users).await?;
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

    async fn drop_climbs(&self, leases: &[ClimbLease]) -> Result<(), StoreError> {
        let mut tx = self.sqlite.begin_system("the ladder serves all tenants").await?;
        sqlx::query(
            "DELETE FROM climbs WHERE (tenant, notification, user_id, lease) IN \
             (SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1))",
        )
        .bind(json_list(leases.iter().map(|lease| {
            let (tenant, notification, user) = &lease.key;
            (tenant.as_str(), *notification, *user, lease.token)
        }))?)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn close_late(&self, now: Timestamp, limit: usize) -> Result<bool, StoreError> {
        // Mostly there is none, and then nobody else's write has to wait.
        let open = "SELECT MIN(expires_at) FROM notifications WHERE state = 'planned' AND closed_at IS NULL";
        let end = self.first(&self.next_end, open).await?;
        if end.is_none_or(|end| end > now) {
            return Ok(false);
        }
        let mut tx = self.sqlite.begin_system("the ladder serves all tenants").await?;
        let most = limit.min(CLOSED_AT_ONCE);
        let late: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT tenant, id, digest FROM notifications WHERE state = 'planned' AND closed_at IS NULL \
             AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
        )
        .bind(now.as_micros())
        .bind(most as i64)
        .fetch_all(&mut *tx)
        .await?;
        if late.is_empty() {
            return Ok(false);
        }
        let mut left = limit;
        let mut closed = Vec::with_capacity(late.len());
        for (tenant, id, digest) in &late {
            let open: Vec<(String,)> = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT r.user_id FROM recipients r WHERE r.tenant = $1 AND r.notification = $2 AND r.state = 'open' \
                 AND NOT ({}) AND NOT {} ORDER BY r.user_id LIMIT $4",
                ladder::is_undecided(),
                digests::under_way(),
            )))
            .bind(tenant)
            .bind(id)
            .bind(now.as_micros())
            .bind(left as i64)
            .fetch_all(&mut *tx)
            .await?;
            end_late(
                &mut tx,
                now,
                tenant,
                id,
                &json_list(open.iter().map(|(user,)| user))?,
            )
            .await?;
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
            "UPDATE notifications SET closed_at = $2 WHERE (tenant, id) IN \
             (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        )
        .bind(json_list(closed.into_iter())?)
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(!all || late.len() >= most)
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn recipient_counts(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Vec<RecipientCount>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
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

/// Open recipients that an attempt may still reach. Those whose digest is under way end with it.
fn undecided() -> String {
    format!(
        "INSERT INTO climbs (tenant, notification, user_id, due_at) \
         SELECT r.tenant, r.notification, r.user_id, $3 FROM recipients r WHERE r.tenant = $1 AND r.notification = $2 \
         AND r.state = 'open' AND NOT {} ORDER BY r.user_id ON CONFLICT (tenant, notification, user_id) DO UPDATE \
         SET due_at = MIN(climbs.due_at, excluded.due_at), lease = climbs.lease + 1",
        digests::under_way()
    )
}

/// Ends open recipients of a notification whose time to live is over: completed where anything of it arrived.
async fn end_late(
    tx: &mut SqliteConnection,
    now: Timestamp,
    tenant: &str,
    id: &str,
    users: &str,
) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO decisions (tenant, notification, user_id, number, at, kind, step, body) \
         SELECT r.tenant, r.notification, r.user_id, 1 + COALESCE((SELECT MAX(d.number) FROM decisions d \
         WHERE d.tenant = r.tenant AND d.notification = r.notification AND d.user_id = r.user_id), 0), \
         $4, 'ended', r.step, CASE WHEN EXISTS (SELECT 1 FROM deliveries o WHERE o.tenant = r.tenant \
         AND o.notification = r.notification AND o.user_id = r.user_id \
         AND {ARRIVED}) THEN $5 ELSE $6 END FROM recipients r \
         WHERE r.tenant = $1 AND r.notification = $2 AND r.user_id IN (SELECT value FROM json_each($3))",
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
        "UPDATE recipients SET phase = NULL, reason = $4, state = CASE WHEN EXISTS (SELECT 1 FROM deliveries o \
         WHERE o.tenant = recipients.tenant AND o.notification = recipients.notification \
         AND o.user_id = recipients.user_id AND {ARRIVED}) \
         THEN 'completed' ELSE 'expired' END \
         WHERE tenant = $1 AND notification = $2 AND user_id IN (SELECT value FROM json_each($3))",
    )))
    .bind(tenant)
    .bind(id)
    .bind(users)
    .bind(LATE)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "DELETE FROM climbs WHERE tenant = $1 AND notification = $2 \
         AND user_id IN (SELECT value FROM json_each($3))",
    )
    .bind(tenant)
    .bind(id)
    .bind(users)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes decisions and when something is due.
pub(super) async fn write_climbs(tx: &mut SqliteConnection, writes: &Writes) -> Result<(), StoreError> {
    let new: HashSet<_> = writes
        .recipients
        .iter()
        .map(|row| (&row.tenant, row.notification, row.user))
        .collect();
    let decisions = writes.decisions.iter().zip(1_i64..);
    let (first, further): (Vec<_>, Vec<_>) = decisions.partition(|(row, _)| {
        let (tenant, notification, user) = &row.key;
        new.contains(&(tenant, *notification, *user))
    });
    for (statement, rows) in [(&FIRST_DECISIONS, first), (&DECISIONS, further)] {
        statement
            .run(tx, &rows, |columns, (row, number)| {
                let (tenant, notification, user) = &row.key;
                columns
                    .bind(tenant.as_str())
                    .bind(*notification)
                    .bind(*user)
                    .bind(*number)
                    .bind(row.at)
                    .bind(row.kind)
                    .bind(row.step.map(i64::from))
                    .bind(row.body.as_str())
            })
            .await?;
    }
    CLIMBS
        .run(tx, &ladder::new_climbs(writes), |columns, row| {
            let (tenant, notification, user) = &row.key;
            columns
                .bind(tenant.as_str())
                .bind(*notification)
                .bind(*user)
                .bind(row.due_at)
        })
        .await?;
    end_climbs(tx, &ladder::over(writes)).await?;
    let looked = ladder::looked(writes);
    if looked.is_empty() {
        return Ok(());
    }
    let keys = json_list(looked.iter().map(|((tenant, notification, user), token, due)| {
        (
            tenant.as_str(),
            *notification,
            *user,
            token,
            due.map(Timestamp::as_micros),
        )
    }))?;
    for statement in [
        "UPDATE climbs SET due_at = j.value ->> 4 FROM json_each($1) j WHERE climbs.tenant = j.value ->> 0 \
         AND climbs.notification = j.value ->> 1 AND climbs.user_id = j.value ->> 2 AND climbs.lease = j.value ->> 3 \
         AND j.value ->> 4 IS NOT NULL",
        "DELETE FROM climbs WHERE (tenant, notification, user_id, lease) IN (SELECT value ->> 0, value ->> 1, \
         value ->> 2, value ->> 3 FROM json_each($1) WHERE value ->> 4 IS NULL)",
    ] {
        sqlx::query(statement)
            .bind(keys.as_str())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Nothing is due of these recipients any more.
pub(super) async fn end_climbs(tx: &mut SqliteConnection, keys: &[RecipientKey]) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys = keys
        .iter()
        .map(|(tenant, notification, user)| (tenant.as_str(), *notification, *user));
    sqlx::query(
        "DELETE FROM climbs WHERE (tenant, notification, user_id) IN \
         (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))",
    )
    .bind(json_list(keys)?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Makes open recipients due of whose step something did not arrive; and those who are past the step of which something
/// arrived, by themselves or with a digest, or whose time is over. Whether anything is left that may, whoever looks finds
/// out: of two that end at once neither sees the other. Before a step is over it changes nothing that something of it
/// arrives.
pub(super) async fn climb_on(
    tx: &mut SqliteConnection,
    now: Timestamp,
    outcomes: &Outcomes,
) -> Result<(), StoreError> {
    if outcomes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO climbs (tenant, notification, user_id, due_at) \
         SELECT DISTINCT r.tenant, r.notification, r.user_id, $2 FROM (\
         SELECT d.tenant AS tenant, d.notification AS notification, d.user_id AS user_id, d.step AS step, \
         j.value ->> 2 AS arrived FROM json_each($1) j \
         CROSS JOIN deliveries d ON d.tenant = j.value ->> 0 AND d.id = j.value ->> 1 AND d.channel <> 'in_app' \
         UNION SELECT m.tenant, m.notification, m.user_id, m.step, 1 FROM json_each($1) j \
         CROSS JOIN deliveries d ON d.tenant = j.value ->> 0 AND d.id = j.value ->> 1 AND d.channel <> 'in_app' \
         CROSS JOIN deliveries m ON m.tenant = d.tenant AND m.digest = d.notification AND m.user_id = d.user_id \
         WHERE j.value ->> 2 AND m.digest IS NOT NULL) v \
         CROSS JOIN recipients r ON r.tenant = v.tenant AND r.notification = v.notification \
         AND r.user_id = v.user_id AND r.state = 'open' \
         CROSS JOIN notifications n ON n.tenant = r.tenant AND n.id = r.notification \
         WHERE NOT v.arrived OR v.step < r.step OR n.expires_at <= $2 OR r.step_at \
         + (n.plan ->> ('$.steps[' || r.step || '].deadline')) * 1000000 <= $3 \
         ON CONFLICT (tenant, notification, user_id) DO UPDATE SET due_at = MIN(climbs.due_at, excluded.due_at), \
         lease = climbs.lease + 1",
    )
    .bind(json_list(
        outcomes
            .iter()
            .map(|((tenant, id), arrived)| (tenant, id, *arrived)),
    )?)
    .bind(now.as_micros())
    .bind(now.after(ladder::AHEAD).as_micros())
    .execute(tx)
    .await?;
    Ok(())
}
