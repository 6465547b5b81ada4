//! Registered webhook endpoints and the secrets that sign for them.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{EndpointId, SecretId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

use super::outside::{OutsideRow, WorkRow};

/// The durable state of endpoints.
#[async_trait]
pub(crate) trait EndpointStore: Send + Sync + 'static {
    /// Makes an endpoint with its first secret, unless its owner has `most` of them. Answers whether it was made.
    async fn create_endpoint(
        &self,
        endpoint: &EndpointRow,
        secret: &SecretRow,
        most: u64,
    ) -> Result<bool, StoreError>;

    /// Endpoints, newest first.
    async fn endpoints(
        &self,
        tenant: &TenantId,
        query: &EndpointQuery,
    ) -> Result<Vec<EndpointRow>, StoreError>;

    /// Enabled endpoints of these users, each user's in order of their ids.
    async fn user_endpoints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<UserEndpoint>, StoreError>;

    /// One endpoint, and its secrets that still sign, newest first.
    async fn endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<Option<(EndpointRow, Vec<SecretRow>)>, StoreError>;

    /// Changes an endpoint. What waits for it moves with it, `page` deliveries in this transaction.
    async fn update_endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
        change: &EndpointChange,
        page: usize,
    ) -> Result<Option<EndpointMoved>, StoreError>;

    /// Moves the next `page` deliveries that wait for an endpoint to where it is now. Answers whether there is more.
    async fn move_work(
        &self,
        now: Timestamp,
        moving: &EndpointMoved,
        page: usize,
    ) -> Result<bool, StoreError>;

    /// Deletes an endpoint and its secrets; answers whether there was one. What waits for it is ended by
    /// [`Self::end_closed`].
    async fn delete_endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<bool, StoreError>;

    /// Adds a secret. The earlier ones stop signing at `until`, unless they do before. At most `most` sign at a time.
    async fn add_secret(
        &self,
        now: Timestamp,
        secret: &SecretRow,
        until: Timestamp,
        most: u64,
    ) -> Result<SecretAdded, StoreError>;

    /// Removes a secret, but never the last one that signs without an end.
    async fn remove_secret(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        id: SecretId,
    ) -> Result<SecretRemoved, StoreError>;

    /// The tenant's own secret; when there is none, this one is it from now on.
    async fn tenant_secret(&self, new: &SecretRow) -> Result<SecretRow, StoreError>;

    /// The tenant's own secret, if it was ever needed.
    async fn known_tenant_secret(&self, tenant: &TenantId) -> Result<Option<SecretRow>, StoreError>;

    /// Writes an event for one endpoint alone.
    async fn send_event(
        &self,
        event: &EventRow,
        outside: &OutsideRow,
        work: &WorkRow,
    ) -> Result<(), StoreError>;

    /// What an endpoint was told, newest first.
    async fn endpoint_attempts(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        query: &AttemptQuery,
    ) -> Result<Vec<EndpointAttempt>, StoreError>;
}
