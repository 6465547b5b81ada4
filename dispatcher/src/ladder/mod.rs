//! Ladder: recipients climb the steps of their plans. What is due is leased, looked at anew in every respect, and moved in
//! one transaction under the recipient's row; a lost lease, a restart and a second node run the same code.

mod clock;

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use carillon_domain::{Clock, NotificationId, TenantId, Timestamp, UserId};
use tokio_util::sync::CancellationToken;

pub(crate) use clock::{OneClock, run as keep_time};

use crate::{
    announcer::Announcer,
    audience::Audience,
    config::LadderConfig,
    planner::{PlanError, backoff},
    store::{
        Lease, NotificationRow, PlanJob, PlanPart, Store,
        ladder::{ClimbLease, Climbing, LoadedClimbs},
    },
    wake::Wake,
};

/// Recipients that one transaction ends at the most when their time is over.
const PAGE: usize = 1_000;

/// Moves recipients on.
pub(crate) struct Ladder {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) audience: Audience,
    pub(crate) announcer: Arc<Announcer>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Wakes this one.
    pub(crate) wake: Arc<Wake>,
    /// Wakes who tries what goes outside.
    pub(crate) deliverer: Arc<Wake>,
    pub(crate) config: LadderConfig,
}

/// Leased recipients with everything that decides about them.
pub(crate) struct Looked {
    leases: Vec<ClimbLease>,
    jobs: Vec<PlanJob>,
}

#[cfg(test)]
impl Looked {
    /// Under which leases.
    pub(crate) fn leases(&self) -> &[ClimbLease] {
        &self.leases
    }
}

