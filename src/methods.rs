//! What connected clients may call: each room brings methods of its own.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use carillon_domain::{
    Principal,
    ports::{Rpc, RpcError},
};

/// The methods of several rooms. Names are each room's own; the first that knows one answers.
pub(crate) struct Methods(pub(crate) Vec<Arc<dyn Rpc>>);

#[async_trait]
impl Rpc for Methods {
    async fn call(
        &self,
        principal: &Principal,
        method: &str,
        data: Bytes,
    ) -> Option<Result<Bytes, RpcError>> {
        for room in &self.0 {
            let answer = room.call(principal, method, data.clone()).await;
            if answer.is_some() {
                return answer;
            }
        }
        None
    }
}
