//! What a dispatcher's workers do, cut where a process may die: between a lease, what is read, and the commit.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{
    AckKind, DeliveryId, Fault, Outcome, Timestamp, UserId,
    ports::{Answer, Operation, Report},
};

use super::{
    laws::{self, Cause},
    picture::Key,
    script::{MILLISECOND, SECOND},
    stage::Stage,
    world::{Event, Lawful, Worker, World, letter},
};
use crate::{
    deliverer::{
        engine::answer,
        retry::{self, Next},
        settlement::{BEGIN, Said, settlement},
    },
    ladder::Looked,
    store::{
        Lease, PlanJob, PlanOutcome,
        ladder::ClimbLease,
        outside::{Brings, LanePick, LeasedDelivery, Verdict},
    },
};

/// How long a step of work takes at the most.
const STEP: u64 = 60 * MILLISECOND;

/// Who was active when it was read, until when.
type Active = HashMap<UserId, Timestamp>;

/// Who is active still, as far as it was read.
fn there(active: &Active, now: Timestamp) -> HashSet<UserId> {
    let still = active.iter().filter(|(_, until)| **until > now);
    still.map(|(user, _)| *user).collect()
}

/// Work that was begun.
pub(super) enum Work {
    ReadPlan(Vec<Lease>),
    /// What is written one transaction after the other, with who was active when it was read.
    WritePlan(Vec<Vec<PlanJob>>, Active),
    ReadClimb(Vec<ClimbLease>),
    WriteClimb(Looked, Active),
    /// The first byte goes out now, of an attempt that was committed then.
    Send(Arc<LeasedDelivery>, u64),
    /// What the recipient said to it at once goes to his mailbox.
    Hear(Arc<LeasedDelivery>, Said),
    Settle(Arc<LeasedDelivery>, Said),
}

impl Work {
    /// Whether it is on its way to the database, where it may arrive after its process is gone.
    pub(super) fn may_haunt(&self) -> bool {
        matches!(
            self,
            Self::WritePlan(..) | Self::WriteClimb(..) | Self::Settle(..)
        )
    }
}

/// What failed, in words.
pub(super) fn failed(error: impl std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
}

