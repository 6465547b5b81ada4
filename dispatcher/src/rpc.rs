//! What connected clients call by name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_domain::{
    Principal,
    ports::{Rpc, RpcError},
};
use carillon_runtime::http::{Problem, parse_json};

use crate::{
    Dispatcher,
    routes::{AckRequest, acknowledge},
};

/// `carillon.ack`: the body and the answer of `POST /v1/acks`.
pub(crate) struct AckRpc(pub(crate) Arc<Dispatcher>);

#[async_trait]
impl Rpc for AckRpc {
    async fn call(
        &self,
        principal: &Principal,
        method: &str,
        data: Bytes,
    ) -> Option<Result<Bytes, RpcError>> {
        if method != "carillon.ack" {
            return None;
        }
        Some(self.acknowledge(principal, &data).await.map_err(RpcError::from))
    }
}

impl AckRpc {
    async fn acknowledge(&self, principal: &Principal, data: &[u8]) -> Result<Bytes, Problem> {
        let request: AckRequest = parse_json(data)?;
        let answer = acknowledge(&self.0, principal, request).await?;
        serde_json::to_vec(&answer)
            .map(Bytes::from)
            .map_err(|error| Problem::internal(&error))
    }
}
