use async_trait::async_trait;
use bytes::Bytes;

use super::{Since, Unavailable};
use crate::{Position, Publication, PublisherInfo, TenantId, TopicName};

/// Topics' histories, and the way into them.
#[async_trait]
pub trait Topics: Send + Sync + 'static {
    /// Appends publications, commits them, and sends their envelopes over the bus. Answers one position each, in
    /// order; `None` for a live-only topic, which is only sent.
    async fn publish(
        &self,
        tenant: &TenantId,
        publications: Vec<NewPublication>,
    ) -> Result<Vec<Option<Position>>, PublishError>;

    /// The newest position; a topic that was never written answers its epoch with `seq` 0. `None`: live-only.
    async fn head(&self, tenant: &TenantId, topic: &TopicName) -> Result<Option<Position>, Unavailable>;

    /// Publications after `from`, oldest first, at most `limit`. `None`: live-only.
    async fn since(
        &self,
        tenant: &TenantId,
        topic: &TopicName,
        from: &Position,
        limit: usize,
    ) -> Result<Option<Since<Publication>>, Unavailable>;
}

/// What is to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPublication {
    /// Where.
    pub topic: TopicName,
    /// JSON, at most 64 KiB.
    pub data: Bytes,
    /// Who, when a client does.
    pub publisher: Option<PublisherInfo>,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The data is too large.
    #[error("the data of publication {index} is larger than {limit} bytes")]
    TooLarge {
        /// Which one, from 0.
        index: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The store or the bus is away.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
