//! Everything durable about schedules: notifications that are sent at a time, or again and again.
//!
//! A row says when it is due next. Whoever moves it on accepts the notification in the same transaction, so that however
//! many look, each time is sent once.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{ScheduleName, TenantId, Timestamp};
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

/// The durable state of schedules.
#[async_trait]
pub(crate) trait ScheduleStore: Send + Sync + 'static {
    /// Makes or replaces a schedule, unless it is new and the tenant has `most`. It stays due when it was as long as its
    /// times are the same.
    async fn put_schedule(
        &self,
        now: Timestamp,
        schedule: &ScheduleWrite,
        most: u64,
    ) -> Result<PutSchedule, StoreError>;

    /// One schedule.
    async fn schedule(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<Option<ScheduleRow>, StoreError>;

    /// Schedules by name.
    async fn schedules(
        &self,
        tenant: &TenantId,
        after: Option<&ScheduleName>,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError>;

    /// What became of a schedule's latest times, the latest first.
    async fn schedule_runs(
        &self,
        tenant: &TenantId,
        name: &ScheduleName,
    ) -> Result<Vec<ScheduleRun>, StoreError>;

    /// Removes a schedule; answers whether there was one.
    async fn delete_schedule(&self, tenant: &TenantId, name: &ScheduleName) -> Result<bool, StoreError>;

    /// What is due, the longest due first.
    async fn due_schedules(&self, now: Timestamp, limit: u32) -> Result<Vec<ScheduleRow>, StoreError>;

    /// When the next schedule is due.
    async fn next_schedule(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Moves a schedule on and accepts what it sends, unless it was changed or moved on since it was read.
    async fn fire(&self, now: Timestamp, firing: &Firing) -> Result<Fired, StoreError>;
}
