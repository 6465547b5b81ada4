//! Everything durable about notifications that are planned page by page: how far they are.
//!
//! A page and the cursor behind it are one transaction, under the notification's lease. With each page the outbox row
//! becomes due again, behind what waits, and the lease's token changes: whoever plans a page twice finds it gone.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::Lease;

pub(crate) use records::*;
pub(super) use rows::*;

/// The durable state of broadcasts.
#[async_trait]
pub(crate) trait BroadcastStore: Send + Sync + 'static {
    /// How far those of these notifications are that are planned page by page, in any order.
    async fn broadcasts(&self, ids: &[(TenantId, NotificationId)]) -> Result<Vec<BroadcastRow>, StoreError>;

    /// Keeps leases that still hold from ending before `until`.
    async fn extend_outbox(&self, leases: &[Lease], until: Timestamp) -> Result<(), StoreError>;
}
