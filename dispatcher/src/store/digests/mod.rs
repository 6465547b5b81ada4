//! Everything durable about digests: which are open, who waits in them, and how one closes.
//!
//! A row of `digests` stands for one that is open. Whoever joins or closes one holds its user's turn (on PostgreSQL the
//! mailbox's row), so that a delivery is in a digest that was sent, or in one that is open, and never in both.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::Timestamp;
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

/// The durable state of digests.
#[async_trait]
pub(crate) trait DigestStore: Send + Sync + 'static {
    /// When the next digest closes.
    async fn next_digest(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Up to `limit` digests that are due, the longest due first, each with its first members.
    async fn due_digests(&self, now: Timestamp, limit: usize) -> Result<Vec<DueDigest>, StoreError>;

    /// Keeps a digest from coming back before `until`.
    async fn postpone_digest(&self, key: &DigestKey, until: Timestamp) -> Result<(), StoreError>;

    /// Closes a digest, if it still is as it was read: its members go out with one notification, in the same commit. What
    /// did not fit stays, and is due. Answers whether it closed.
    async fn close_digest(&self, now: Timestamp, closing: &Closing) -> Result<bool, StoreError>;
}
