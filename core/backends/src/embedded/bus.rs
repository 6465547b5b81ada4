use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use carillon_domain::{
    Envelope, Subject, TenantId,
    ports::{Bus, Incoming, Unavailable},
};

/// The bus of a single node: publishing is receiving.
#[derive(Default)]
pub struct EmbeddedBus {
    incoming: OnceLock<Arc<dyn Incoming>>,
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn publish(&self, envelopes: Vec<Envelope>) -> Result<(), Unavailable> {
        // A process without a hub has nobody to tell.
        if let Some(incoming) = self.incoming.get() {
            incoming.receive_all(envelopes);
        }
        Ok(())
    }

    async fn listen(&self, _: &TenantId, _: &Subject) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn unlisten(&self, _: &TenantId, _: &Subject) -> Result<(), Unavailable> {
        Ok(())
    }

    fn incoming(&self, incoming: Arc<dyn Incoming>) {
        if self.incoming.set(incoming).is_err() {
            tracing::error!("the bus has a receiver already; the second one is ignored");
        }
    }
}
