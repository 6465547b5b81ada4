//! Broadcasts: notifications for topics' subscribers and segments, planned page by page.
//!
//! A page is as much as one transaction may hold. One that is written, and the next one that is read meanwhile, are all that
//! is kept in memory: the cursor behind a page is written with it. With each page the notification becomes due again, behind
//! what waits meanwhile; while nothing does, its planner goes on by itself. Who is out for being too new is fixed with the first page; whom an audience holds is asked at each.
//! What an audience holds that is small is planned at once, together with everything else.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    NotificationId, Target, TenantId, Timestamp, UserId,
    ports::{Audience, AudiencePage},
};

use crate::{
    audience::{plain_of, users_of},
    parts::parts,
    planner::{Handled, PlanError, Planner, answered, topics_of},
    store::{
        Lease, NotificationRow, PlanJob, PlanOutcome, PlanPart, StoredTarget,
        broadcasts::{BroadcastPage, BroadcastState, BroadcastStep},
    },
};

/// How many users of an audience are planned without pages of their own.
const SMALL: usize = 100;
/// How many pages are planned before everything else that waits gets its turn: of several broadcasts one each, of a single
/// one several, as long as nothing else is known to wait.
const TURN: usize = 8;
/// How often an audience is asked for a page that holds nobody, before that is written down.
const SCANS: usize = 32;
/// The most users of one page, whatever a transaction may hold.
const MAX_PAGE: usize = 5_000;

type Key = (TenantId, NotificationId);

/// Whom a notification's audiences hold.
pub(crate) enum Reach {
    /// All of them, as they were at the time.
    Small {
        users: Vec<UserId>,
        started_at: Timestamp,
    },
    /// So many that they are planned page by page.
    Pages(Progress),
}

/// How far a broadcast is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    started_at: Timestamp,
    /// Everybody up to this user is planned; nobody is when there is none.
    cursor: Option<UserId>,
}

/// The many whom a notification is for.
pub(crate) fn audiences_of(row: &NotificationRow) -> Vec<Audience> {
    let audience = |target: &StoredTarget| match target {
        StoredTarget::Known(Target::Topic(topic)) => Some(Audience::Topic(topic.clone())),
        StoredTarget::Known(Target::Segment(segment)) => Some(Audience::Segment(segment.clone())),
        _ => None,
    };
    row.targets.iter().filter_map(audience).collect()
}

/// Whether a notification's progress is told although nobody is in its audiences.
pub(crate) fn is_broadcast(row: &NotificationRow) -> bool {
    let segment = |target: &StoredTarget| matches!(target, StoredTarget::Known(Target::Segment(_)));
    row.targets.iter().any(segment)
}

impl Planner {
    /// Asks whom the audiences of those notifications hold that have any; `again` are those that may have begun.
    pub(crate) async fn reach(
        &self,
        rows: &[NotificationRow],
        again: &HashSet<NotificationId>,
    ) -> Result<HashMap<Key, Reach>, PlanError> {
        let mut reach = HashMap::new();
        let many: Vec<(&NotificationRow, Vec<Audience>)> = rows
            .iter()
            .map(|row| (row, audiences_of(row)))
            .filter(|(_, audiences)| !audiences.is_empty())
            .collect();
        if many.is_empty() {
            return Ok(reach);
        }
        let begun: Vec<Key> = many
            .iter()
            .filter(|(row, _)| again.contains(&row.id))
            .map(|(row, _)| (row.tenant.clone(), row.id))
            .collect();
        if !begun.is_empty() {
            for row in self.store.broadcasts(&begun).await? {
                if row.state == BroadcastState::Running {
                    let progress = Progress {
                        started_at: row.started_at,
                        cursor: row.cursor,
                    };
                    reach.insert((row.tenant, row.notification), Reach::Pages(progress));
                }
            }
        }
        // Many may go to the same topic.
        let mut asked: HashMap<(TenantId, Vec<Audience>), AudiencePage> = HashMap::new();
        let now = self.clock.now();
        for (row, audiences) in many {
            let key = (row.tenant.clone(), row.id);
            if reach.contains_key(&key) {
                continue;
            }
            let question = (row.tenant.clone(), audiences);
            if !asked.contains_key(&question) {
                let (tenant, audiences) = &question;
                let directory = &self.audience.directory;
                let page = directory.audience(tenant, audiences, None, now, SMALL).await?;
                asked.insert(question.clone(), page);
            }
            let own = match asked.get(&question) {
                Some(page) if page.next.is_none() => Reach::Small {
                    users: page.users.clone(),
                    started_at: now,
                },
                _ => Reach::Pages(Progress {
                    started_at: now,
                    cursor: None,
                }),
            };
            reach.insert(key, own);
        }
        Ok(reach)
    }

