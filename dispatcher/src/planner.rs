//! Planner: queue to mailboxes. Everything that it does to one notification is one transaction under the notification's
//! lease, so that a job may come twice, late, or to two planners at once.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    Clock, ExternalUserId, NotificationId, NotificationState, Target, TenantId, TopicName, UserId,
    ports::{Job, JobHandle, Queue, Unavailable},
};
use carillon_sql::StoreError;
use tokio_util::sync::CancellationToken;

use crate::{
    announcer::Announcer,
    audience::{Audience, Resolved, Surroundings, plain_of, users_of},
    broadcasts::{Progress, Reach, is_broadcast},
    config::PlannerConfig,
    handover::{FIRST, Handover},
    intake::is_away,
    live_only::LiveOnly,
    pace::Counted,
    parts::{Weight, parts},
    relay::{SUBJECT, decode},
    store::{
        Lease, NotificationRow, PlanJob, PlanOutcome, PlanPart, Store, StoredTarget,
        broadcasts::{BroadcastPage, BroadcastStep},
    },
    templates::TemplateError,
    wake::Wake,
};

/// How long a planner waits for the first job of a batch.
const PULL_WAIT: Duration = Duration::from_secs(5);

/// Decides who gets what was accepted.
pub(crate) struct Planner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) audience: Audience,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) live_only: LiveOnly,
    /// Has what was accepted a moment ago.
    pub(crate) handover: Arc<Handover>,
    /// Wakes who tries what goes outside.
    pub(crate) deliverer: Arc<Wake>,
    /// Wakes who hands out what is due.
    pub(crate) relay: Arc<Wake>,
    pub(crate) config: PlannerConfig,
}

/// Why nothing was planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("the notifications could not be written")]
    Store(#[from] StoreError),
    #[error("the users could not be resolved")]
    Directory(#[from] Unavailable),
    #[error("the template failed while it rendered")]
    Rendering(#[source] tokio::task::JoinError),
    #[error("the template could not be read")]
    Template(#[source] TemplateError),
}

impl PlanError {
    /// Whether trying the same later is all that can be done.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Store(error) => is_away(error),
            Self::Directory(_) => true,
            Self::Template(_) | Self::Rendering(_) => false,
        }
    }
}

impl From<TemplateError> for PlanError {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::Store(error) => Self::Store(error),
            TemplateError::Away(error) => Self::Directory(error),
            error => Self::Template(error),
        }
    }
}

/// A job with the word to the queue.
pub(crate) type Handled = (Lease, Box<dyn JobHandle>);

