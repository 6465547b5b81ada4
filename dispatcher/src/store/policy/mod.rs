//! What users and tenants want: preferences, quiet hours, caps. It is read again in each transaction that starts alerts
//! (`choices` of each database), so that a change counts from its commit on.
//!
//! Caps are counted under the user's turn: whoever reads `choices` to decide about an alert that may count holds the user's
//! mailbox row until it has committed, and so does whoever changes what the user wants. So of two notifications that start
//! at the same time the second one sees the first one's alert, and no cap is exceeded. SQLite has one writer; on PostgreSQL
//! mailboxes are locked by key, after notifications and before everything else, also of users who get nothing in the app.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

/// The durable state of what users and tenants want.
#[async_trait]
pub(crate) trait PolicyStore: Send + Sync + 'static {
    /// A user's preferences by category and channel, those for all first.
    async fn preferences(&self, tenant: &TenantId, user: UserId) -> Result<Vec<PreferenceRow>, StoreError>;

    /// Carries out changes together, unless the user had more than `most` preferences then. An erased user keeps none.
    async fn change_preferences(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        user: UserId,
        changes: &PreferenceChanges,
        most: u64,
    ) -> Result<PreferencesWritten, StoreError>;

    /// What else a user wants, JSON.
    async fn user_policy(&self, tenant: &TenantId, user: UserId) -> Result<Option<String>, StoreError>;

    /// Whether any user of a tenant has one.
    async fn has_user_policies(&self, tenant: &TenantId) -> Result<bool, StoreError>;

    /// Writes or removes it; answers false for an erased user, who keeps none.
    async fn put_user_policy(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        user: UserId,
        body: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// What a tenant wants for all of its users, JSON.
    async fn tenant_policy(&self, tenant: &TenantId) -> Result<Option<String>, StoreError>;

    /// Writes it.
    async fn put_tenant_policy(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        body: &str,
    ) -> Result<(), StoreError>;

    /// What these users chose, with their alerts since then.
    #[cfg(test)]
    async fn choices(
        &self,
        tenant: &TenantId,
        users: &[UserId],
        since: Timestamp,
    ) -> Result<Vec<Choices>, StoreError>;

    /// Counts an alert unless one of `caps` is full, in a transaction of its own; answers whether it was counted.
    #[cfg(test)]
    async fn count_alert(
        &self,
        alert: &AlertRow,
        caps: &[carillon_policy::Cap],
        since: Timestamp,
    ) -> Result<bool, StoreError>;
}
