//! Who acts on a user: a backend, or the user.

use carillon_domain::{Caller, ExternalUserId, Principal, Scope, UserId};
use carillon_runtime::http::{Problem, require_scope};

use crate::Dispatcher;

/// Whom a request is about: the caller himself, or whom a key with `users:write` names.
///
/// # Errors
/// 403 for everybody else; 404 for somebody who was never mentioned.
pub(super) async fn known(
    dispatcher: &Dispatcher,
    principal: &Principal,
    user: &ExternalUserId,
) -> Result<UserId, Problem> {
    match own(principal, user)? {
        Some(id) => Ok(id),
        None => {
            let found = dispatcher.ports.directory.find(&principal.tenant, user).await?;
            found.ok_or_else(Problem::not_found)
        }
    }
}

/// As [`known`]; being mentioned here is being mentioned.
///
/// # Errors
/// 403 for everybody else.
pub(super) async fn mentioned(
    dispatcher: &Dispatcher,
    principal: &Principal,
    user: &ExternalUserId,
) -> Result<UserId, Problem> {
    if let Some(id) = own(principal, user)? {
        return Ok(id);
    }
    let name = std::slice::from_ref(user);
    let resolved = dispatcher
        .ports
        .directory
        .resolve(&principal.tenant, name)
        .await?;
    resolved.first().copied().ok_or_else(Problem::not_found)
}

/// The caller's id where he acts on himself, none for a backend.
fn own(principal: &Principal, user: &ExternalUserId) -> Result<Option<UserId>, Problem> {
    match &principal.caller {
        Caller::User(caller) if caller.external == *user => Ok(Some(caller.id)),
        Caller::User(_) => Err(Problem::forbidden("A user's token reaches its own user alone.")),
        Caller::Key(_) | Caller::Worker(_) | Caller::Operator => {
            require_scope(principal, Scope::UsersWrite).map(|()| None)
        }
    }
}
