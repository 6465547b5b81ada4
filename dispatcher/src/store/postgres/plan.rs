use std::collections::HashSet;

use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, TenantScope};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    PostgresStore,
    keys::pairs,
    lock::{mailboxes, topics},
    write::write,
};
use crate::store::{
    apply,
    ledger::{Ledger, NotificationEnd, TopicKey},
    plan::{Known, plan},
    records::{Cancelled, Committed, EntryRow, PlanJob, PlanOutcome, UserKey},
    rows::{self, word},
};

impl PostgresStore {
    pub(super) async fn plan(
        &self,
        now: Timestamp,
        jobs: &[PlanJob],
    ) -> Result<Committed<Vec<PlanOutcome>>, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("the planner serves all tenants")
            .await?;
        let live = live(&mut tx, jobs).await?;
        let users: HashSet<UserKey> = jobs.iter().flat_map(PlanJob::mailboxes).collect();
        let topic_keys: HashSet<TopicKey> = jobs.iter().flat_map(PlanJob::kept_topics).collect();
        let mailboxes = mailboxes(&mut tx, &self.epoch, &users).await?;
        let topics = topics(&mut tx, now, &topic_keys).await?;
        let known = Known {
            open: open_entries(&mut tx, jobs).await?,
            erased: erased(&mut tx, &users).await?,
        };
        let mut ledger = Ledger::new(now, self.limits, mailboxes, topics);
        let value = plan(&mut ledger, known, jobs, &live)?;
        let mut writes = ledger.finish();
        write(&mut tx, now, self.limits.devices, &writes).await?;
        tx.commit().await?;
        Ok(Committed {
            value,
            envelopes: std::mem::take(&mut writes.envelopes),
        })
    }

    pub(super) async fn cancel(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Committed<Cancelled>, StoreError> {
        let mut tx = self.postgres.begin(TenantScope::new(tenant)).await?;
        let state: Option<(String,)> =
            sqlx::query_as("SELECT state FROM notifications WHERE tenant = $1 AND id = $2 FOR UPDATE")
                .bind(tenant.as_str())
                .bind(id.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        let done = |value| {
            Ok(Committed {
                value,
                envelopes: Vec::new(),
            })
        };
        match state.as_ref().map(|(state,)| state.as_str()) {
            None => return done(Cancelled::NotFound),
            Some("expired") => return done(Cancelled::Expired),
            Some("cancelled") => return done(Cancelled::Done { recalled: 0 }),
            Some(_) => {}
        }
        let recipients: Vec<(String,)> = sqlx::query_as(
            "SELECT user_id FROM recipients WHERE tenant = $1 AND notification = $2 AND entry IS NOT NULL",
        )
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await?;
        let users = recipients
            .iter()
            .map(|(user,)| Ok((tenant.clone(), word(user)?)))
            .collect::<Result<_, StoreError>>()?;
        let mailboxes = mailboxes(&mut tx, &self.epoch, &users).await?;
        // Read under the mailboxes' locks: what they showed before may have been replaced meanwhile.
        let entries = shown_entries(&mut tx, tenant, id).await?;
        let mut ledger = Ledger::new(now, self.limits, mailboxes, []);
        let recalled = apply::recall(&mut ledger, entries)?;
        // Where it was published stays known.
        let (topics,): (Option<String>,) =
            sqlx::query_as("SELECT topics FROM notifications WHERE tenant = $1 AND id = $2")
                .bind(tenant.as_str())
                .bind(id.to_string())
                .fetch_one(&mut *tx)
                .await?;
        ledger.writes.ended.push(NotificationEnd {
            tenant: tenant.clone(),
            id,
            state: carillon_domain::NotificationState::Cancelled,
            topics,
        });
        let mut writes = ledger.finish();
        write(&mut tx, now, self.limits.devices, &writes).await?;
        for statement in [
            "UPDATE recipients SET state = 'cancelled', reason = $3 \
             WHERE tenant = $1 AND notification = $2 AND state = 'open'",
            "UPDATE deliveries SET state = 'cancelled', reason = $3 \
             WHERE tenant = $1 AND notification = $2 AND state = 'pending'",
        ] {
            sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(id.to_string())
                .bind(apply::CANCELLED)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(Committed {
            value: Cancelled::Done { recalled },
            envelopes: std::mem::take(&mut writes.envelopes),
        })
    }
}

/// Whether each job's notification still waits and its lease is the last one; locks those.
async fn live(tx: &mut PgConnection, jobs: &[PlanJob]) -> Result<Vec<bool>, StoreError> {
    let (tenants, ids) = pairs(jobs.iter().map(|job| (&job.lease.tenant, job.lease.notification)));
    let tokens: Vec<i64> = jobs.iter().map(|job| job.lease.token).collect();
    let rows: Vec<(i64,)> = sqlx::query_as(
        "SELECT j.place - 1 FROM UNNEST($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY \
         AS j (tenant, notification, lease, place) \
         JOIN outbox o ON o.tenant = j.tenant AND o.notification = j.notification AND o.lease = j.lease \
         JOIN notifications n ON n.tenant = o.tenant AND n.id = o.notification AND n.state = 'accepted' \
         ORDER BY o.tenant COLLATE \"C\", o.notification COLLATE \"C\" FOR UPDATE OF o, n",
    )
    .bind(tenants)
    .bind(ids)
    .bind(tokens)
    .fetch_all(&mut *tx)
    .await?;
    let mut live = vec![false; jobs.len()];
    for (index,) in rows {
        if let Some(live) = usize::try_from(index).ok().and_then(|index| live.get_mut(index)) {
            *live = true;
        }
    }
    Ok(live)
}

async fn open_entries(
    tx: &mut PgConnection,
    jobs: &[PlanJob],
) -> Result<std::collections::HashMap<crate::store::plan::OpenKey, EntryRow>, StoreError> {
    let wanted: HashSet<_> = jobs
        .iter()
        .filter_map(|job| Some((job, job.notification.collapse_key.as_ref()?.as_str())))
        .flat_map(|(job, collapse)| {
            let category = job.notification.category.as_str();
            job.users
                .iter()
                .map(move |user| (&job.lease.tenant, *user, category, collapse))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Default::default());
    }
    let statement = format!(
        "SELECT {} FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) \
         AS j (tenant, user_id, category, collapse_key) \
         JOIN entries e ON e.tenant = j.tenant AND e.user_id = j.user_id AND e.category = j.category \
         AND e.collapse_key = j.collapse_key \
         WHERE e.collapse_key IS NOT NULL AND e.archived_at IS NULL AND e.gone_at IS NULL",
        rows::ENTRY_STATE
    );
    let wanted: Vec<_> = wanted.into_iter().collect();
    let (tenants, users) = pairs(wanted.iter().map(|(tenant, user, ..)| (*tenant, user)));
    let found: Vec<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenants)
        .bind(users)
        .bind(
            wanted
                .iter()
                .map(|(.., category, _)| (*category).to_owned())
                .collect::<Vec<_>>(),
        )
        .bind(
            wanted
                .iter()
                .map(|(.., collapse)| (*collapse).to_owned())
                .collect::<Vec<_>>(),
        )
        .fetch_all(&mut *tx)
        .await?;
    rows::by_open_key(found)
}

async fn erased(tx: &mut PgConnection, users: &HashSet<UserKey>) -> Result<HashSet<UserKey>, StoreError> {
    let (tenants, names) = pairs(users.iter().map(|(tenant, user)| (tenant, user)));
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT e.tenant, e.user_id FROM UNNEST($1::text[], $2::text[]) AS j (tenant, user_id) \
         JOIN erased e ON e.tenant = j.tenant AND e.user_id = j.user_id",
    )
    .bind(tenants)
    .bind(names)
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|(tenant, user)| Ok((word(tenant)?, word::<UserId>(user)?)))
        .collect()
}

/// The entries that show a notification, without their content.
async fn shown_entries(
    tx: &mut PgConnection,
    tenant: &TenantId,
    id: NotificationId,
) -> Result<Vec<EntryRow>, StoreError> {
    let statement = format!(
        "SELECT {} FROM recipients r JOIN entries e \
         ON e.tenant = r.tenant AND e.user_id = r.user_id AND e.id = r.entry \
         WHERE r.tenant = $1 AND r.notification = $2 AND e.notification = $2",
        rows::ENTRY_STATE
    );
    let found: Vec<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(tenant.as_str())
        .bind(id.to_string())
        .fetch_all(&mut *tx)
        .await?;
    found.into_iter().map(EntryRow::try_from).collect()
}
