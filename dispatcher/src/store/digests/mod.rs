//! Everything durable about digests: which are open, who waits in them, and how one closes.
//!
//! A row of `digests` stands for one that is open. Whoever joins or closes one holds its user's turn (on PostgreSQL the
//! mailbox's row), so that a delivery is in a digest that was sent, or in one that is open, and never in both.

mod records;
mod rows;

use async_trait::async_trait;
use carillon_domain::{TenantId, Timestamp};
use carillon_sql::StoreError;

pub(crate) use records::*;
pub(super) use rows::*;

/// The durable state of digests.
#[async_trait]
pub(crate) trait DigestStore: Send + Sync + 'static {
    /// When the next digest closes.
    async fn next_digest(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Hands out about `limit` digests that are due until `until`, of the tenants after `after`, to each as many.
    async fn lease_digests(
        &self,
        now: Timestamp,
        limit: usize,
        until: Timestamp,
        after: Option<&TenantId>,
    ) -> Result<LeasedDigests, StoreError>;

    /// What a digest that was handed out holds.
    async fn due_digest(&self, now: Timestamp, lease: &DigestLease) -> Result<DueDigest, StoreError>;

    /// Keeps a digest that was handed out from coming back before `until`.
    async fn postpone_digest(&self, lease: &DigestLease, until: Timestamp) -> Result<(), StoreError>;

    /// Closes a digest, if it still is as it was read: its members go out with one notification, in the same commit. What
    /// did not fit stays, and is due. Answers whether it closed.
    async fn close_digest(&self, now: Timestamp, closing: &Closing) -> Result<bool, StoreError>;
}

/// Binds what names a digest as the first six arguments of a statement.
macro_rules! of_key {
    ($statement:expr, $key:expr) => {
        $statement
            .bind($key.tenant.as_str())
            .bind($key.user.to_string())
            .bind($key.category.as_str())
            .bind($key.channel.as_str())
            .bind(&*$key.name)
            .bind(&*$key.key)
    };
}

pub(super) use of_key;
