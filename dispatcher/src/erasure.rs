//! Erasure of a person, as far as this room knows him.

use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{
    Clock, TenantId, UserId,
    ports::{Directory, Erase, Unavailable},
};

use crate::store::{Erasure, Store};

/// Forgets a person: inbox, log, receipts, and his name in what was sent to him. What must be counted keeps its
/// numbers alone.
pub(crate) struct Eraser {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Erase for Eraser {
    async fn erase(&self, tenant: &TenantId, user: UserId) -> Result<(), Unavailable> {
        // The directory tells the name as long as the erasure goes on.
        let name = self.directory.names(tenant, &[user]).await?.pop().flatten();
        let erasure = Erasure {
            tenant: tenant.clone(),
            user,
            name,
        };
        Ok(self.store.erase(self.clock.now(), &erasure).await?)
    }
}
