//! What the tests of the whole share: the real executable as a child process, and clients for each of its entrances.

mod api;
mod command;
mod ports;
mod server;
mod sse;
mod wait;
mod ws;

pub(crate) use api::{Answer, Api, user_name};
pub(crate) use command::{Finished, carillon, clean};
pub(crate) use server::{Server, Start, Store, shared};
pub(crate) use sse::{Event, Sse};
pub(crate) use wait::{DEADLINE, eventually, within};
pub(crate) use ws::{Received, Ws};
