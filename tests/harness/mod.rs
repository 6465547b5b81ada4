//! What the tests of the whole share: the real executable as a child process, and clients for each of its entrances.

mod api;
mod command;
mod hooks;
mod ports;
mod relay;
mod report;
mod script;
mod secrets;
mod server;
mod sse;
mod wait;
mod ws;

pub(crate) use api::{Answer, Api, listed, user_name};
pub(crate) use command::{Finished, carillon, clean, executable};
pub(crate) use hooks::{Hook, Hooks, Reply};
pub(crate) use ports::free_port;
pub(crate) use relay::{Mail, MailReply, Relay};
pub(crate) use report::report;
pub(crate) use secrets::secret;
pub(crate) use server::{Server, Start, Store, shared, watchdog};
pub(crate) use sse::Sse;
pub(crate) use wait::{eventually, within};
pub(crate) use ws::{Received, Ws};
