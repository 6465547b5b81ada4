//! What workers say of their attempts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use carillon_domain::{
    ChannelKind, DeliveryId, Outcome, TenantId, Timestamp,
    ports::{Operation, Report},
};

use super::{Remote, RemoteError};
use carillon_runtime::http::Served;

use crate::{
    deliverer::{
        breaker::Verdict as Health,
        settlement::{Said, after_ends, settlement},
    },
    store::outside::{LeaseKey, LeasedDelivery, Settlement},
};

/// What a worker says of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) lease: LeaseKey,
    /// As the port has it; an end of a recall is `Delivered`.
    pub(crate) report: Report,
    /// Whether the worker spoke of a recall.
    pub(crate) recalled: bool,
}

/// Why an answer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another attempt was begun, or this one was answered, or the delivery ended.
    Stale,
    /// A recall was asked for and a delivery answered, or the other way round.
    OtherOperation,
}

impl Remote {
    /// Writes answers down, and what follows. Answers one per item.
    pub(crate) async fn answer(
        &self,
        served: &Served,
        kind: &ChannelKind,
        answers: Vec<Answer>,
    ) -> Result<Vec<Result<(), Refusal>>, RemoteError> {
        let leases: Vec<LeaseKey> = answers.iter().map(|answer| answer.lease.clone()).collect();
        let mut held = self.leases(kind, &leases).await?;
        let can_recall = self
            .announced(served, kind)
            .await
            .is_ok_and(|row| row.capabilities.recall);
        let now = self.clock.now();
        let mut results = Vec::with_capacity(answers.len());
        let mut said = Vec::new();
        for answer in answers {
            // Removed, so that the second answer to one lease in one request is stale.
            let Some(delivery) = held.get(&answer.lease) else {
                results.push(Err(Refusal::Stale));
                continue;
            };
            let recalls = delivery.operation == Operation::Recall;
            let ended_well = matches!(
                answer.report.outcome,
                Outcome::Delivered { .. } | Outcome::Accepted { .. }
            );
            if ended_well && recalls != answer.recalled {
                results.push(Err(Refusal::OtherOperation));
                continue;
            }
            let answered = Said::sent(answer.report);
            let health = answered.health();
            said.push((
                results.len(),
                settlement(&self.delivery.retry, now, delivery, answered, can_recall),
                health,
            ));
            held.remove(&answer.lease);
            results.push(Ok(()));
        }
        let places: Vec<_> = said
            .iter()
            .map(|(place, settlement, _)| {
                (
                    *place,
                    settlement.delivery.key.tenant.clone(),
                    settlement.delivery.id,
                )
            })
            .collect();
        let refused = self
            .settle(
                said.into_iter()
                    .map(|(_, settlement, health)| (settlement, health))
                    .collect(),
            )
            .await?;
        for (place, tenant, id) in places {
            if refused.contains(&(tenant, id)) {
                results[place] = Err(Refusal::Stale);
            }
        }
        Ok(results)
    }

    /// Gives workers more time. Answers the new end of each lease.
    pub(crate) async fn extend(
        &self,
        kind: &ChannelKind,
        leases: &[LeaseKey],
    ) -> Result<Vec<Result<Timestamp, Refusal>>, RemoteError> {
        let held = self.leases(kind, leases).await?;
        let now = self.clock.now();
        let until = now.after(self.config.lease.duration());
        let oldest = now.before(self.config.longest_attempt.duration());
        let all: Vec<_> = held.values().cloned().collect();
        let extended: HashSet<_> = if all.is_empty() {
            HashSet::new()
        } else {
            let extended = self.store.extend_leases(&all, oldest, until).await?;
            extended.into_iter().collect()
        };
        let mut holdings = self.holdings.lock();
        Ok(leases
            .iter()
            .map(|lease| {
                let key = (lease.0.clone(), lease.1);
                if held.contains_key(lease) && extended.contains(&key) {
                    holdings.extend(&key, lease.2, until);
                    Ok(until)
                } else {
                    Err(Refusal::Stale)
                }
            })
            .collect())
    }

    /// Settles, and gives the slots back. Answers whose lease was not the last one.
    pub(super) async fn settle(
        &self,
        said: Vec<(Settlement, Health)>,
    ) -> Result<HashSet<(TenantId, DeliveryId)>, RemoteError> {
        if said.is_empty() {
            return Ok(HashSet::new());
        }
        let now = self.clock.now();
        let (settlements, healths): (Vec<Settlement>, Vec<Health>) = said.into_iter().unzip();
        let settled = self.store.settle(now, &settlements).await?;
        metrics::counter!("carillon_delivery_stale_total").increment(settled.stale);
        after_ends(&*self.directory, &settled.ended).await;
        {
            let mut holdings = self.holdings.lock();
            for (settlement, health) in settlements.iter().zip(healths) {
                let delivery = &settlement.delivery;
                let key = (delivery.key.tenant.clone(), delivery.id);
                holdings.end(&key, delivery.number(), health, now);
            }
        }
        // The deliverer too: endpoints are told of ends.
        self.wake.wake();
        Ok(settled.refused.into_iter().collect())
    }

    /// Those of the leases that still hold.
    async fn leases(
        &self,
        kind: &ChannelKind,
        leases: &[LeaseKey],
    ) -> Result<HashMap<LeaseKey, Arc<LeasedDelivery>>, RemoteError> {
        let held = self.store.held(kind, leases).await?;
        Ok(held
            .into_iter()
            .map(|delivery| {
                let key = (delivery.key.tenant.clone(), delivery.id, delivery.number());
                (key, Arc::new(delivery))
            })
            .collect())
    }
}
