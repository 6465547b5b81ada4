use async_trait::async_trait;

use super::Unavailable;
use crate::{KeyId, TenantId};

/// What became of API keys that let somebody in: for whoever stays longer than a request.
#[async_trait]
pub trait ApiKeys: Send + Sync + 'static {
    /// Whether a key of the tenant's, or one for all tenants, still opens anything. Asked often: the answer is kept in
    /// memory, and a revocation is known within seconds whichever node took it.
    async fn stands(&self, tenant: Option<&TenantId>, key: KeyId) -> Result<bool, Unavailable>;
}
