use std::collections::{HashMap, HashSet};

use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    PostgresStore,
    column::column,
    outside::{self, listeners},
    write::write,
};
use crate::store::{
    ledger::{Ledger, TopicKey},
    outside::{self as outside_rows, RivalColumns, collapse_keys},
    plan::{Before, Known, OpenKey, Rival, plan},
    records::{Committed, EntryRow, MailboxRow, PlanJob, PlanOutcome, TopicRow, UserKey},
    rows::{self, word},
    withdrawals::Answered,
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
        let users: HashSet<UserKey> = jobs
            .iter()
            .flat_map(|job| job.mailboxes().chain(job.counted()).chain(job.gathered()))
            .collect();
        let recipients: HashSet<UserKey> = jobs.iter().flat_map(PlanJob::recipients).collect();
        let topics: HashSet<TopicKey> = jobs.iter().flat_map(PlanJob::kept_topics).collect();
        let mailboxes = mailboxes(&mut tx, &self.epoch, &users).await?;
        // Recipients come before lanes; whoever comes in between is found, and locked, once the lanes are held.
        rivals(&mut tx, jobs).await?;
        let topics = self::topics(&mut tx, now, &topics).await?;
        let tenants = jobs.iter().map(|job| &job.lease.tenant);
        let listeners = listeners(&mut tx, tenants, self.limits.event_ttl).await?;
        outside::hold_lanes(&mut tx, now, jobs, &listeners).await?;
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
        ledger.listeners = listeners;
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

/// Whether each job's notification still waits and its lease is the last one; such rows are locked.
async fn live(tx: &mut PgConnection, jobs: &[PlanJob]) -> Result<Vec<bool>, StoreError> {
    let rows: Vec<(i64,)> = sqlx::query_as(
        "SELECT j.place FROM UNNEST($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY \
         AS j(tenant, id, lease, place) JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id \
         JOIN outbox o ON o.tenant = n.tenant AND o.notification = n.id \
         WHERE o.lease = j.lease AND n.state = 'accepted' ORDER BY n.tenant, n.id FOR UPDATE OF n, o",
    )
    .bind(column!(jobs, job => job.lease.tenant.as_str()))
    .bind(column!(jobs, job => job.lease.notification.to_string()))
    .bind(column!(jobs, job => job.lease.token))
    .fetch_all(&mut *tx)
    .await?;
    let mut live = vec![false; jobs.len()];
    for (place,) in rows {
        if let Some(live) = usize::try_from(place - 1)
            .ok()
            .and_then(|index| live.get_mut(index))
        {
            *live = true;
        }
    }
    Ok(live)
}

/// A row that somebody removed while we waited for it is made again; more often than this it cannot happen by chance.
const TURNS: usize = 8;

/// Turns of making rows and locking them. Each begins with no lock of the one before: who makes a vanished row again while
/// it holds later ones would wait for whoever made it first and waits for those.
struct Turns;

impl Turns {
    async fn begin(tx: &mut PgConnection) -> Result<Self, StoreError> {
        sqlx::raw_sql("SAVEPOINT turn").execute(tx).await?;
        Ok(Self)
    }

    async fn again(&self, tx: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::raw_sql("ROLLBACK TO SAVEPOINT turn").execute(tx).await?;
        Ok(())
    }
}

/// The mailboxes, made where they are new (a row that is not there cannot be locked), and locked by key.
pub(super) async fn mailboxes(
    tx: &mut PgConnection,
    store: &str,
    users: &HashSet<UserKey>,
) -> Result<Vec<MailboxRow>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<MailboxRow> = users
        .iter()
        .map(|(tenant, user)| rows::new_mailbox(store, tenant, *user))
        .collect::<Result<_, _>>()?;
    let tenants = column!(new, row => row.tenant.as_str());
    let ids = column!(new, row => row.user.to_string());
    let select = format!(
        "SELECT {} FROM UNNEST($1::text[], $2::text[]) AS j(tenant, user_id) \
         JOIN mailboxes m ON m.tenant = j.tenant AND m.user_id = j.user_id \
         ORDER BY m.tenant, m.user_id FOR UPDATE OF m",
        rows::MAILBOX
    );
    let turns = Turns::begin(tx).await?;
    for _ in 0..TURNS {
        // In one order on every node, and new rows before old ones, so that no two wait for each other.
        sqlx::query(
            "INSERT INTO mailboxes (tenant, user_id, epoch, last_seq, floor_seq, total, unread, unseen) \
             SELECT j.tenant, j.user_id, j.epoch, 0, 0, 0, 0, 0 \
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, user_id, epoch) \
             WHERE NOT EXISTS (SELECT 1 FROM mailboxes m WHERE m.tenant = j.tenant AND m.user_id = j.user_id) \
             ORDER BY j.tenant, j.user_id ON CONFLICT DO NOTHING",
        )
        .bind(&tenants)
        .bind(&ids)
        .bind(column!(new, row => row.epoch.as_str()))
        .execute(&mut *tx)
        .await?;
        let found: Vec<rows::MailboxColumns> = sqlx::query_as(AssertSqlSafe(select.clone()))
            .bind(&tenants)
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await?;
        if found.len() == users.len() {
            return found.into_iter().map(rows::mailbox).collect();
        }
        turns.again(tx).await?;
    }
    Err(StoreError::Corrupt(
        "mailboxes vanish as soon as they are made".to_owned(),
    ))
}

