use async_trait::async_trait;
use bytes::Bytes;

use crate::Principal;

/// What a connected client may call by name (Centrifugo's `rpc`), for example `carillon.ack`.
#[async_trait]
pub trait Rpc: Send + Sync + 'static {
    /// Calls `method` with JSON `data`; answers JSON. `None` means that no such method exists.
    async fn call(&self, principal: &Principal, method: &str, data: Bytes)
    -> Option<Result<Bytes, RpcError>>;
}

/// What a call answers instead of a result. The codes are Centrifugo's error codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// For example 103 permission denied, 107 bad request, 100 internal.
    pub code: u32,
    /// Fit to show to the caller.
    pub message: String,
    /// Whether the same call may work later.
    pub temporary: bool,
}
