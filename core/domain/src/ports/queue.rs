use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Unavailable;

/// At-least-once work between the rooms of one role and another. A transport: the store's outbox is the source of
/// truth, and everything in a queue can be published again from it.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Hands over work. `key` lets the queue drop what it already holds under the same key; that only saves work.
    /// Answers once the queue took it; a full queue makes the caller wait.
    async fn publish(&self, subject: &'static str, key: String, payload: Bytes) -> Result<(), Unavailable>;

    /// At most `limit` jobs; waits for the first one for at most `wait`, then answers an empty list.
    async fn pull(
        &self,
        subject: &'static str,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Job>, Unavailable>;
}

/// One piece of work. Dropped unanswered, it comes again after the queue's lease.
pub struct Job {
    /// What to do.
    pub payload: Bytes,
    /// How often it was handed out before this time.
    pub redelivered: u32,
    /// How to answer.
    pub handle: Box<dyn JobHandle>,
}

/// How to answer a job.
#[async_trait]
pub trait JobHandle: Send + Sync {
    /// Done; its effect is committed.
    async fn ack(self: Box<Self>) -> Result<(), Unavailable>;

    /// Hand it out again after `delay`.
    async fn retry_in(self: Box<Self>, delay: Duration) -> Result<(), Unavailable>;
}
