//! Handing out: due lanes, picked as for every channel, to the worker that asks.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use carillon_domain::{
    ChannelKind, TenantId, Timestamp,
    ports::{Operation, Work},
};
use carillon_runtime::http::Served;
use tokio::{sync::oneshot, time::Instant};

use super::{Holder, Remote, RemoteError, holdings::Held, tenant_of};
use crate::{
    deliverer::{
        breaker::Verdict as Health,
        engine::{due_of, key_of},
        schedule::{Parked, Pick},
        settlement::{BEGIN, Said, after_ends, ours_to_retry, settlement, unsent},
    },
    store::outside::{LaneKey, LanePick, LeasedDelivery, ParkedLane, RemoteChannelRow},
};

/// Lanes that one look takes in.
const LOOK: usize = 256;
/// How long to wait where something is due and nothing could be picked.
const BREATH: Duration = Duration::from_millis(100);
/// A look follows the last one no sooner than this, and up to twice as late: wake-ups are for everybody, and those who
/// wait do not read the store together.
const APART: Duration = Duration::from_millis(50);
/// How often it is written down that a worker is there.
const SEEN: Duration = Duration::from_secs(30);

/// One delivery for a worker.
#[derive(Debug)]
pub(crate) struct Handing {
    /// What the attempt is to send.
    pub(crate) work: Work,
    /// The attempt's number.
    pub(crate) number: u32,
    /// When the lease ends.
    pub(crate) until: Timestamp,
}

/// What one look found.
#[derive(Default)]
struct Look {
    handed: Vec<Handing>,
    /// The leases of what was handed out.
    leased: Vec<Arc<LeasedDelivery>>,
    /// When their attempts were committed: the answer must follow soon.
    committed: Option<Instant>,
    /// The same, until somebody takes it.
    unclaimed: Option<Unclaimed>,
    /// When there may be more, if nothing is said before.
    next: Option<Timestamp>,
}

/// Work, its leases, and when their attempts were committed.
type Leased = (Vec<Handing>, Vec<Arc<LeasedDelivery>>, Option<Instant>);

/// Leases that nobody has taken yet: dropped, they are given back.
struct Unclaimed {
    remote: Arc<Remote>,
    leased: Vec<Arc<LeasedDelivery>>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let (remote, leased) = (Arc::clone(&self.remote), std::mem::take(&mut self.leased));
        if leased.is_empty() {
            return;
        }
        // Without a runtime the process ends, and the leases with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remote.give_back(leased).await });
        }
    }
}

impl Remote {
    /// Up to `limit` deliveries; waits for the first one for at most `wait`. Whoever hangs up meanwhile has nothing,
    /// and neither has one whose key was revoked.
    pub(crate) async fn pull(
        self: &Arc<Self>,
        served: &Served,
        kind: &ChannelKind,
        holder: Holder,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Handing>, RemoteError> {
        let deadline = Instant::now() + wait;
        let closing = self.closing();
        let mut heard = self.wake.listen();
        loop {
            heard.borrow_and_update();
            let mut look = self.looked(served, kind, holder, limit).await?;
            // Dropped without being claimed, the work is given back.
            if !look.handed.is_empty() && !self.stands(served, holder.key).await {
                return Err(RemoteError::Revoked);
            }
            let now = Instant::now();
            // What was not answered in time is given back, and looked for anew.
            let late = look.committed.is_some_and(|at| at.elapsed() >= BEGIN);
            if late {
                continue;
            }
            if !look.handed.is_empty() || now >= deadline || closing.is_cancelled() {
                if let Some(unclaimed) = &mut look.unclaimed {
                    unclaimed.leased.clear();
                }
                return Ok(look.handed);
            }
            let pause = self.pause(look.next).min(deadline - now);
            tokio::select! {
                _ = heard.changed() => {
                    let apart = APART + APART.mul_f64(rand::random());
                    tokio::time::sleep_until((now + apart).min(deadline)).await;
                }
                () = tokio::time::sleep(pause) => {}
                () = closing.cancelled() => {}
            }
        }
    }

    /// A look that comes to its end whether the worker stays or not: slots and leases are never left behind. What nobody
    /// takes is given back.
    async fn looked(
        self: &Arc<Self>,
        served: &Served,
        kind: &ChannelKind,
        holder: Holder,
        limit: usize,
    ) -> Result<Look, RemoteError> {
        let (sender, receiver) = oneshot::channel();
        let (remote, served, kind) = (Arc::clone(self), served.clone(), kind.clone());
        tokio::spawn(async move {
            let looked = remote.look(&served, &kind, holder, limit).await.map(|mut look| {
                let leased = std::mem::take(&mut look.leased);
                look.unclaimed = Some(Unclaimed { remote, leased });
                look
            });
            // Where nobody listens any more, or does not listen to its end, it is given back.
            let _ = sender.send(looked);
        });
        // Dropped before it answers only while the process ends.
        receiver.await.unwrap_or_else(|_| Ok(Look::default()))
    }

    /// Ends leases whose worker has gone before he got them: they are due at once.
    async fn give_back(&self, leased: Vec<Arc<LeasedDelivery>>) {
        if leased.is_empty() {
            return;
        }
        let now = self.clock.now();
        let unsent = |delivery| {
            let settlement = settlement(&self.delivery.retry, now, delivery, Said::not_begun(), false);
            (settlement, Health::Unknown)
        };
        if let Err(error) = self.settle(leased.iter().map(unsent).collect()).await {
            // They come back when their leases end.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "work that nobody took could not be given back"
            );
            let mut holdings = self.holdings.lock();
            for delivery in &leased {
                let key = (delivery.key.tenant.clone(), delivery.id);
                holdings.end(&key, delivery.number(), Health::Unknown, now);
            }
        }
        self.wake.tell();
    }

