use std::collections::{BTreeMap, HashMap, HashSet};

use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::{StoreError, together};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    SqliteStore,
    keys::{USERS, json_list, pairs, users as user_list},
    outside::{self, listeners},
    write::write,
};
use crate::store::{
    ledger::{Ledger, TopicKey, encode},
    outside::{self as outside_rows, RivalColumns, collapse_keys},
    plan::{Before, Known, OpenKey, Rival, plan},
    records::{Committed, EntryRow, MailboxRow, PlanJob, PlanOutcome, TopicRow, UserKey},
    rows::{self, word},
    withdrawals::Answered,
};

impl SqliteStore {
    pub(super) async fn plan(
        &self,
        now: Timestamp,
        jobs: &[PlanJob],
    ) -> Result<Committed<Vec<PlanOutcome>>, StoreError> {
        let mut tx = self.sqlite.begin_system("the planner serves all tenants").await?;
        let live = live(&mut tx, jobs).await?;
        let users: HashSet<UserKey> = jobs.iter().flat_map(PlanJob::mailboxes).collect();
        let recipients: HashSet<UserKey> = jobs.iter().flat_map(PlanJob::recipients).collect();
        let topics: HashSet<TopicKey> = jobs.iter().flat_map(PlanJob::kept_topics).collect();
        let mailboxes = mailboxes(&mut tx, &self.epoch, &users).await?;
        let topics = self::topics(&mut tx, now, &topics).await?;
        let known = Known {
            open: open_entries(&mut tx, jobs).await?,
            erased: erased(&mut tx, &recipients).await?,
            before: before(&mut tx, jobs).await?,
            answered: answered(&mut tx, jobs).await?,
            bars: outside::bars(&mut tx, &self.prints, now, jobs).await?,
            earlier: outside::earlier(&mut tx, jobs).await?,
            rivals: rivals(&mut tx, jobs).await?,
        };
        let mut ledger = Ledger::new(now, self.limits, mailboxes, topics);
        ledger.listeners = listeners(
            &mut tx,
            jobs.iter().map(|job| &job.lease.tenant),
            self.limits.event_ttl,
        )
        .await?;
        let value = plan(&mut ledger, known, jobs, &live)?;
        let mut writes = ledger.finish();
        write(&mut tx, now, self.limits.devices, &writes).await?;
        tx.commit().await?;
        Ok(Committed {
            value,
            told: !writes.events.is_empty(),
            envelopes: std::mem::take(&mut writes.envelopes),
        })
    }
}

/// Whether each job's notification still waits and its lease is the last one.
async fn live(tx: &mut SqliteConnection, jobs: &[PlanJob]) -> Result<Vec<bool>, StoreError> {
    let keys = json_list(
        jobs.iter()
            .map(|job| (job.lease.tenant.as_str(), job.lease.notification, job.lease.token)),
    )?;
    // One row for all: each row of an answer is a message between threads.
    let found = sqlx::query_as(
        "SELECT json_group_array(j.key) FROM json_each($1) j \
         CROSS JOIN outbox o ON o.tenant = j.value ->> 0 AND o.notification = j.value ->> 1 \
         CROSS JOIN notifications n ON n.tenant = o.tenant AND n.id = o.notification \
         WHERE o.lease = j.value ->> 2 AND n.state = 'accepted'",
    )
    .bind(keys)
    .fetch_one(&mut *tx)
    .await?;
    let mut live = vec![false; jobs.len()];
    for index in together::<usize>(found)? {
        if let Some(live) = live.get_mut(index) {
            *live = true;
        }
    }
    Ok(live)
}

/// The mailboxes, new ones included.
pub(super) async fn mailboxes(
    tx: &mut SqliteConnection,
    store: &str,
    users: &HashSet<UserKey>,
) -> Result<Vec<MailboxRow>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!(
        "SELECT json_group_array(json_array({})) FROM {USERS} \
         CROSS JOIN mailboxes m ON m.tenant = t.key AND m.user_id = u.value",
        rows::MAILBOX
    );
    let found = sqlx::query_as(AssertSqlSafe(statement))
        .bind(user_list(users.iter())?)
        .fetch_one(&mut *tx)
        .await?;
    let mut mailboxes = together::<rows::MailboxColumns>(found)?
        .into_iter()
        .map(rows::mailbox)
        .collect::<Result<Vec<_>, _>>()?;
    let known: HashSet<UserKey> = mailboxes
        .iter()
        .map(|row| (row.tenant.clone(), row.user))
        .collect();
    for (tenant, user) in users.difference(&known) {
        mailboxes.push(rows::new_mailbox(store, tenant, *user)?);
    }
    Ok(mailboxes)
}

