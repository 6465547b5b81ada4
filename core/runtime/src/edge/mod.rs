//! The edge: accept loop, deadlines, TLS, and the way by which a stream leaves hyper.

mod take_over;

pub use take_over::{ConnectionGuard, Socket, TakeOver, Taken};
