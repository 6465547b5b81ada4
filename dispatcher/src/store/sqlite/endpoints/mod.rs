mod register;
mod secrets;
mod told;

use async_trait::async_trait;
use carillon_domain::{EndpointId, SecretId, TenantId, Timestamp, UserId};
use carillon_sql::StoreError;

use super::SqliteStore;
use crate::store::{
    endpoints::*,
    outside::{OutsideRow, WorkRow},
};

#[async_trait]
impl EndpointStore for SqliteStore {
    async fn create_endpoint(
        &self,
        endpoint: &EndpointRow,
        secret: &SecretRow,
        most: u64,
    ) -> Result<bool, StoreError> {
        Self::create_endpoint(self, endpoint, secret, most).await
    }

    async fn endpoints(
        &self,
        tenant: &TenantId,
        query: &EndpointQuery,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        Self::endpoints(self, tenant, query).await
    }

    async fn user_endpoints(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<UserEndpoint>, StoreError> {
        Self::user_endpoints(self, tenant, users).await
    }

    async fn endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<Option<(EndpointRow, Vec<SecretRow>)>, StoreError> {
        Self::endpoint(self, now, tenant, id).await
    }

    async fn update_endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
        change: &EndpointChange,
        page: usize,
    ) -> Result<Option<EndpointMoved>, StoreError> {
        Self::update_endpoint(self, now, tenant, id, change, page).await
    }

    async fn move_work(
        &self,
        now: Timestamp,
        moving: &EndpointMoved,
        page: usize,
    ) -> Result<bool, StoreError> {
        Self::move_work(self, now, moving, page).await
    }

    async fn delete_endpoint(
        &self,
        now: Timestamp,
        tenant: &TenantId,
        id: EndpointId,
    ) -> Result<bool, StoreError> {
        Self::delete_endpoint(self, now, tenant, id).await
    }

    async fn add_secret(
        &self,
        now: Timestamp,
        secret: &SecretRow,
        until: Timestamp,
        most: u64,
    ) -> Result<SecretAdded, StoreError> {
        Self::add_secret(self, now, secret, until, most).await
    }

    async fn remove_secret(
        &self,
        tenant: &TenantId,
        endpoint: EndpointId,
        id: SecretId,
    ) -> Result<SecretRemoved, StoreError> {
        Self::remove_secret(self, tenant, endpoint, id).await
    }

    async fn tenant_secret(&self, new: &SecretRow) -> Result<SecretRow, StoreError> {
        Self::tenant_secret(self, new).await
    }

    async fn known_tenant_secret(&self, tenant: &TenantId) -> Result<Option<SecretRow>, StoreError> {
        Self::known_tenant_secret(self, tenant).await
    }

    async fn send_event(
        &self,
        event: &EventRow,
        outside: &OutsideRow,
        work: &WorkRow,
    ) -> Result<(), StoreError> {
        Self::send_event(self, event, outside, work).await
    }

    async fn endpoint_attempts(
        &self,
        tenant: &TenantId,
        id: EndpointId,
        query: &AttemptQuery,
    ) -> Result<Vec<EndpointAttempt>, StoreError> {
        Self::endpoint_attempts(self, tenant, id, query).await
    }
}