/// The topics, new ones included.
pub(super) async fn topics(
    tx: &mut SqliteConnection,
    now: Timestamp,
    keys: &HashSet<TopicKey>,
) -> Result<Vec<TopicRow>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!(
        "SELECT {} FROM json_each($1) j CROSS JOIN topics t \
         ON t.tenant = j.value ->> 0 AND t.topic = j.value ->> 1",
        rows::TOPIC
    );
    let found: Vec<rows::TopicColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(pairs(keys.iter().map(|(tenant, topic)| (tenant, topic)))?)
        .fetch_all(&mut *tx)
        .await?;
    let mut topics = found
        .into_iter()
        .map(rows::topic)
        .collect::<Result<Vec<_>, _>>()?;
    let known: HashSet<TopicKey> = topics
        .iter()
        .map(|row| (row.tenant.clone(), row.topic.clone()))
        .collect();
    for (tenant, topic) in keys.difference(&known) {
        topics.push(rows::new_topic(now, tenant, topic));
    }
    Ok(topics)
}

pub(super) async fn open_entries(
    tx: &mut SqliteConnection,
    jobs: &[PlanJob],
) -> Result<HashMap<OpenKey, EntryRow>, StoreError> {
    let wanted: HashSet<_> = jobs
        .iter()
        .filter_map(|job| Some((job, job.notification.collapse_key.as_ref()?.as_str())))
        .flat_map(|(job, collapse)| {
            let category = job.notification.category.as_str();
            job.users
                .iter()
                .filter(|addressee| addressee.in_app)
                .map(move |addressee| (job.lease.tenant.as_str(), addressee.user, category, collapse))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Default::default());
    }
    let statement = format!(
        "SELECT {} FROM json_each($1) j CROSS JOIN entries e \
         ON e.tenant = j.value ->> 0 AND e.user_id = j.value ->> 1 AND e.category = j.value ->> 2 \
         AND e.collapse_key = j.value ->> 3 \
         WHERE e.collapse_key IS NOT NULL AND e.archived_at IS NULL AND e.gone_at IS NULL",
        rows::ENTRY_STATE
    );
    let found: Vec<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(json_list(wanted.into_iter())?)
        .fetch_all(&mut *tx)
        .await?;
    rows::by_open_key(found)
}

/// What recipients of these jobs have with the same collapse keys: what is due, what waits or arrived outside, what the
/// inbox shows.
async fn rivals(
    tx: &mut SqliteConnection,
    jobs: &[PlanJob],
) -> Result<HashMap<OpenKey, Vec<Rival>>, StoreError> {
    let keys = collapse_keys(jobs);
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<RivalColumns> = sqlx::query_as(
        "SELECT r.tenant, r.user_id, n.category, n.collapse_key, r.notification, n.send_at, r.state = 'open' FROM (\
         SELECT c.tenant AS tenant, c.notification AS notification, c.user_id AS user_id FROM json_each($1) j \
         CROSS JOIN climbs c ON c.tenant = j.value ->> 0 AND c.user_id = j.value ->> 1 \
         CROSS JOIN notifications o ON o.tenant = c.tenant AND o.id = c.notification \
         WHERE o.category = j.value ->> 2 AND o.collapse_key = j.value ->> 3 \
         UNION SELECT d.tenant, d.notification, d.user_id FROM json_each($1) j \
         CROSS JOIN deliveries d ON d.tenant = j.value ->> 0 AND d.user_id = j.value ->> 1 \
         AND d.collapse = (j.value ->> 2) || '/' || (j.value ->> 3) WHERE d.collapse IS NOT NULL \
         UNION SELECT e.tenant, e.notification, e.user_id FROM json_each($1) j \
         CROSS JOIN entries e ON e.tenant = j.value ->> 0 AND e.user_id = j.value ->> 1 AND e.category = j.value ->> 2 \
         AND e.collapse_key = j.value ->> 3 \
         WHERE e.collapse_key IS NOT NULL AND e.archived_at IS NULL AND e.gone_at IS NULL) v \
         CROSS JOIN recipients r ON r.tenant = v.tenant AND r.notification = v.notification AND r.user_id = v.user_id \
         CROSS JOIN notifications n ON n.tenant = v.tenant AND n.id = v.notification WHERE n.collapse_key IS NOT NULL",
    )
    .bind(json_list(keys.into_iter())?)
    .fetch_all(tx)
    .await?;
    outside_rows::rivals(rows)
}

