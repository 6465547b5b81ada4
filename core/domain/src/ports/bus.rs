use std::sync::Arc;

use async_trait::async_trait;

use super::Unavailable;
use crate::{Envelope, Subject, TenantId};

/// At-most-once fan-out to the nodes that listen. What must not be lost never rides only the bus.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Hands envelopes to every node that listens to their subject, this one included, in the given order.
    async fn publish(&self, envelopes: Vec<Envelope>) -> Result<(), Unavailable>;

    /// This node wants `subject` from now on; called for its first local subscriber. [`Subject::Control`] is
    /// always listened to.
    async fn listen(&self, tenant: &TenantId, subject: &Subject) -> Result<(), Unavailable>;

    /// This node's last local subscriber of `subject` has left.
    async fn unlisten(&self, tenant: &TenantId, subject: &Subject) -> Result<(), Unavailable>;

    /// Who receives on this node. Called once, before anything is published.
    fn incoming(&self, incoming: Arc<dyn Incoming>);
}

/// The receiving end on one node: the hub.
pub trait Incoming: Send + Sync + 'static {
    /// Takes one envelope. Must not block on the network: it writes what sockets take at once and queues the rest.
    fn receive(&self, envelope: Envelope);

    /// Takes several that were published together. A hub writes what goes to one socket in one go.
    fn receive_all(&self, envelopes: Vec<Envelope>) {
        envelopes.into_iter().for_each(|envelope| self.receive(envelope));
    }
}
