use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::Unavailable;
use crate::{DeviceId, ExternalUserId, PlainAddress, TenantId, Timestamp};

/// Brings codes to the addresses that they confirm.
#[async_trait]
pub trait Verifier: Send + Sync + 'static {
    /// Answers once it is certain that the code will be tried to be delivered. Must not send it anywhere else, nor keep it
    /// readable.
    async fn send(&self, verification: Verification) -> Result<(), Unavailable>;
}

/// A code on its way to an address that is not verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Verification {
    /// Whose.
    pub tenant: TenantId,
    /// The user who has the address.
    pub user: ExternalUserId,
    /// His language, BCP 47.
    pub locale: Option<Arc<str>>,
    /// The address, as a device.
    pub device: DeviceId,
    /// The address itself.
    pub to: PlainAddress,
    /// Six digits.
    pub code: String,
    /// Until when the code holds.
    pub expires_at: Timestamp,
}

/// Without the code.
impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification")
            .field("tenant", &self.tenant)
            .field("device", &self.device)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