impl Ladder {
    /// Climbs until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let (due, wait) = match self.turn(&stop).await {
                Ok(due) => {
                    failures = 0;
                    (due, self.config.poll.duration())
                }
                Err(error) => {
                    metrics::counter!("carillon_ladder_failures_total").increment(1);
                    tracing::error!(
                        error = &error as &dyn Error,
                        "recipients could not climb; it is tried again"
                    );
                    failures = failures.saturating_add(1);
                    let wait = backoff(
                        self.config.retry_first.duration(),
                        Duration::from_secs(10),
                        failures,
                    );
                    (None, wait)
                }
            };
            if !self.wake.wait(&stop, &*self.clock, due, wait).await {
                return;
            }
        }
    }

    /// Looks at everything that is due; answers when the next will be. Before each batch a page of those whose time is over
    /// ends, so that they do not wait for everybody else.
    pub(crate) async fn turn(&self, stop: &CancellationToken) -> Result<Option<Timestamp>, PlanError> {
        loop {
            let more = !stop.is_cancelled() && self.store.close_late(self.clock.now(), PAGE).await?;
            let now = self.clock.now();
            let due = self.store.next_climb().await?;
            if stop.is_cancelled() {
                return Ok(due);
            }
            let leases = if due.is_some_and(|due| due <= now) {
                let until = now.after(self.config.lease.duration());
                self.store.lease_climbs(now, self.config.batch, until).await?
            } else {
                Vec::new()
            };
            if !leases.is_empty() {
                metrics::counter!("carillon_ladder_leased_total").increment(leases.len() as u64);
                self.climb(&leases).await?;
            } else if !more {
                // What is due is held by others.
                return Ok(due.filter(|due| *due > now));
            }
        }
    }

    /// Looks at leased recipients. One that cannot be looked at keeps its neighbours from nothing.
    async fn climb(&self, leases: &[ClimbLease]) -> Result<(), PlanError> {
        match self.together(leases).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_away() => Err(error),
            Err(error) => match leases {
                [lease] => self.put_off(lease, &error).await,
                _ => {
                    for lease in leases {
                        match self.together(std::slice::from_ref(lease)).await {
                            Ok(()) => {}
                            Err(error) if error.is_away() => return Err(error),
                            Err(error) => self.put_off(lease, &error).await?,
                        }
                    }
                    Ok(())
                }
            },
        }
    }

    async fn together(&self, leases: &[ClimbLease]) -> Result<(), PlanError> {
        match self.look(leases).await? {
            Some(looked) => self.commit(looked).await,
            None => Ok(()),
        }
    }

    /// Reads what decides about leased recipients; none where there is nobody left to decide about.
    pub(crate) async fn look(&self, leases: &[ClimbLease]) -> Result<Option<Looked>, PlanError> {
        let LoadedClimbs { climbing, gone } = self.store.load_climbs(leases).await?;
        if !gone.is_empty() {
            self.store.drop_climbs(&gone).await?;
        }
        if climbing.is_empty() {
            return Ok(None);
        }
        let (leases, jobs) = self.jobs(climbing).await?;
        Ok(Some(Looked { leases, jobs }))
    }

    /// Moves recipients on whose leases still hold.
    pub(crate) async fn commit(&self, looked: Looked) -> Result<(), PlanError> {
        let Looked { leases, jobs } = looked;
        let turn = self.announcer.turn().await;
        let committed = self.store.climb(self.clock.now(), &leases, &jobs).await?;
        turn.announce(committed.envelopes).await;
        self.deliverer.wake();
        metrics::counter!("carillon_ladder_climbed_total").increment(committed.value);
        Ok(())
    }

    /// What the recipients' transaction takes, everything read anew.
    async fn jobs(&self, climbing: Vec<Climbing>) -> Result<(Vec<ClimbLease>, Vec<PlanJob>), PlanError> {
        let mut users: HashMap<(TenantId, NotificationId), (Arc<NotificationRow>, Vec<UserId>)> =
            HashMap::new();
        for one in &climbing {
            let (tenant, notification, user) = &one.lease.key;
            let (_, users) = users
                .entry((tenant.clone(), *notification))
                .or_insert_with(|| (Arc::clone(&one.notification), Vec::new()));
            if one.plain.is_none() {
                users.push(*user);
            }
        }
        let reached: Vec<_> = users
            .values()
            .map(|(row, users)| (&**row, users.clone()))
            .collect();
        let around = self.audience.around(&reached).await?;
        let mut leases = Vec::with_capacity(climbing.len());
        let mut jobs = Vec::with_capacity(climbing.len());
        for Climbing {
            lease,
            notification,
            plain,
        } in climbing
        {
            let (tenant, id, user) = lease.key.clone();
            let Some(plan) = around.plan(&notification) else {
                continue;
            };
            let users = match &plain {
                None => around.addressees(&notification, &[user], &[]),
                Some(plain) => around.addressees(&notification, &[], std::slice::from_ref(plain)),
            };
            jobs.push(PlanJob {
                lease: Lease {
                    tenant,
                    notification: id,
                    token: 0,
                },
                plan: Arc::clone(plan),
                critical: around.is_critical(&notification),
                policies: around.policies(&notification),
                users,
                topics: Vec::new(),
                part: PlanPart::Whole,
                broadcast: None,
                notification,
            });
            leases.push(lease);
        }
        Ok((leases, jobs))
    }

    /// Puts a recipient off that cannot be looked at, longer each time. Its time to live ends the attempts.
    async fn put_off(&self, lease: &ClimbLease, error: &PlanError) -> Result<(), PlanError> {
        let attempts = u32::try_from(lease.token).unwrap_or(u32::MAX).saturating_sub(1);
        let wait = backoff(
            self.config.retry_first.duration(),
            self.config.retry_longest.duration(),
            attempts,
        );
        metrics::counter!("carillon_ladder_postponed_total").increment(1);
        tracing::error!(
            error = error as &dyn Error,
            tenant = %lease.key.0,
            notification = %lease.key.1,
            attempt = lease.token,
            "a recipient could not climb; it is put off"
        );
        let until = self.clock.now().after(wait);
        Ok(self.store.postpone_climb(lease, until).await?)
    }
}
