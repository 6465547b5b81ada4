//! What users and tenants want: preferences, quiet hours, caps. It is read again in each transaction that starts alerts
//! (`choices` of each database), so that a change counts from its commit on.

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

    /// Carries out changes together, unless the user had more than `most` preferences then.
    async fn change_preferences(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        user: UserId,
        changes: &[PreferenceChange],
        most: u64,
    ) -> Result<PreferencesWritten, StoreError>;

    /// What else a user wants, JSON.
    async fn user_policy(&self, tenant: &TenantId, user: UserId) -> Result<Option<String>, StoreError>;

    /// Writes or removes it.
    async fn put_user_policy(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        user: UserId,
        body: Option<&str>,
    ) -> Result<(), StoreError>;

    /// What a tenant wants for all of its users, JSON.
    async fn tenant_policy(&self, tenant: &TenantId) -> Result<Option<String>, StoreError>;

    /// Writes it.
    async fn put_tenant_policy(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        body: &str,
    ) -> Result<(), StoreError>;

    /// What these users chose, with their alerts since then: for what only asks, such as a dry run.
    async fn choices(
        &self,
        tenant: &TenantId,
        users: &[UserId],
        since: Timestamp,
    ) -> Result<Vec<Choices>, StoreError>;
}
