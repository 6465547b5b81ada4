//! Handing out: due lanes, picked as for every channel, to the worker that asks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use carillon_domain::{ChannelKind, Timestamp, ports::Work};
use carillon_runtime::http::Served;
use tokio::time::Instant;

use super::{Holder, Remote, RemoteError, holdings::Held, tenant_of};
use crate::{
    deliverer::{
        engine::{due_of, key_of},
        schedule::{Parked, Pick},
        settlement::{after_ends, ours_to_retry, refused, settlement},
    },
    store::outside::{LaneKey, LanePick, LeasedDelivery, ParkedLane, RemoteChannelRow},
};

/// Lanes that one look takes in.
const LOOK: usize = 256;
/// How long to wait where something is due and nothing could be picked.
const BREATH: Duration = Duration::from_millis(100);
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
struct Look {
    handed: Vec<Handing>,
    /// When there may be more, if nothing is said before.
    next: Option<Timestamp>,
}

impl Remote {
    /// Up to `limit` deliveries; waits for the first one for at most `wait`.
    pub(crate) async fn pull(
        &self,
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
            let look = self.look(served, kind, holder, limit).await?;
            let now = Instant::now();
            if !look.handed.is_empty() || now >= deadline || closing.is_cancelled() {
                return Ok(look.handed);
            }
            let pause = self.pause(look.next).min(deadline - now);
            tokio::select! {
                _ = heard.changed() => {}
                () = tokio::time::sleep(pause) => {}
                () = closing.cancelled() => {}
            }
        }
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
        let now = self.clock.now();
        let room = {
            let mut holdings = self.holdings.lock();
            holdings.sweep(now);
            holdings.room(holder, self.config.in_flight, limit)
        };
        if room == 0 {
            return Ok(Look {
                handed: Vec::new(),
                next: None,
            });
        }
        let kinds = std::slice::from_ref(kind);
        let mut lanes = match served {
            Served::All => self.store.due_lanes(now, kinds, LOOK).await?,
            Served::Tenant(tenant) => self.store.lanes_of(tenant, kind, LOOK).await?,
        };
        let mut next = lanes.first().map(|lane| lane.due_at);
        lanes.retain(|lane| lane.due_at <= now);
        if lanes.is_empty() {
            if *served == Served::All {
                next = self.store.next_lane_due(kinds).await?;
            }
            return Ok(Look {
                handed: Vec::new(),
                next,
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
        let handed = if round.picks.is_empty() {
            Vec::new()
        } else {
            self.lease(served, holder, now, round.picks).await?
        };
        if !parks.is_empty() {
            self.store.park(&parks).await?;
        }
        Ok(Look { handed, next })
    }

    /// Leases what was picked. Each delivery that comes out counts against its holder until its end.
    async fn lease(
        &self,
        served: &Served,
        holder: Holder,
        now: Timestamp,
        picks: Vec<Pick>,
    ) -> Result<Vec<Handing>, RemoteError> {
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
        self.composed(deliveries, until).await
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
        let read = read.await;
        let mut handings = Vec::with_capacity(deliveries.len());
        let mut failed = Vec::new();
        for delivery in deliveries {
            let report = match &read {
                Ok(parts) => match self.composer.work(&delivery, parts) {
                    Ok(work) => {
                        handings.push(Handing {
                            work,
                            number: delivery.number(),
                            until,
                        });
                        continue;
                    }
                    Err(error) => refused(&error),
                },
                Err(_) => ours_to_retry("its content could not be read"),
            };
            let outcome = report.outcome.clone();
            failed.push((settlement(&self.delivery.retry, now, &delivery, report), outcome));
        }
        if !failed.is_empty() {
            self.settle(failed).await?;
        }
        Ok(handings)
    }
}
