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
    Users,
    routes::{ActivityRequest, take_beat},
};

/// `carillon.activity`: the body and the answer of `POST /v1/activity`.
pub(crate) struct ActivityRpc(pub(crate) Arc<Users>);

#[async_trait]
impl Rpc for ActivityRpc {
    async fn call(
        &self,
        principal: &Principal,
        method: &str,
        data: Bytes,
    ) -> Option<Result<Bytes, RpcError>> {
        if method != "carillon.activity" {
            return None;
        }
        Some(self.beat(principal, &data).await.map_err(RpcError::from))
    }
}

impl ActivityRpc {
    async fn beat(&self, principal: &Principal, data: &[u8]) -> Result<Bytes, Problem> {
        let request: ActivityRequest = parse_json(data)?;
        let answer = take_beat(&self.0, principal, request).await?;
        serde_json::to_vec(&answer)
            .map(Bytes::from)
            .map_err(|error| Problem::internal(&error))
    }
}
