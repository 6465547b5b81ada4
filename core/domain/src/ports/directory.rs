use async_trait::async_trait;

use super::Unavailable;
use crate::{ExternalUserId, TenantId, UserId};

/// Who is who: a tenant's own user ids and our internal ones.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The internal ids of `users`, in their order; a user exists from the first mention. Batch, hot, cached.
    async fn resolve(&self, tenant: &TenantId, users: &[ExternalUserId]) -> Result<Vec<UserId>, Unavailable>;

    /// The internal id of a user that was mentioned before.
    async fn find(&self, tenant: &TenantId, user: &ExternalUserId) -> Result<Option<UserId>, Unavailable>;

    /// The tenant's own ids of `users`, in their order; `None` for an erased one.
    async fn names(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Result<Vec<Option<ExternalUserId>>, Unavailable>;
}

/// A room that holds a person's data and can forget it. Erasing twice is erasing once.
#[async_trait]
pub trait Erase: Send + Sync + 'static {
    /// Removes everything that names or describes the user; what must be counted keeps its numbers alone.
    async fn erase(&self, tenant: &TenantId, user: UserId) -> Result<(), Unavailable>;
}
