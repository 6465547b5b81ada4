//! Rules: what makes notifications of domain events. A rule is data, in the small language of [`crate::sources`]: which
//! events it is for, on which conditions, and the request that each of them becomes. What comes out goes through the same
//! checks and the same intake as any notification.

mod book;
mod document;
mod judge;
mod matcher;
mod notify;
mod put;
mod request;
mod worker;

pub(crate) use book::RuleBook;
pub(crate) use document::RuleDocument;
pub(crate) use judge::{Judged, Rule};
pub(crate) use put::{check, put};
pub(crate) use request::request;
pub(crate) use worker::RuleWorker;

/// The most rules of a tenant.
pub(crate) const MOST: u64 = 1_000;
/// Versions of a rule that are kept.
pub(crate) const KEPT_VERSIONS: u64 = 100;
