//! Which addresses are not written to, for the other rooms.

use std::sync::Arc;

use async_trait::async_trait;
use carillon_domain::{
    PlainAddress, TenantId,
    ports::{Suppressed, Unavailable},
};

use crate::{Dispatcher, store::Store};

impl Dispatcher {
    /// Which addresses are not written to.
    pub fn suppressed(&self) -> Arc<dyn Suppressed> {
        Arc::new(SuppressedHere {
            store: self.store.clone(),
        })
    }
}

/// Answers from the store.
struct SuppressedHere {
    store: Arc<dyn Store>,
}

#[async_trait]
impl Suppressed for SuppressedHere {
    async fn reasons(
        &self,
        tenant: &TenantId,
        addresses: &[PlainAddress],
    ) -> Result<Vec<Option<String>>, Unavailable> {
        Ok(self.store.suppressed(tenant, addresses).await?)
    }
}
