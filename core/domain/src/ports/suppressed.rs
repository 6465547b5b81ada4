use async_trait::async_trait;

use super::Unavailable;
use crate::{PlainAddress, TenantId};

/// Knows which addresses are not written to, whosever they are.
#[async_trait]
pub trait Suppressed: Send + Sync + 'static {
    /// Why nothing goes to each of `addresses`, in their order: `gone`, `bounced`, `manual`; none where something does.
    async fn reasons(
        &self,
        tenant: &TenantId,
        addresses: &[PlainAddress],
    ) -> Result<Vec<Option<String>>, Unavailable>;
}