impl Planner {
    /// Plans until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let pulled = tokio::select! {
                // Jobs that were pulled and are dropped here come again.
                () = stop.cancelled() => return,
                pulled = self.queue.pull(SUBJECT, self.config.batch, PULL_WAIT) => pulled,
            };
            let done = match pulled {
                Ok(jobs) => self.plan(jobs).await,
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(()) => failures = 0,
                Err(error) => {
                    metrics::counter!("carillon_dispatcher_plan_failures_total").increment(1);
                    tracing::error!(error = &error as &dyn Error, "planning failed; it is tried again");
                    let wait = backoff(
                        self.config.retry_first.duration(),
                        Duration::from_secs(10),
                        failures,
                    );
                    failures = failures.saturating_add(1);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Plans the jobs. An error means that something is away and all jobs come again.
    async fn plan(&self, jobs: Vec<Job>) -> Result<(), PlanError> {
        let mut handles = Vec::with_capacity(jobs.len());
        for job in jobs {
            match decode(&job.payload) {
                Some((lease, until)) => {
                    let first = job.redelivered == 0;
                    let handle = Box::new(Counted {
                        handle: job.handle,
                        pace: Arc::clone(&self.handover.pace),
                        clock: Arc::clone(&self.clock),
                        until,
                        first,
                    });
                    // It is handed out anew. What came again may have a longer lease by now.
                    if first && until <= self.clock.now() {
                        metrics::counter!("carillon_dispatcher_stale_total").increment(1);
                        answered(handle.ack().await);
                    } else {
                        handles.push((lease, handle as Box<dyn JobHandle>));
                    }
                }
                None => {
                    tracing::error!("a job on the queue is none of ours; it is dropped");
                    answered(job.handle.ack().await);
                }
            }
        }
        while !handles.is_empty() {
            handles = self.plan_some(handles).await?;
        }
        Ok(())
    }

    /// Plans as many as are read together. Answers the others.
    async fn plan_some(&self, handles: Vec<Handled>) -> Result<Vec<Handled>, PlanError> {
        let prepared = match self.prepare(handles.iter().map(|(lease, _)| lease)).await {
            Ok(prepared) => prepared,
            Err(error) if error.is_away() || handles.len() == 1 => {
                return self.give_back(handles, error).await.map(|()| Vec::new());
            }
            Err(_) => return self.one_by_one(handles).await.map(|()| Vec::new()),
        };
        let (handles, rest): (Vec<_>, Vec<_>) = handles
            .into_iter()
            .partition(|(lease, _)| !prepared.more || prepared.has(lease));
        let mut batch: Vec<(PlanJob, Handled)> = Vec::new();
        let mut weight = Weight::default();
        let mut broadcasts = Vec::new();
        for (lease, handle) in handles {
            if let Some(progress) = prepared.pages(&lease) {
                broadcasts.push((progress, (lease, handle)));
                continue;
            }
            let job = match prepared.worked_out(&lease, &self.live_only).await {
                Ok(job) => job,
                Err(error) => {
                    self.postpone(&lease, handle, &error).await;
                    continue;
                }
            };
            let Some(job) = job else {
                // Cancelled and taken away meanwhile.
                answered(handle.ack().await);
                continue;
            };
            let own = Weight::of(&job);
            weight = match weight.with(own, &self.config) {
                Some(both) => both,
                None => {
                    self.commit(std::mem::take(&mut batch)).await?;
                    own
                }
            };
            batch.push((job, (lease, handle)));
        }
        self.commit(batch).await?;
        drop(prepared);
        if !broadcasts.is_empty() {
            self.turn(broadcasts).await?;
        }
        Ok(rest)
    }

    /// Reads notifications, as many as fit into memory together, and resolves their users, in as few steps as there are
    /// tenants.
    pub(crate) async fn prepare(
        &self,
        leases: impl Iterator<Item = &Lease>,
    ) -> Result<Arc<Prepared>, PlanError> {
        let (first, others): (Vec<&Lease>, Vec<&Lease>) = leases.partition(|lease| lease.token == FIRST);
        let again: HashSet<NotificationId> = others.iter().map(|lease| lease.notification).collect();
        let fresh = &self.handover.fresh;
        let mut rows = fresh.take(first.iter().map(|lease| (&lease.tenant, lease.notification)))?;
        let here: HashSet<NotificationId> = rows.iter().map(|row| row.id).collect();
        let ids: Vec<(TenantId, NotificationId)> = first
            .into_iter()
            .filter(|lease| !here.contains(&lease.notification))
            .chain(others)
            .map(|lease| (lease.tenant.clone(), lease.notification))
            .collect();
        let mut more = false;
        if !ids.is_empty() {
            let loaded = self.store.load(&ids, self.config.batch_bytes.as_usize()).await?;
            rows.extend(loaded.rows);
            more = loaded.more;
        }
        let mut reach = self.reach(&rows, &again).await?;
        let resolved = self.resolve(&rows).await?;
        let reached: Vec<_> = rows
            .iter()
            .map(|row| {
                let mut users = users_of(row, &resolved);
                match reach.get(&(row.tenant.clone(), row.id)) {
                    Some(Reach::Small { users: more, .. }) => {
                        let named: HashSet<UserId> = users.iter().copied().collect();
                        users.extend(more.iter().filter(|user| !named.contains(user)));
                    }
                    // Looked up page by page.
                    Some(Reach::Pages(_)) => users.clear(),
                    None => {}
                }
                (row, users)
            })
            .collect();
        let around = self.audience.around(&reached).await?;
        let users: Vec<Vec<UserId>> = reached.into_iter().map(|(_, users)| users).collect();
        let notifications = rows
            .into_iter()
            .zip(users)
            .map(|(row, users)| {
                let key = (row.tenant.clone(), row.id);
                let reach = reach.remove(&key);
                let row = Arc::new(row);
                (key, Notified { row, users, reach })
            })
            .collect();
        Ok(Arc::new(Prepared {
            notifications,
            more,
            around,
        }))
    }

    /// The internal ids of the users whom notifications name.
    pub(crate) async fn resolve(&self, rows: &[NotificationRow]) -> Result<Resolved, PlanError> {
        let mut mentioned: HashMap<TenantId, HashSet<ExternalUserId>> = HashMap::new();
        for row in rows {
            for target in &row.targets {
                if let StoredTarget::Known(Target::User(user)) = target {
                    mentioned
                        .entry(row.tenant.clone())
                        .or_default()
                        .insert(user.clone());
                }
            }
        }
        let mut users = Resolved::new();
        for (tenant, mentioned) in mentioned {
            let names: Vec<_> = mentioned.into_iter().collect();
            let ids = self.audience.directory.resolve(&tenant, &names).await?;
            users.insert(tenant, names.into_iter().zip(ids).collect());
        }
        Ok(users)
    }

    async fn commit(&self, batch: Vec<(PlanJob, Handled)>) -> Result<(), PlanError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (jobs, handles): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        match self.write(jobs).await {
            Ok(()) => {
                for (_, handle) in handles {
                    answered(handle.ack().await);
                }
                Ok(())
            }
            Err(error) if is_away(&error) || handles.len() == 1 => {
                self.give_back(handles, error.into()).await
            }
            Err(_) => self.one_by_one(handles).await,
        }
    }

    /// Writes jobs that fit into one transaction together, or one that may need several. What it has written when one
    /// of them fails is found by whoever resumes.
    pub(crate) async fn write(&self, jobs: Vec<PlanJob>) -> Result<(), StoreError> {
        let [_] = jobs.as_slice() else {
            self.write_together(&jobs).await?;
            return Ok(());
        };
        for part in jobs.into_iter().flat_map(|job| parts(job, &self.config)) {
            self.write_together(&[part]).await?;
        }
        Ok(())
    }

    pub(crate) async fn write_together(&self, jobs: &[PlanJob]) -> Result<Vec<PlanOutcome>, StoreError> {
        let turn = self.announcer.turn().await;
        let committed = self.store.plan(self.clock.now(), jobs).await?;
        turn.announce(committed.envelopes).await;
        self.deliverer.wake();
        let count = |outcome| committed.value.iter().filter(|value| **value == outcome).count() as u64;
        metrics::counter!("carillon_dispatcher_planned_total").increment(count(PlanOutcome::Planned));
        metrics::counter!("carillon_dispatcher_expired_total").increment(count(PlanOutcome::Expired));
        metrics::counter!("carillon_dispatcher_stale_total").increment(count(PlanOutcome::Stale));
        metrics::histogram!("carillon_dispatcher_plan_batch").record(jobs.len() as f64);
        Ok(committed.value)
    }

    /// One of them cannot be planned: it must not keep its neighbours from it.
    async fn one_by_one(&self, handles: Vec<Handled>) -> Result<(), PlanError> {
        let mut handles = handles.into_iter();
        while let Some((mut lease, handle)) = handles.next() {
            let planned = match self.prepare(std::iter::once(&lease)).await {
                Ok(prepared) => match prepared.pages(&lease) {
                    Some(progress) => self.pages(&mut lease, progress, 1).await,
                    None => match prepared.worked_out(&lease, &self.live_only).await {
                        Ok(Some(job)) => self.write(vec![job]).await.map_err(PlanError::from),
                        Ok(None) => Ok(()),
                        Err(error) => Err(error),
                    },
                },
                Err(error) => Err(error),
            };
            match planned {
                Ok(()) => answered(handle.ack().await),
                Err(error) if error.is_away() => {
                    let rest = std::iter::once((lease, handle)).chain(handles).collect();
                    return self.give_back(rest, error).await;
                }
                Err(error) => self.postpone(&lease, handle, &error).await,
            }
        }
        Ok(())
    }

    /// Gives jobs back to the queue. A single one that failed for a reason of its own is put off instead.
    pub(crate) async fn give_back(&self, handles: Vec<Handled>, error: PlanError) -> Result<(), PlanError> {
        let away = error.is_away();
        for (lease, handle) in handles {
            if away {
                answered(handle.retry_in(self.config.retry_first.duration()).await);
            } else {
                self.postpone(&lease, handle, &error).await;
            }
        }
        if away { Err(error) } else { Ok(()) }
    }

    /// Puts a notification off that cannot be planned, longer each time. Its time to live ends the attempts: then it
    /// expires, which needs none of what failed.
    pub(crate) async fn postpone(&self, lease: &Lease, handle: Box<dyn JobHandle>, error: &PlanError) {
        let attempts = u32::try_from(lease.token).unwrap_or(u32::MAX).saturating_sub(1);
        let wait = backoff(
            self.config.retry_first.duration(),
            self.config.retry_longest.duration(),
            attempts,
        );
        metrics::counter!("carillon_dispatcher_postponed_total").increment(1);
        tracing::error!(
            error = error as &dyn Error,
            tenant = %lease.tenant,
            notification = %lease.notification,
            attempt = lease.token,
            "a notification could not be planned; it is put off"
        );
        let now = self.clock.now();
        match self.store.postpone(now, lease, now.after(wait)).await {
            // The relay hands it out again, unless its time to live ended.
            Ok(end) => {
                match end {
                    Some(NotificationState::Expired) => {
                        metrics::counter!("carillon_dispatcher_expired_total").increment(1);
                    }
                    Some(_) => metrics::counter!("carillon_dispatcher_planned_total").increment(1),
                    None => {}
                }
                if end.is_some() {
                    self.deliverer.wake();
                }
                answered(handle.ack().await);
            }
            Err(_) => answered(handle.retry_in(wait).await),
        }
    }
}