/// The topics, made where they are new, and locked by key.
pub(super) async fn topics(
    tx: &mut PgConnection,
    now: Timestamp,
    keys: &HashSet<TopicKey>,
) -> Result<Vec<TopicRow>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let new: Vec<TopicRow> = keys
        .iter()
        .map(|(tenant, topic)| rows::new_topic(now, tenant, topic))
        .collect();
    let tenants = column!(new, row => row.tenant.as_str());
    let names = column!(new, row => row.topic.as_str());
    let select = format!(
        "SELECT {} FROM UNNEST($1::text[], $2::text[]) AS j(tenant, topic) \
         JOIN topics t ON t.tenant = j.tenant AND t.topic = j.topic \
         ORDER BY t.tenant, t.topic FOR UPDATE OF t",
        rows::TOPIC
    );
    let turns = Turns::begin(tx).await?;
    for _ in 0..TURNS {
        sqlx::query(
            "INSERT INTO topics (tenant, topic, epoch, last_seq, floor_seq, used_at) \
             SELECT j.tenant, j.topic, j.epoch, 0, 0, $4 \
             FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, topic, epoch) \
             WHERE NOT EXISTS (SELECT 1 FROM topics t WHERE t.tenant = j.tenant AND t.topic = j.topic) \
             ORDER BY j.tenant, j.topic ON CONFLICT DO NOTHING",
        )
        .bind(&tenants)
        .bind(&names)
        .bind(column!(new, row => row.epoch.as_str()))
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        let found: Vec<rows::TopicColumns> = sqlx::query_as(AssertSqlSafe(select.clone()))
            .bind(&tenants)
            .bind(&names)
            .fetch_all(&mut *tx)
            .await?;
        if found.len() == keys.len() {
            return found.into_iter().map(rows::topic).collect();
        }
        turns.again(tx).await?;
    }
    Err(StoreError::Corrupt(
        "topics vanish as soon as they are made".to_owned(),
    ))
}

pub(super) async fn open_entries(
    tx: &mut PgConnection,
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
        return Ok(HashMap::new());
    }
    let statement = format!(
        "SELECT {} FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) \
         AS j(tenant, user_id, category, collapse_key) JOIN entries e ON e.tenant = j.tenant \
         AND e.user_id = j.user_id AND e.category = j.category AND e.collapse_key = j.collapse_key \
         WHERE e.collapse_key IS NOT NULL AND e.archived_at IS NULL AND e.gone_at IS NULL",
        rows::ENTRY_STATE
    );
    let found: Vec<rows::EntryColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(column!(wanted, (tenant, _, _, _) => *tenant))
        .bind(column!(wanted, (_, user, _, _) => user.to_string()))
        .bind(column!(wanted, (_, _, category, _) => *category))
        .bind(column!(wanted, (_, _, _, collapse) => *collapse))
        .fetch_all(&mut *tx)
        .await?;
    rows::by_open_key(found)
}