async fn erased(tx: &mut SqliteConnection, users: &HashSet<UserKey>) -> Result<HashSet<UserKey>, StoreError> {
    let found: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT e.tenant, e.user_id FROM {USERS} CROSS JOIN erased e ON e.tenant = t.key AND e.user_id = u.value",
    )))
    .bind(user_list(users.iter())?)
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|(tenant, user)| Ok((word(tenant)?, word::<UserId>(user)?)))
        .collect()
}

/// Who answered for all the jobs that resume.
async fn answered(
    tx: &mut SqliteConnection,
    jobs: &[PlanJob],
) -> Result<HashMap<(TenantId, NotificationId), Answered>, StoreError> {
    let resuming: Vec<&PlanJob> = jobs.iter().filter(|job| job.resumes()).collect();
    if resuming.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT n.tenant, n.id, n.answered FROM json_each($1) j CROSS JOIN notifications n \
         ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1 WHERE n.answered IS NOT NULL",
    )
    .bind(pairs(
        resuming
            .iter()
            .map(|job| (&job.lease.tenant, job.lease.notification)),
    )?)
    .fetch_all(tx)
    .await?;
    found
        .iter()
        .map(|(tenant, id, text)| Ok(((word(tenant)?, word(id)?), Answered::stored(text)?)))
        .collect()
}

/// What was planned earlier of the jobs that resume.
async fn before(
    tx: &mut SqliteConnection,
    jobs: &[PlanJob],
) -> Result<HashMap<(TenantId, NotificationId), Before>, StoreError> {
    let keys: Vec<_> = jobs
        .iter()
        .filter(|job| job.resumes())
        .map(|job| (&job.lease.tenant, job.lease.notification))
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys = pairs(keys.into_iter())?;
    // Read flat, as `USERS` are.
    let mut wanted: BTreeMap<&str, BTreeMap<String, Vec<UserId>>> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.resumes()) {
        let of_tenant = wanted.entry(job.lease.tenant.as_str()).or_default();
        let users = of_tenant.entry(job.lease.notification.to_string()).or_default();
        users.extend(job.users.iter().map(|addressee| addressee.user));
    }
    let recipients: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT r.tenant, r.notification, r.user_id FROM json_each($1) t CROSS JOIN json_each(t.value) n \
         CROSS JOIN json_each(n.value) u CROSS JOIN recipients r \
         ON r.tenant = t.key AND r.notification = n.key AND r.user_id = u.value",
    )
    .bind(encode(&wanted)?)
    .fetch_all(&mut *tx)
    .await?;
    let delivered: Vec<(String, String)> = sqlx::query_as(
        "SELECT j.value ->> 0, j.value ->> 1 FROM json_each($1) j WHERE EXISTS (SELECT 1 FROM recipients r \
         WHERE r.tenant = j.value ->> 0 AND r.notification = j.value ->> 1 AND r.state NOT IN ('expired', 'erased'))",
    )
    .bind(keys.as_str())
    .fetch_all(&mut *tx)
    .await?;
    let topics: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT n.tenant, n.id, n.topics FROM json_each($1) j CROSS JOIN notifications n \
         ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1 WHERE n.topics IS NOT NULL",
    )
    .bind(keys)
    .fetch_all(&mut *tx)
    .await?;
    rows::before(recipients, delivered, topics)
}
