//! Everything durable about recipients that climb their plans: what is due when, and what was decided.
//!
//! A row of `climbs` says when to look at an open recipient again. Whoever looks holds the recipient's row: what it finds
//! there decides, so that a lease that was lost, a wake-up that came twice and a clock that jumped start each step once.
//! On PostgreSQL recipients are locked after mailboxes and before topics and lanes, `climbs` last, each by key.

mod climb;
mod foresee;
mod records;
mod rows;
mod standing;

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::records::{Committed, PlanJob};

pub(super) use climb::climb;
pub(crate) use foresee::foresee;
pub(crate) use records::*;
pub(super) use rows::*;
pub(super) use standing::{StandingColumns, StandingDecision, StandingDelivery, climb_on, standings};

/// The durable state of climbs.
#[async_trait]
pub(crate) trait LadderStore: Send + Sync + 'static {
    /// Hands out what is due, the longest due first, until `until`.
    async fn lease_climbs(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<ClimbLease>, StoreError>;

    /// When the next climb is due.
    async fn next_climb(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Keeps a leased climb from coming back before `until`.
    async fn postpone_climb(&self, lease: &ClimbLease, until: Timestamp) -> Result<(), StoreError>;

    /// What is read of leased climbs before their transaction.
    async fn load_climbs(&self, leases: &[ClimbLease]) -> Result<LoadedClimbs, StoreError>;

    /// Looks at recipients whose leases still hold, a job with one of them each, and writes what follows. Answers how many
    /// it looked at.
    async fn climb(
        &self,
        now: Timestamp,
        leases: &[ClimbLease],
        jobs: &[PlanJob],
    ) -> Result<Committed<u64>, StoreError>;

    /// Forgets leased climbs.
    async fn drop_climbs(&self, leases: &[ClimbLease]) -> Result<(), StoreError>;

    /// Ends up to `limit` open recipients of up to [`CLOSED_AT_ONCE`] notifications whose time to live is over. Answers
    /// whether there may be more.
    async fn close_late(&self, now: Timestamp, limit: usize) -> Result<bool, StoreError>;

    /// What time the database says it is, where several nodes share it.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// How many recipients of a notification stand where.
    async fn recipient_counts(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Vec<RecipientCount>, StoreError>;
}