    /// A number for a stream that begins.
    pub(crate) fn new_stream(&self) -> u64 {
        self.holdings.lock().stream()
    }

    /// Writes down now and then that a worker of the channel is there.
    pub(crate) async fn seen(&self, announced: &mut RemoteChannelRow) -> Result<(), RemoteError> {
        let now = self.clock.now();
        if announced
            .seen_at
            .is_none_or(|seen| now < seen || now.since(seen) >= SEEN)
        {
            let tenant = announced.tenant.as_ref();
            self.store.channel_seen(tenant, &announced.kind, now).await?;
            announced.seen_at = Some(now);
        }
        Ok(())
    }

    fn pause(&self, next: Option<Timestamp>) -> Duration {
        let poll = self.delivery.poll.duration();
        next.map_or(poll, |next| {
            next.since(self.clock.now()).max(BREATH.min(poll)).min(poll)
        })
    }

    async fn look(
        &self,
        served: &Served,
        kind: &ChannelKind,
        holder: Holder,
        limit: usize,
    ) -> Result<Look, RemoteError> {
        #[cfg(test)]
        self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let now = self.clock.now();
        let room = {
            let mut holdings = self.holdings.lock();
            holdings.sweep(now);
            holdings.room(holder, self.config.in_flight, limit)
        };
        if room == 0 {
            return Ok(Look::default());
        }
        let kinds = std::slice::from_ref(kind);
        let mut lanes = match served {
            Served::All => self.store.due_lanes(now, kinds, LOOK).await?,
            Served::Tenant(tenant) => self.store.lanes_of(tenant, kind, LOOK).await?,
        };
        let mut next = lanes.first().map(|lane| lane.due_at);
        lanes.retain(|lane| lane.due_at <= now);
        if *served == Served::All && !lanes.is_empty() {
            // Whoever brings the channel himself shows nobody else what he sends.
            let own: HashSet<TenantId> = self.store.announcers(kind).await?.into_iter().collect();
            lanes.retain(|lane| !own.contains(&lane.key.tenant));
        }
        if lanes.is_empty() {
            if *served == Served::All {
                next = self.store.next_lane_due(kinds).await?;
            }
            return Ok(Look {
                next,
                ..Look::default()
            });
        }
        let lease = self.config.lease.duration();
        let round = self.holdings.lock().schedule(tenant_of(served)).round_of(
            now,
            lanes.iter().map(|lane| due_of(&lane.key)),
            |_| lease,
            room,
        );
        // A full lane stays due: whoever ends an attempt wakes those who wait.
        let parks: Vec<_> = round
            .parks
            .iter()
            .filter(|park| park.reason == Parked::Breaker)
            .map(|park| ParkedLane {
                key: key_of(&park.due),
                until: park.until,
            })
            .collect();
        let (handed, leased, committed) = if round.picks.is_empty() {
            Default::default()
        } else {
            self.lease(served, holder, now, round.picks).await?
        };
        // What was leased goes out, whatever becomes of the others.
        if !parks.is_empty()
            && let Err(error) = self.store.park(&parks).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "lanes could not be put off"
            );
        }
        Ok(Look {
            handed,
            leased,
            committed,
            unclaimed: None,
            next,
        })
    }

    /// Leases what was picked. Each delivery that comes out counts against its holder until its end.
    async fn lease(
        &self,
        served: &Served,
        holder: Holder,
        now: Timestamp,
        picks: Vec<Pick>,
    ) -> Result<Leased, RemoteError> {
        let until = now.after(self.config.lease.duration());
        let wanted: Vec<LanePick> = picks
            .iter()
            .map(|pick| LanePick {
                key: key_of(&pick.due),
                limit: u32::try_from(pick.take).unwrap_or(u32::MAX),
            })
            .collect();
        // What is left of a lane stays due, for whoever looks next.
        let leased = self.store.lease_deliveries(now, &wanted, until, now).await;
        let committed = Some(Instant::now());
        let tenant = tenant_of(served);
        let handed = match leased {
            Ok(handed) => handed,
            Err(error) => {
                let mut holdings = self.holdings.lock();
                for pick in &picks {
                    holdings.schedule(tenant).unused(pick, pick.take, now);
                }
                return Err(error.into());
            }
        };
        let mut deliveries = Vec::with_capacity(handed.leased.len());
        {
            let mut slots: HashMap<LaneKey, (usize, Pick)> = picks
                .into_iter()
                .map(|pick| (key_of(&pick.due), (pick.take, pick)))
                .collect();
            let mut holdings = self.holdings.lock();
            for delivery in handed.leased {
                let Some((left, pick)) = slots.get_mut(&delivery.key) else {
                    continue;
                };
                *left = left.saturating_sub(1);
                let held = Held {
                    number: delivery.number(),
                    served: tenant.cloned(),
                    due: pick.due.clone(),
                    pass: pick.pass,
                    until,
                    holder,
                };
                holdings.hold((delivery.key.tenant.clone(), delivery.id), held, now);
                deliveries.push(Arc::new(delivery));
            }
            for (left, pick) in slots.values() {
                holdings.schedule(tenant).unused(pick, *left, now);
            }
        }
        after_ends(&*self.directory, &handed.ended).await;
        let composed = self.composed(deliveries.clone(), until).await;
        let Ok(mut composed) = composed else {
            self.give_back(deliveries).await;
            return Ok(Default::default());
        };
        if composed
            .iter()
            .any(|one| one.work.operation == Operation::Replace)
            && let Some(kind) = deliveries.first().map(|delivery| &delivery.key.channel)
            && !self
                .announced(served, kind)
                .await
                .is_ok_and(|row| row.capabilities.replace)
        {
            // It was announced anew since it was planned.
            for Handing { work, .. } in &mut composed {
                if work.operation == Operation::Replace {
                    (work.operation, work.provider_id) = (Operation::Deliver, None);
                }
            }
        }
        Ok((composed, deliveries, committed))
    }

    /// The work of leased deliveries. What no work can be made of is answered here.
    async fn composed(
        &self,
        deliveries: Vec<Arc<LeasedDelivery>>,
        until: Timestamp,
    ) -> Result<Vec<Handing>, RemoteError> {
        let now = self.clock.now();
        let read = async {
            let sources = self.store.load_work(now, &deliveries).await?;
            self.composer.parts(&deliveries, sources).await
        };
        let parts = match read.await {
            Ok(parts) => Some(Arc::new(parts)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the content of deliveries could not be read"
                );
                None
            }
        };
        let mut handings = Vec::with_capacity(deliveries.len());
        let mut failed = Vec::new();
        for delivery in deliveries {
            let said = match &parts {
                Some(parts) => {
                    let made = self.composer.made(Arc::clone(&delivery), Arc::clone(parts));
                    match made.await {
                        Ok(work) => {
                            handings.push(Handing {
                                work,
                                number: delivery.number(),
                                until,
                            });
                            continue;
                        }
                        Err(error) => unsent(&error),
                    }
                }
                None => ours_to_retry("its content could not be read"),
            };
            let health = said.health();
            failed.push((
                settlement(&self.delivery.retry, now, &delivery, said, false),
                health,
            ));
        }
        if !failed.is_empty() {
            self.settle(failed).await?;
        }
        Ok(handings)
    }
}
