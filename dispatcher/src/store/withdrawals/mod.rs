//! Everything durable about what ends for a notification's recipients before its time: their own answers, the first answer
//! where one is enough, and cancelling.
//!
//! The transaction that decides it changes the notification, so that nothing starts after it commits
//! ([`super::outside`] says how), and ends the first page of recipients. The others have theirs from a row of
//! `withdrawals`, page by page, each with its progress in one transaction: whoever comes after a restart goes on.

mod page;
mod records;

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp};
use carillon_sql::StoreError;

use super::records::Committed;

pub(super) use page::{Ending, PageRow, end_recipients, ended_keys, first_answers, keys_of, page_rows};
pub(crate) use records::*;

/// Said of recipients and deliveries, and in changes, when the sender took a notification back.
pub(super) const CANCELLED: &str = "cancelled";
/// Said of deliveries whose recipient answered elsewhere.
pub(super) const ACKNOWLEDGED: &str = "acknowledged on another device";
/// Said of recipients and deliveries where another recipient's answer was enough.
pub(super) const ANSWERED: &str = "another recipient answered";

/// The durable state of withdrawals.
#[async_trait]
pub(crate) trait WithdrawalStore: Send + Sync + 'static {
    /// Hands out withdrawals that are due, the longest due first, until `until`.
    async fn lease_withdrawals(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
    ) -> Result<Vec<WithdrawalLease>, StoreError>;

    /// Ends the next page of recipients. The withdrawal is due at once for the next one, and gone after the last.
    async fn withdraw_page(
        &self,
        now: Timestamp,
        lease: &WithdrawalLease,
    ) -> Result<Committed<WithdrawnPage>, StoreError>;

    /// When the next withdrawal is due.
    async fn next_withdrawal(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Whether a notification was withdrawn, by whom it was answered, and for how many recipients it is not over yet.
    async fn withdrawal(&self, tenant: &TenantId, id: NotificationId)
    -> Result<WithdrawalDetail, StoreError>;
}
