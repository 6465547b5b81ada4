//! Sources: tools whose events become notifications.
//!
//! What a tool says is turned into requests by a mapping, which is data: `kinds/*.json` for the tools that are known, the
//! tenant's own for any JSON. The only code per tool is the check of its signature. What comes out goes through the same
//! checks and the same intake as any notification; the tool's own keys (an alert's fingerprint, a delivery's id) are the
//! idempotency keys, so that a tool which is not sure of an answer may send again.

mod bounces;
mod budget;
mod condition;
mod content;
mod credentials;
mod kind;
mod mapping;
mod path;
mod pattern;
mod register;
mod settings;
mod take;
mod tree;

pub(crate) use bounces::{BouncedIn, DSN_BODY, take_bounce};
pub(crate) use budget::Budget;
pub(crate) use condition::When;
pub(crate) use content::{Action, Body, ContentParts, collapse_key, data_of, digest_key, targets_of};
pub(crate) use credentials::is_credential;
pub(crate) use kind::SourceKind;
pub(crate) use path::{Path, Scene};
pub(crate) use pattern::Pattern;
pub(crate) use register::{Registration, Secret, read_settings, register};
pub(crate) use settings::Settings;
pub(crate) use take::{TAKE_BODY, TakenIn, take};
pub(crate) use tree::Tree;
