//! What is read to say why somebody was, or was not, notified.

use async_trait::async_trait;
use carillon_domain::{NotificationId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

use super::records::RecipientDetail;

/// What is kept of decisions, one recipient at a time.
#[async_trait]
pub(crate) trait WhyStore: Send + Sync + 'static {
    /// One recipient of a notification.
    async fn recipient(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        user: UserId,
    ) -> Result<Option<RecipientDetail>, StoreError>;

    /// When a notification left the state accepted, or was cancelled after that.
    async fn ended_at(&self, tenant: &TenantId, id: NotificationId) -> Result<Option<Timestamp>, StoreError>;
}
