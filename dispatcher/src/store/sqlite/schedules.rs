use async_trait::async_trait;
use carillon_domain::{ExternalUserId, ScheduleName, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{SqliteStore, outbox::write_accepted};
use crate::store::{
    rows::stored,
    schedules::{
        self, Fired, Firing, KEPT_RUNS, PutSchedule, ScheduleRow, ScheduleRun, ScheduleStore, ScheduleWrite,
    },
};

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn put_schedule(
        &self,
        now: Timestamp,
        schedule: &ScheduleWrite,
        most: u64,
    ) -> Result<PutSchedule, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&schedule.tenant)).await?;
        let (known, others): (i64, i64) = sqlx::query_as(
            "SELECT COUNT(CASE WHEN name = $2 THEN 1 END), COUNT(CASE WHEN name <> $2 THEN 1 END) \
             FROM schedules WHERE tenant = $1",
        )
        .bind(schedule.tenant.as_str())
        .bind(schedule.name.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if known > 0 && schedule.only_new {
            return Ok(PutSchedule::Taken);
        }
        if known == 0 && others >= stored(most) {
            return Ok(PutSchedule::Full);
        }
        let written = sqlx::query(
            "INSERT INTO schedules AS s (tenant, name, cron, zone, once_at, notification, enabled, starts_at, ends_at, \
             next_at, revision, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $11) \
             ON CONFLICT (tenant, name) DO UPDATE SET next_at = CASE WHEN s.cron IS NOT DISTINCT FROM excluded.cron \
             AND s.zone IS NOT DISTINCT FROM excluded.zone AND s.once_at IS NOT DISTINCT FROM excluded.once_at \
             AND s.enabled = excluded.enabled AND s.starts_at IS NOT DISTINCT FROM excluded.starts_at \
             AND s.ends_at IS NOT DISTINCT FROM excluded.ends_at THEN s.next_at ELSE excluded.next_at END, \
             cron = excluded.cron, zone = excluded.zone, once_at = excluded.once_at, \
             notification = excluded.notification, enabled = excluded.enabled, starts_at = excluded.starts_at, \
             ends_at = excluded.ends_at, revision = s.revision + 1, updated_at = excluded.updated_at \
             WHERE $12 = 0",
        )
        .bind(schedule.tenant.as_str())
        .bind(schedule.name.as_str())
        .bind(schedule.cron.as_deref())
        .bind(schedule.zone.as_deref())
        .bind(schedule.once_at.map(Timestamp::as_micros))
        .bind(&*schedule.notification)
        .bind(i64::from(schedule.enabled))
        .bind(schedule.starts_at.map(Timestamp::as_micros))
        .bind(schedule.ends_at.map(Timestamp::as_micros))
        .bind(schedule.next_at.map(Timestamp::as_micros))
        .bind(now.as_micros())
        .bind(i64::from(schedule.only_new))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        Ok(match (written, known) {
            (0, _) => PutSchedule::Taken,
            (_, 0) => PutSchedule::Made,
            _ => PutSchedule::Replaced,
        })
    }

    async fn schedule(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM schedules WHERE tenant = $1 AND name = $2",
            schedules::SCHEDULE
        );
        let row: Option<schedules::ScheduleColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(name.as_str())
            .fetch_optional(&mut *read)
            .await?;
        row.map(schedules::schedule).transpose()
    }

    async fn schedules(
        &self,
        tenant: &TenantId,
        after: Option<&ScheduleName>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let statement = format!(
            "SELECT {} FROM schedules WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3",
            schedules::SCHEDULE
        );
        let rows: Vec<schedules::ScheduleColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(after.map_or("", ScheduleName::as_str))
            .bind(i64::from(limit))
            .fetch_all(&mut *read)
            .await?;
        rows.into_iter().map(schedules::schedule).collect()
    }

    async fn schedule_runs(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<Vec<ScheduleRun>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let rows: Vec<schedules::RunColumns> = sqlx::query_as(
            "SELECT due_at, id, at, notification, error FROM schedule_runs WHERE tenant = $1 AND schedule = $2 \
             ORDER BY due_at DESC, id DESC LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(KEPT_RUNS)
        .fetch_all(&mut *read)
        .await?;
        rows.into_iter().map(schedules::run).collect()
    }

    async fn delete_schedule(&self, tenant: &TenantId, name: &ScheduleName) -> Result<bool, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(tenant)).await?;
        let removed = remove(&mut tx, tenant, name.as_str()).await?;
        tx.commit().await?;
        Ok(removed)
    }

    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<ScheduleRow>, StoreError> {
        let mut read = self.sqlite.read_system("schedules are of all tenants").await?;
        let statement = format!(
            "SELECT {} FROM schedules WHERE next_at <= $1 ORDER BY next_at, tenant, name LIMIT $2",
            schedules::SCHEDULE
        );
        let rows: Vec<schedules::ScheduleColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(now.as_micros())
            .bind(i64::from(limit))
            .fetch_all(&mut *read)
            .await?;
        rows.into_iter().map(schedules::schedule).collect()
    }

    async fn next_schedule(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self.sqlite.read_system("schedules are of all tenants").await?;
        let (due,): (Option<i64>,) =
            sqlx::query_as("SELECT MIN(next_at) FROM schedules WHERE next_at IS NOT NULL")
                .fetch_one(&mut *read)
                .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn fire(&self, now: Timestamp, firing: &Firing) -> Result<Fired, StoreError> {
        let mut tx = self.sqlite.begin(TenantScope::new(&firing.tenant)).await?;
        if !go_on(&mut tx, firing).await? {
            return Ok(Fired::Stale);
        }
        let Some(run) = &firing.run else {
            tx.commit().await?;
            return Ok(Fired::Done);
        };
        let notification = run.sent.as_ref().ok();
        let id = match (firing.step, notification) {
            (None, Some(notification)) => notification.id.to_string(),
            _ => String::new(),
        };
        let new = sqlx::query(
            "INSERT INTO schedule_runs (tenant, schedule, due_at, id, at, notification, error) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, schedule, due_at, id) DO NOTHING",
        )
        .bind(firing.tenant.as_str())
        .bind(firing.name.as_str())
        .bind(run.due_at.as_micros())
        .bind(id)
        .bind(now.as_micros())
        .bind(notification.map(|notification| notification.id.to_string()))
        .bind(run.sent.as_ref().err())
        .execute(&mut *tx)
        .await?
        .rows_affected()
            > 0;
        if new {
            if let Some(notification) = notification {
                write_accepted(&mut tx, now, &[(&firing.tenant, notification)], None).await?;
            }
            sqlx::query(
                "DELETE FROM schedule_runs WHERE tenant = $1 AND schedule = $2 AND due_at < \
                 (SELECT due_at FROM schedule_runs WHERE tenant = $1 AND schedule = $2 \
                 ORDER BY due_at DESC, id DESC LIMIT 1 OFFSET $3)",
            )
            .bind(firing.tenant.as_str())
            .bind(firing.name.as_str())
            .bind(KEPT_RUNS - 1)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(if new { Fired::Done } else { Fired::Before })
    }
}

/// Moves the schedule on, if it is still as it was read; on PostgreSQL it is locked from here on.
async fn go_on(tx: &mut SqliteConnection, firing: &Firing) -> Result<bool, StoreError> {
    let step = firing.step;
    let done = sqlx::query(
        "UPDATE schedules SET next_at = CASE WHEN $4 = 1 THEN $6 ELSE next_at END, skipped = skipped + $7 \
         WHERE tenant = $1 AND name = $2 AND revision = $3 AND ($4 = 0 OR next_at = $5)",
    )
    .bind(firing.tenant.as_str())
    .bind(firing.name.as_str())
    .bind(stored(firing.revision))
    .bind(i64::from(step.is_some()))
    .bind(step.map(|step| step.from.as_micros()))
    .bind(step.and_then(|step| step.to).map(Timestamp::as_micros))
    .bind(step.map_or(0, |step| stored(step.skipped)))
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn remove(tx: &mut SqliteConnection, tenant: &TenantId, name: &str) -> Result<bool, StoreError> {
    let removed = sqlx::query("DELETE FROM schedules WHERE tenant = $1 AND name = $2")
        .bind(tenant.as_str())
        .bind(name)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    sqlx::query("DELETE FROM schedule_runs WHERE tenant = $1 AND schedule = $2")
        .bind(tenant.as_str())
        .bind(name)
        .execute(tx)
        .await?;
    Ok(removed > 0)
}

/// Takes an erased user out of what schedules send; a schedule that was for him alone goes.
pub(super) async fn forget(
    tx: &mut SqliteConnection,
    tenant: &TenantId,
    name: &ExternalUserId,
    until: i64,
) -> Result<(), StoreError> {
    let spelled = crate::store::ledger::encode(name)?;
    let named: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, notification FROM schedules WHERE tenant = $1 AND updated_at <= $2 \
         AND instr(notification, $3) > 0 ORDER BY name",
    )
    .bind(tenant.as_str())
    .bind(until)
    .bind(spelled)
    .fetch_all(&mut *tx)
    .await?;
    for (schedule, request) in named {
        match schedules::request_without(&request, name)? {
            None => {}
            Some(None) => {
                remove(tx, tenant, &schedule).await?;
            }
            Some(Some(rest)) => {
                sqlx::query(
                    "UPDATE schedules SET notification = $3, revision = revision + 1 WHERE tenant = $1 AND name = $2",
                )
                .bind(tenant.as_str())
                .bind(schedule)
                .bind(rest)
                .execute(&mut *tx)
                .await?;
            }
        }
    }
    Ok(())
}