/// Notifications and users as they were read.
pub(crate) struct Prepared {
    notifications: HashMap<(TenantId, NotificationId), Notified>,
    /// Whether some are there that were not read.
    more: bool,
    around: Surroundings,
}

/// A notification and everybody whom it is for, unless they are too many.
struct Notified {
    row: Arc<NotificationRow>,
    users: Vec<UserId>,
    /// Where it is for topics or segments: whom those hold.
    reach: Option<Reach>,
}

impl Prepared {
    fn has(&self, lease: &Lease) -> bool {
        let key = (lease.tenant.clone(), lease.notification);
        self.notifications.contains_key(&key)
    }

    /// As [`Self::job`]. Where a template renders, on a thread of its own: nobody who answers requests waits for it.
    pub(crate) async fn worked_out(
        self: &Arc<Self>,
        lease: &Lease,
        live_only: &LiveOnly,
    ) -> Result<Option<PlanJob>, PlanError> {
        if self.of(lease).is_none_or(|known| known.row.template.is_none()) {
            return Ok(self.job(lease, live_only));
        }
        // One at a time: the planner goes on when it is done.
        let (prepared, lease, live_only) = (Arc::clone(self), lease.clone(), live_only.clone());
        let job = tokio::task::spawn_blocking(move || prepared.job(&lease, &live_only));
        job.await.map_err(PlanError::Rendering)
    }

