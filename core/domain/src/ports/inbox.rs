use async_trait::async_trait;

use super::Unavailable;
use crate::{DeviceName, LoggedChange, Position, TenantId, UserId};

/// The mailbox log as the hub reads it. Live push is the fast path; this is the truth.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// The newest position; a mailbox that was never written answers its epoch with `seq` 0.
    async fn head(&self, tenant: &TenantId, user: UserId) -> Result<Position, Unavailable>;

    /// Changes after `from`, oldest first, at most `limit`.
    async fn since(
        &self,
        tenant: &TenantId,
        user: UserId,
        from: &Position,
        limit: usize,
    ) -> Result<Since<LoggedChange>, Unavailable>;

    /// Up to where `device` confirmed receipt (`delivered`), if it ever did.
    async fn confirmed(
        &self,
        tenant: &TenantId,
        user: UserId,
        device: &DeviceName,
    ) -> Result<Option<Position>, Unavailable>;
}

/// What came after a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Since<T> {
    /// Oldest first, without holes. Empty when `gap` is set.
    pub items: Vec<T>,
    /// The position after the last item: where to ask from next.
    pub position: Position,
    /// Whether more follow.
    pub more: bool,
    /// The hole that must be announced; then `position` is the newest one.
    pub gap: Option<Gap>,
}

/// Why a reader cannot go on from where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The log was cut off behind that position.
    Trimmed,
    /// Another epoch: the numbering began anew.
    Epoch,
    /// The position lies in the future.
    Future,
    /// The text was no position.
    Malformed,
    /// None was given where one is needed to go on (a topic after a reconnect).
    Unknown,
}