    /// Plans a page of some of the broadcasts that wait, tenant by tenant; the others come again, behind what waits.
    pub(crate) async fn turn(&self, waiting: Vec<(Progress, Handled)>) -> Result<(), PlanError> {
        if waiting.len() > 1 {
            // Those at the end must not be handed out again before their turn.
            let leases: Vec<Lease> = waiting.iter().map(|(_, (lease, _))| lease.clone()).collect();
            let until = self.clock.now().after(self.config.lease.duration());
            self.store.extend_outbox(&leases, until).await?;
        }
        let (now, later) = deal(waiting, TURN, |(_, (lease, _))| lease.tenant.clone());
        let most = if now.len() + later.len() > 1 { 1 } else { TURN };
        for (_, (_, handle)) in later {
            answered(handle.retry_in(Duration::ZERO).await);
        }
        let mut pages = now.into_iter();
        while let Some((progress, (mut lease, handle))) = pages.next() {
            let handed_out = lease.token;
            match self.pages(&mut lease, progress, most).await {
                Ok(()) => answered(handle.ack().await),
                Err(error) if error.is_away() => {
                    let mut rest: Vec<Handled> = pages.map(|(_, handled)| handled).collect();
                    if lease.token == handed_out {
                        rest.insert(0, (lease, handle));
                    } else {
                        // The queue knows the lease that it handed out alone.
                        self.postpone(&lease, handle, &error).await;
                    }
                    return self.give_back(rest, error).await;
                }
                Err(error) => self.postpone(&lease, handle, &error).await,
            }
        }
        Ok(())
    }

    /// Plans the next page of a broadcast; the first one has what else the notification is for. As long as nothing else
    /// waits, those behind it follow, up to `most`, each read while the one before it is written: they are leased by the
    /// commit before them, which `lease` follows.
    pub(crate) async fn pages(
        &self,
        lease: &mut Lease,
        mut progress: Progress,
        most: usize,
    ) -> Result<(), PlanError> {
        let key = (lease.tenant.clone(), lease.notification);
        let bytes = self.config.batch_bytes.as_usize();
        let loaded = self.store.load(std::slice::from_ref(&key), bytes).await?;
        let Some(row) = loaded.rows.into_iter().next() else {
            return Ok(());
        };
        let row = Arc::new(row);
        let mut read = self.read_page(lease, &row, progress).await?;
        let mut left = most;
        while let Some(mut job) = read.take() {
            left = left.saturating_sub(1);
            let next = match job.broadcast.map(|step| step.page) {
                Some(BroadcastPage::Through(user)) if left > 0 && self.handover.is_idle() => Some(user),
                _ => None,
            };
            job.lease.token = lease.token;
            if let Some(step) = &mut job.broadcast {
                step.held = next.map(|_| self.clock.now().after(self.config.lease.duration()));
            }
            let follow = async {
                match next {
                    Some(_) => {
                        progress.cursor = next;
                        self.read_page(lease, &row, progress).await
                    }
                    None => Ok(None),
                }
            };
            let (goes_on, following) = tokio::join!(self.write_page(job), follow);
            if !goes_on? {
                // It ended, or somebody else has it.
                return Ok(());
            }
            metrics::counter!("carillon_dispatcher_broadcast_pages_total").increment(1);
            if next.is_some() {
                lease.token += 1;
                read = following?;
            }
        }
        self.handover.leave();
        self.relay.wake();
        Ok(())
    }