/// What recipients of these jobs have with the same collapse keys, their rows locked: what is due, what waits or arrived
/// outside, what the inbox shows.
async fn rivals(tx: &mut PgConnection, jobs: &[PlanJob]) -> Result<HashMap<OpenKey, Vec<Rival>>, StoreError> {
    let keys = collapse_keys(jobs);
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<RivalColumns> = sqlx::query_as(
        "SELECT r.tenant, r.user_id, n.category, n.collapse_key, r.notification, n.send_at, \
         CASE WHEN r.state = 'open' THEN 1::bigint ELSE 0 END FROM (\
         SELECT c.tenant, c.notification, c.user_id \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS j(tenant, user_id, category, collapse_key) \
         JOIN climbs c ON c.tenant = j.tenant AND c.user_id = j.user_id \
         JOIN notifications o ON o.tenant = c.tenant AND o.id = c.notification \
         AND o.category = j.category AND o.collapse_key = j.collapse_key \
         UNION SELECT d.tenant, d.notification, d.user_id \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS j(tenant, user_id, category, collapse_key) \
         JOIN deliveries d ON d.tenant = j.tenant AND d.user_id = j.user_id \
         AND d.collapse = j.category || '/' || j.collapse_key WHERE d.collapse IS NOT NULL \
         UNION SELECT e.tenant, e.notification, e.user_id \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS j(tenant, user_id, category, collapse_key) \
         JOIN entries e ON e.tenant = j.tenant AND e.user_id = j.user_id AND e.category = j.category \
         AND e.collapse_key = j.collapse_key \
         WHERE e.collapse_key IS NOT NULL AND e.archived_at IS NULL AND e.gone_at IS NULL) v \
         JOIN recipients r ON r.tenant = v.tenant AND r.notification = v.notification AND r.user_id = v.user_id \
         JOIN notifications n ON n.tenant = v.tenant AND n.id = v.notification AND n.collapse_key IS NOT NULL \
         ORDER BY r.tenant, r.notification, r.user_id FOR UPDATE OF r",
    )
    .bind(column!(keys, (tenant, _, _, _) => *tenant))
    .bind(column!(keys, (_, user, _, _) => user.as_str()))
    .bind(column!(keys, (_, _, category, _) => *category))
    .bind(column!(keys, (_, _, _, collapse) => *collapse))
    .fetch_all(tx)
    .await?;
    outside_rows::rivals(rows)
}

async fn erased(tx: &mut PgConnection, users: &HashSet<UserKey>) -> Result<HashSet<UserKey>, StoreError> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT e.tenant, e.user_id FROM UNNEST($1::text[], $2::text[]) AS j(tenant, user_id) \
         JOIN erased e ON e.tenant = j.tenant AND e.user_id = j.user_id",
    )
    .bind(column!(users, (tenant, _) => tenant.as_str()))
    .bind(column!(users, (_, user) => user.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|(tenant, user)| Ok((word(tenant)?, word::<UserId>(user)?)))
        .collect()
}

/// Who answered for all the jobs that resume.
async fn answered(
    tx: &mut PgConnection,
    jobs: &[PlanJob],
) -> Result<HashMap<(TenantId, NotificationId), Answered>, StoreError> {
    let resuming: Vec<&PlanJob> = jobs.iter().filter(|job| job.resumes()).collect();
    if resuming.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT n.tenant, n.id, n.answered FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
         JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id WHERE n.answered IS NOT NULL",
    )
    .bind(column!(resuming, job => job.lease.tenant.as_str()))
    .bind(column!(resuming, job => job.lease.notification.to_string()))
    .fetch_all(tx)
    .await?;
    found
        .iter()
        .map(|(tenant, id, text)| Ok(((word(tenant)?, word(id)?), Answered::stored(text)?)))
        .collect()
}

/// What was planned earlier of the jobs that resume. Their notifications are locked.
async fn before(
    tx: &mut PgConnection,
    jobs: &[PlanJob],
) -> Result<HashMap<(TenantId, NotificationId), Before>, StoreError> {
    let resuming: Vec<&PlanJob> = jobs.iter().filter(|job| job.resumes()).collect();
    if resuming.is_empty() {
        return Ok(HashMap::new());
    }
    let tenants = column!(resuming, job => job.lease.tenant.as_str());
    let ids = column!(resuming, job => job.lease.notification.to_string());
    let wanted: Vec<_> = resuming
        .iter()
        .flat_map(|job| job.users.iter().map(move |addressee| (job, addressee.user)))
        .collect();
    let recipients: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT r.tenant, r.notification, r.user_id \
         FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, id, user_id) \
         JOIN recipients r ON r.tenant = j.tenant AND r.notification = j.id AND r.user_id = j.user_id",
    )
    .bind(column!(wanted, (job, _) => job.lease.tenant.as_str()))
    .bind(column!(wanted, (job, _) => job.lease.notification.to_string()))
    .bind(column!(wanted, (_, user) => user.to_string()))
    .fetch_all(&mut *tx)
    .await?;
    let delivered: Vec<(String, String)> = sqlx::query_as(
        "SELECT j.tenant, j.id FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
         WHERE EXISTS (SELECT 1 FROM recipients r WHERE r.tenant = j.tenant AND r.notification = j.id \
         AND r.state NOT IN ('expired', 'erased'))",
    )
    .bind(&tenants)
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    let topics: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT n.tenant, n.id, n.topics FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) \
         JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id WHERE n.topics IS NOT NULL",
    )
    .bind(&tenants)
    .bind(&ids)
    .fetch_all(&mut *tx)
    .await?;
    rows::before(recipients, delivered, topics)
}
