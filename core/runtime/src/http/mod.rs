//! What handlers share: problems, extractors and their limits.
//!
//! A handler takes [`Caller`], [`IdPath`], [`ApiQuery`] or [`Paged`], and at the end [`ApiJson`]; each refuses bad
//! input with a [`Problem`] that says what is wrong where. [`Listing`] answers lists.

mod body;
mod caller;
mod id_path;
mod json;
mod objects;
mod page;
mod problem;
mod query;
mod stream_cookie;
mod strict_json;

pub use body::{BodyFault, BodyLimit, PacedBody, Pacing, read_body};
pub use caller::{
    AuthenticateHandle, Caller, Served, require_channel, require_operator, require_scope, require_user,
};
pub use id_path::IdPath;
pub use json::{ApiJson, ApiJsonBytes, check_json, parse_json, parse_part};
pub use page::{Listing, MAX_PAGE, Page, Paged, encode_cursor};
pub use problem::{FieldError, Problem, ProblemBody};
pub use query::{ApiQuery, parse_query};
pub use stream_cookie::{
    STREAM_COOKIE, SecureCookies, ViaTls, clear_stream_cookie, set_stream_cookie, stream_cookies,
};