impl World<'_> {
    /// A worker looks for what is due.
    pub(super) async fn look(&mut self, node: usize, worker: Worker) -> Lawful {
        if !self.nodes[node].up {
            return Ok(());
        }
        // Somebody else was first, or the node stands still: then it is planned anew.
        let due = self.due(worker).is_some_and(|due| due <= self.wall(node));
        if !due || self.nodes[node].paused_until > self.now {
            return Ok(());
        }
        match worker {
            Worker::Relay => self.relay(node).await,
            Worker::Ladder => self.lease_climbs(node).await,
            Worker::Closer => {
                let now = self.now_of(node);
                self.tell(format!("{} ends what is too late", letter(node)));
                let store = Arc::clone(self.stage.store());
                store.close_late(now, 2).await.map_err(failed)?;
                self.observe(&Cause::Time).await
            }
            Worker::Deliverer => self.hand_out(node).await,
            Worker::Expirer => {
                let now = self.now_of(node);
                let store = Arc::clone(self.stage.store());
                let ended = store.expire_deliveries(now, 100).await.map_err(failed)?;
                self.tell(format!("{} expires {} deliveries", letter(node), ended.len()));
                self.observe(&Cause::Time).await
            }
            Worker::Withdrawer => {
                self.tell(format!("{} withdraws", letter(node)));
                let more = self.stage.nodes[node].withdrawer.turn().await;
                more.map_err(failed)?;
                self.observe(&Cause::Time).await
            }
        }
    }

    /// Work that was begun goes on.
    pub(super) async fn go_on(&mut self, node: usize, life: u32, work: Work) -> Lawful {
        let stage = self.stage;
        let actor = &stage.nodes[node];
        match work {
            Work::ReadPlan(leases) => {
                let prepared = actor.planner.prepare(leases.iter()).await.map_err(failed)?;
                let active = stage.people.active();
                let mut jobs = Vec::new();
                for lease in &leases {
                    let job = prepared.worked_out(lease, &actor.live_only).await;
                    jobs.extend(job.map_err(failed)?);
                }
                let parts = match jobs.len() {
                    0 => return Ok(()),
                    1 => jobs
                        .into_iter()
                        .flat_map(|job| crate::parts::parts(job, &actor.planner.config))
                        .map(|part| vec![part])
                        .rev()
                        .collect(),
                    _ => vec![jobs],
                };
                self.soon(node, life, STEP, Work::WritePlan(parts, active));
                Ok(())
            }
            Work::WritePlan(mut parts, active) => {
                let Some(jobs) = parts.pop() else { return Ok(()) };
                self.tell(format!("{} plans {}", letter(node), self.names(&jobs)));
                let outcomes = actor.planner.write_together(&jobs).await.map_err(failed)?;
                self.tell(format!("    {outcomes:?}"));
                for (job, outcome) in jobs.iter().zip(&outcomes) {
                    let lease = self.before.outbox.get(&job.lease.notification);
                    let lost = lease != Some(&job.lease.token);
                    self.figures.fenced += u64::from(lost);
                    if lost && *outcome != PlanOutcome::Stale {
                        return Err("it was planned under a lease that somebody else has".to_owned());
                    }
                }
                let there = there(&active, self.now_of(node));
                self.observe(&Cause::Plan(there)).await?;
                if !parts.is_empty() {
                    let takes = self.dice.pick(&[STEP, STEP, 20 * SECOND]);
                    self.soon(node, life, takes, Work::WritePlan(parts, active));
                }
                Ok(())
            }
            Work::ReadClimb(leases) => {
                let looked = actor.ladder.look(&leases).await.map_err(failed)?;
                let active = stage.people.active();
                if let Some(looked) = looked {
                    self.soon(node, life, STEP, Work::WriteClimb(looked, active));
                    return Ok(());
                }
                self.observe(&Cause::Time).await
            }
            Work::WriteClimb(looked, active) => {
                self.tell(format!("{} climbs", letter(node)));
                // Those whose lease somebody else has by now, or nobody.
                let lost = looked.leases().iter().filter(|lease| {
                    let now = self.before.climbs.get(&(lease.key.1, lease.key.2));
                    now.is_none_or(|(_, token)| *token != lease.token)
                });
                let lost: HashSet<Key> = lost.map(|lease| (lease.key.1, lease.key.2)).collect();
                self.figures.fenced += lost.len() as u64;
                actor.ladder.commit(looked).await.map_err(failed)?;
                let wall = self.wall(node);
                let there = there(&active, self.now_of(node));
                self.observe(&Cause::Climb { there, wall, lost }).await
            }
            Work::Send(delivery, committed) => {
                // As the deliverer's `attempt`, by this clock.
                let begins = self.now - committed < BEGIN.as_micros() as u64;
                let said = match begins {
                    true => self.far_end(&delivery),
                    false => Said::not_begun(),
                };
                let outcome = said.report.outcome.as_str();
                let line = format!("{} sent {}: {outcome}", letter(node), self.delivery(&delivery));
                self.tell(line);
                let takes = if self.dice.chance(85) { STEP } else { 4 * SECOND };
                let next = match said.report.acknowledged {
                    Some(_) => Work::Hear(delivery, said),
                    None => Work::Settle(delivery, said),
                };
                self.soon(node, life, takes, next);
                Ok(())
            }
            Work::Hear(delivery, said) => {
                let answer = answer(&delivery, said.report.acknowledged.as_ref());
                let line = format!("{} hears an answer to {}", letter(node), self.delivery(&delivery));
                self.tell(line);
                let mailboxes = &actor.dispatcher.mailboxes;
                let heard = mailboxes.heard(answer.as_slice()).await;
                heard.map_err(failed)?;
                self.observe(&Cause::Answer(None)).await?;
                self.soon(node, life, STEP, Work::Settle(delivery, said));
                Ok(())
            }
            Work::Settle(delivery, said) => self.settle(node, &delivery, said).await,
        }
    }

    async fn relay(&mut self, node: usize) -> Lawful {
        let actor = &self.stage.nodes[node];
        let (now, limit) = (self.now_of(node), self.dice.pick(&[1, 2, 100]));
        let until = now.after(actor.planner.config.lease.duration());
        let store = Arc::clone(self.stage.store());
        let leases = store.lease_outbox(now, limit, until).await.map_err(failed)?;
        if !leases.is_empty() {
            self.tell(format!("{} leases {} notifications", letter(node), leases.len()));
            let life = self.nodes[node].life;
            self.soon(node, life, STEP, Work::ReadPlan(leases));
        }
        self.observe(&Cause::Time).await
    }

    async fn lease_climbs(&mut self, node: usize) -> Lawful {
        let actor = &self.stage.nodes[node];
        let (now, limit) = (self.now_of(node), self.dice.pick(&[2, 100]));
        let until = now.after(actor.ladder.config.lease.duration());
        let store = Arc::clone(self.stage.store());
        let leases = store.lease_climbs(now, limit, until).await.map_err(failed)?;
        if !leases.is_empty() {
            let life = self.nodes[node].life;
            let mut names = Vec::new();
            for lease in &leases {
                let key = (lease.key.1, lease.key.2);
                if self.climber_is_gone(&key) {
                    self.lost.insert(key, self.now);
                }
                self.climbers.insert(key, (node, life, self.now));
                names.push(self.called(&key));
            }
            names.sort();
            self.tell(format!("{} leases {}", letter(node), names.join(" ")));
            self.soon(node, life, STEP, Work::ReadClimb(leases));
        }
        self.observe(&Cause::Time).await
    }

    async fn hand_out(&mut self, node: usize) -> Lawful {
        let now = self.now_of(node);
        let store = Arc::clone(self.stage.store());
        let lanes = store
            .due_lanes(now, &Stage::kinds(), 1_024)
            .await
            .map_err(failed)?;
        let picks: Vec<LanePick> = lanes
            .into_iter()
            .map(|lane| LanePick {
                key: lane.key,
                limit: 100,
            })
            .collect();
        // As the deliverer: its channels' patience and a margin.
        let until = now.after(std::time::Duration::from_secs(41));
        let again = now.after(std::time::Duration::from_secs(2));
        let handed = store
            .lease_deliveries(now, &picks, until, again)
            .await
            .map_err(failed)?;
        let mut leased: Vec<(String, LeasedDelivery)> = handed
            .leased
            .into_iter()
            .map(|delivery| (self.delivery(&delivery), delivery))
            .collect();
        leased.sort_by(|one, other| one.0.cmp(&other.0));
        let life = self.nodes[node].life;
        for (name, delivery) in leased {
            self.tell(format!("{} begins {name}", letter(node)));
            laws::attempted(self, now, until, &delivery)?;
            let delivery = Arc::new(delivery);
            // Some are slow to begin: those are not sent, and handed out anew.
            let takes = if self.dice.chance(95) { STEP } else { 2 * SECOND };
            let at = self.now + self.dice.between(MILLISECOND, takes);
            self.at(at, Event::Work(node, life, Work::Send(delivery, self.now)));
        }
        self.observe(&Cause::Time).await
    }

    /// What the far end says, at random.
    fn far_end(&mut self, delivery: &LeasedDelivery) -> Said {
        let provider_id = Some(delivery.id.to_string());
        let reason = "at random".to_owned();
        let outcome = match self.dice.below(20) {
            0..8 => Outcome::Delivered { provider_id },
            8..12 => Outcome::Accepted { provider_id },
            12..16 => Outcome::Retry {
                after: None,
                reason,
                fault: Fault::Address,
            },
            16 | 17 => Outcome::Rejected { reason },
            18 => Outcome::Gone { reason },
            _ => Outcome::Skipped { reason },
        };
        let mut report = Report::new(outcome);
        let arrived = matches!(report.outcome, Outcome::Delivered { .. });
        if arrived && delivery.operation != Operation::Recall && self.dice.chance(8) {
            report.acknowledged = Some(Answer {
                kind: self
                    .dice
                    .pick(&[AckKind::Read, AckKind::Dismissed, AckKind::Acted]),
                action: None,
            });
        }
        Said::sent(report)
    }

    async fn settle(&mut self, node: usize, delivery: &Arc<LeasedDelivery>, said: Said) -> Lawful {
        let actor = &self.stage.nodes[node].dispatcher;
        let (now, retry) = (self.now_of(node), &actor.config.delivery.retry);
        let recalls = delivery.key.channel.as_str() == super::stage::CHANNELS[0];
        let again = matches!(said.report.outcome, Outcome::Retry { .. });
        let mut settled = settlement(retry, now, delivery, said, recalls);
        if again && matches!(settled.verdict, Verdict::Again(_) | Verdict::Dead) {
            // The same wait in every play of the seed.
            let (expires, token) = (delivery.expires_at, delivery.token);
            settled.verdict = match retry::next(retry, now, expires, token, None, self.dice.unit()) {
                Next::At(at) => Verdict::Again(at),
                Next::Dead => Verdict::Dead,
            };
        }
        let arrives = matches!(settled.verdict, Verdict::Done { .. });
        let store = Arc::clone(self.stage.store());
        let what = store.settle(now, &[settled]).await.map_err(failed)?;
        let last = self.attempts.get(&delivery.id);
        if what.stale == 0 && last.is_some_and(|(number, _)| *number > delivery.number()) {
            let name = self.delivery(delivery);
            return Err(format!("{name} is settled, and a later attempt was begun"));
        }
        let word = if what.stale == 0 {
            "settles"
        } else {
            "is too late with"
        };
        self.tell(format!("{} {word} {}", letter(node), self.delivery(delivery)));
        self.figures.fenced += what.stale;
        if self
            .attempts
            .get(&delivery.id)
            .is_some_and(|(number, _)| *number == delivery.number())
        {
            self.attempts.remove(&delivery.id);
        }
        if arrives && what.stale == 0 && delivery.operation != Operation::Recall {
            self.arrives(delivery.id, delivery)?;
        }
        self.observe(&Cause::Time).await
    }

    fn arrives(&mut self, id: DeliveryId, delivery: &LeasedDelivery) -> Lawful {
        if self.arrived.insert(id) {
            return Ok(());
        }
        Err(format!("{} arrived twice", self.delivery(delivery)))
    }

    /// A delivery as people call it.
    pub(super) fn delivery(&self, delivery: &LeasedDelivery) -> String {
        let whose = match (delivery.brings, delivery.user) {
            (Brings::Notification(note), Some(user)) => self.called(&(note, user)),
            _ => "?".to_owned(),
        };
        let (operation, number) = (delivery.operation, delivery.number());
        format!("{whose} {} {operation:?} {number}", delivery.address)
    }

    fn names(&self, jobs: &[PlanJob]) -> String {
        let name = |job: &PlanJob| {
            let known = self.script.notes.iter();
            let mut found = known.filter(|note| note.new.id == job.notification.id);
            let name = found.next().map_or("?", |note| note.name.as_str());
            format!("{name} for {}", job.users.len())
        };
        jobs.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn now_of(&self, node: usize) -> Timestamp {
        Timestamp::from_micros(self.wall(node))
    }
}