    /// Whether there is more of it to plan behind this page.
    async fn write_page(&self, job: PlanJob) -> Result<bool, PlanError> {
        for part in parts(job, &self.config) {
            if self.write_together(&[part]).await? != [PlanOutcome::Partly] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Who gets the next page, and what.
    async fn read_page(
        &self,
        lease: &Lease,
        row: &Arc<NotificationRow>,
        progress: Progress,
    ) -> Result<Option<PlanJob>, PlanError> {
        let found = self.next_page(row, progress).await?;
        let (mut users, mut plain, mut topics) = (Vec::new(), Vec::new(), Vec::new());
        if progress.cursor.is_none() {
            let resolved = self.resolve(std::slice::from_ref(&**row)).await?;
            users = users_of(row, &resolved);
            plain = plain_of(row);
            topics = topics_of(row, &self.live_only);
        }
        let named: HashSet<UserId> = users.iter().copied().collect();
        users.extend(found.users.into_iter().filter(|user| !named.contains(user)));
        let reached = [(&**row, users)];
        let around = self.audience.around(&reached).await?;
        let [(_, users)] = reached;
        let goes_on = found.next.is_some();
        let Some(plan) = around.plan(row).cloned() else {
            return Ok(None);
        };
        let (critical, policies) = (around.is_critical(row), around.policies(row));
        let users = if row.template.is_some() {
            // Templates render on a thread of their own: nobody who answers requests waits for them.
            let row = Arc::clone(row);
            let work = tokio::task::spawn_blocking(move || around.addressees(&row, &users, &plain));
            work.await.map_err(PlanError::Rendering)?
        } else {
            around.addressees(row, &users, &plain)
        };
        Ok(Some(PlanJob {
            lease: lease.clone(),
            plan,
            critical,
            policies,
            users,
            notification: Arc::clone(row),
            topics,
            part: if goes_on { PlanPart::More } else { PlanPart::Last },
            broadcast: Some(BroadcastStep {
                started_at: progress.started_at,
                page: found.next.map_or(BroadcastPage::Last, BroadcastPage::Through),
                held: None,
            }),
        }))
    }

    /// Nobody once its time to live is over: then this is the last page.
    async fn next_page(&self, row: &NotificationRow, progress: Progress) -> Result<AudiencePage, PlanError> {
        let mut page = AudiencePage {
            users: Vec::new(),
            next: progress.cursor,
        };
        if row.expires_at <= self.clock.now() {
            page.next = None;
            return Ok(page);
        }
        let audiences = audiences_of(row);
        let limit = self.config.batch_recipients.min(MAX_PAGE);
        for _ in 0..SCANS {
            page = self
                .audience
                .directory
                .audience(&row.tenant, &audiences, page.next, progress.started_at, limit)
                .await?;
            if !page.users.is_empty() || page.next.is_none() {
                break;
            }
        }
        Ok(page)
    }
}

/// Up to `most`, one of each tenant after the other, and the rest; each tenant's in their order.
fn deal<T>(items: Vec<T>, most: usize, tenant: impl Fn(&T) -> TenantId) -> (Vec<T>, Vec<T>) {
    let mut tenants: Vec<(TenantId, VecDeque<T>)> = Vec::new();
    for item in items {
        let of = tenant(&item);
        match tenants.iter_mut().find(|(known, _)| *known == of) {
            Some((_, queue)) => queue.push_back(item),
            None => tenants.push((of, VecDeque::from([item]))),
        }
    }
    let mut dealt = Vec::new();
    while dealt.len() < most {
        let before = dealt.len();
        for (_, queue) in &mut tenants {
            if dealt.len() < most {
                dealt.extend(queue.pop_front());
            }
        }
        if dealt.len() == before {
            break;
        }
    }
    let rest = tenants.into_iter().flat_map(|(_, queue)| queue).collect();
    (dealt, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_come_in_turn_and_keep_their_order() {
        let items = ["a1", "a2", "a3", "b1", "c1", "b2"];
        let tenant = |item: &&str| item[..1].parse().expect("a tenant");
        let (now, later) = deal(items.to_vec(), 4, tenant);
        assert_eq!((now, later), (vec!["a1", "b1", "c1", "a2"], vec!["a3", "b2"]));
        let (now, later) = deal(items.to_vec(), 9, tenant);
        assert_eq!((now.len(), later.len()), (6, 0));
    }
}
