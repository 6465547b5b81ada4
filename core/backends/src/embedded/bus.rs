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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use carillon_domain::{Clock as _, EnvelopeId, EnvelopeKind, SystemClock};
    use parking_lot::Mutex;

    use super::*;

    /// Notes how many came together.
    #[derive(Default)]
    struct Counting(Mutex<Vec<usize>>);

    impl Incoming for Counting {
        fn receive(&self, envelope: Envelope) {
            self.receive_all(vec![envelope]);
        }

        fn receive_all(&self, envelopes: Vec<Envelope>) {
            self.0.lock().push(envelopes.len());
        }
    }

    #[tokio::test]
    async fn what_is_published_together_is_received_together() {
        let bus = EmbeddedBus::default();
        let received = Arc::new(Counting::default());
        bus.incoming(received.clone());
        let envelope = Envelope {
            id: EnvelopeId::at(SystemClock.now()),
            tenant: TenantId::default(),
            subject: Subject::Control,
            position: None,
            kind: EnvelopeKind::Publication { publisher: None },
            body: Bytes::new(),
        };
        bus.publish(vec![envelope.clone(); 400]).await.unwrap();
        bus.publish(vec![envelope]).await.unwrap();
        assert_eq!(*received.0.lock(), [400, 1]);
    }
}