    fn of(&self, lease: &Lease) -> Option<&Notified> {
        self.notifications
            .get(&(lease.tenant.clone(), lease.notification))
    }

    /// How far it is, if it is planned page by page.
    fn pages(&self, lease: &Lease) -> Option<Progress> {
        match self.of(lease)?.reach {
            Some(Reach::Pages(progress)) => Some(progress),
            _ => None,
        }
    }

    fn job(&self, lease: &Lease, live_only: &LiveOnly) -> Option<PlanJob> {
        let Notified { row, users, reach } = self.of(lease)?;
        let broadcast = match reach {
            Some(Reach::Small {
                users: many,
                started_at,
            }) if !many.is_empty() || is_broadcast(row) => Some(BroadcastStep {
                started_at: *started_at,
                page: BroadcastPage::Last,
                held: None,
            }),
            _ => None,
        };
        Some(PlanJob {
            lease: lease.clone(),
            notification: Arc::clone(row),
            plan: Arc::clone(self.around.plan(row)?),
            critical: self.around.is_critical(row),
            policies: self.around.policies(row),
            users: self.around.addressees(row, users, &plain_of(row)),
            topics: topics_of(row, live_only),
            part: PlanPart::Whole,
            broadcast,
        })
    }
}

/// A notification's topics, and whether each keeps a history.
pub(crate) fn topics_of(row: &NotificationRow, live_only: &LiveOnly) -> Vec<(TopicName, bool)> {
    let topic = |target: &StoredTarget| match target {
        StoredTarget::Known(Target::Topic(topic)) => Some((topic.clone(), !live_only.covers(topic))),
        _ => None,
    };
    row.targets.iter().filter_map(topic).collect()
}

/// The queue is only a transport: what it cannot be told, the outbox makes good.
pub(crate) fn answered(result: Result<(), Unavailable>) {
    if let Err(error) = result {
        tracing::warn!(error = &error as &dyn Error, "the queue did not take an answer");
    }
}

/// How long after so many attempts.
pub(crate) fn backoff(first: Duration, longest: Duration, attempts: u32) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(attempts.min(20)))
        .min(longest)
}
