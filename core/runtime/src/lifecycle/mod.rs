//! How a process lives and ends.
//!
//! Everything that runs long gets a [`Stop`] and is started by one [`Supervisor`], which waits for signals, tells all
//! parts to finish, gives them until a deadline, and says how it went.

mod stop;
mod supervisor;
mod worker;

pub use stop::Stop;
pub use supervisor::{Ending, Supervisor};
pub use worker::Worker;
