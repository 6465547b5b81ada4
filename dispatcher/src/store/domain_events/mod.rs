//! Everything durable about domain events: what was handed in, and what the rules made of it.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{DomainEventId, TenantId, Timestamp};
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

/// Errors of a rule that are kept.
pub(crate) const KEPT_ERRORS: u32 = 100;

/// The durable state of domain events.
#[async_trait]
pub(crate) trait DomainEventStore: Send + Sync + 'static {
    /// Commits events with their outbox rows, each source and id once. Answers one reply per event.
    async fn accept_events(&self, events: &[NewDomainEvent]) -> Result<Vec<EventReply>, StoreError>;

    /// Makes what a dead process had leased due again. Only where one process owns the store.
    async fn release_events(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Hands out events that are due, the longest due first, until `until`.
    async fn lease_events(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<EventLease>, StoreError>;

    /// When the next event is due.
    async fn next_event_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The events that still exist, in any order.
    async fn load_events(&self, ids: &[(TenantId, DomainEventId)])
    -> Result<Vec<DomainEventRow>, StoreError>;

    /// Ends leased events with what the rules made of them. Answers for each whether its lease still held.
    async fn settle_events(&self, now: Timestamp, ends: &[EventEnd]) -> Result<Vec<bool>, StoreError>;

    /// Keeps a leased event from coming back before `until`; what some rules did already is kept. Answers whether the lease
    /// still held.
    async fn put_off_event(
        &self,
        lease: &EventLease,
        results: &[RuleResult],
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// One event.
    async fn event(&self, tenant: &TenantId, id: DomainEventId)
    -> Result<Option<DomainEventRow>, StoreError>;

    /// Events, newest first.
    async fn events(
        &self,
        tenant: &TenantId,
        query: &DomainEventQuery,
    ) -> Result<Vec<DomainEventRow>, StoreError>;

    /// Removes up to about `limit` rows that are older than `cutoff`; answers how many.
    async fn sweep_events(
        &self,
        sweep: DomainEventSweep,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError>;

    /// How many events wait for the rules, and since when the oldest of them is due.
    async fn waiting_events(&self) -> Result<(u64, Option<Timestamp>), StoreError>;
}
