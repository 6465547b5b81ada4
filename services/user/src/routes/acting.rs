//! Who acts on a user: a backend, or the user himself.

use std::sync::Arc;

use carillon_domain::{Caller, ExternalUserId, Principal, Scope, UserCaller};
use carillon_runtime::http::{Problem, require_scope};

/// Who acts.
pub(crate) enum Acting {
    /// An API key or the operator.
    Backend,
    /// The user, by his own token.
    Himself(Arc<UserCaller>),
}

impl Acting {
    pub(crate) const fn is_backend(&self) -> bool {
        matches!(self, Self::Backend)
    }
}

/// Lets the user himself pass, and whoever has `scope`.
///
/// # Errors
/// 403 for everybody else.
pub(crate) fn acting(principal: &Principal, user: &ExternalUserId, scope: Scope) -> Result<Acting, Problem> {
    match &principal.caller {
        Caller::User(caller) if caller.external == *user => Ok(Acting::Himself(Arc::clone(caller))),
        Caller::User(_) => Err(Problem::forbidden("A user's token reaches its own user alone.")),
        Caller::Key(_) | Caller::Worker(_) | Caller::Operator => {
            require_scope(principal, scope)?;
            Ok(Acting::Backend)
        }
    }
}

/// The scope to ask a reader for: the one of `users:write` and `notifications:read` that the key has, if any.
pub(crate) fn readable_by(principal: &Principal) -> Scope {
    match &principal.caller {
        Caller::Key(key) if key.scopes.contains(&Scope::NotificationsRead) => Scope::NotificationsRead,
        _ => Scope::UsersWrite,
    }
}
