//! The whole product, entered where its users enter: the real executable, over HTTP, SSE, WebSocket and the command
//! line. `CARILLON_TEST_STORE` chooses the store; `tests/run.sh` says which module belongs to which stage.

mod crash;
mod e2e;
mod harness;
mod imports;
mod mta;
mod reference;
mod sync;
mod tools;
