//! What handlers share: problems, extractors and their limits.

mod caller;
mod problem;

pub use caller::{AuthenticateHandle, Caller, require_scope, require_user};
pub use problem::{FieldError, Problem};
