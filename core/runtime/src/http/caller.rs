//! Who is calling, as a handler's argument.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use carillon_domain::{
    Caller as Kind, ChannelKind, Principal, Scope, TenantId, UserCaller,
    ports::{AuthError, Authenticate},
};
use http::{header, request::Parts};

use super::Problem;

/// The composition root puts this into every request's extensions.
#[derive(Clone)]
pub struct AuthenticateHandle(pub Arc<dyn Authenticate>);

/// The authenticated caller of this request; 401 without a valid `Authorization: Bearer`.
///
/// The tenant comes from the extensions, where the edge put what the path's `/t/{tenant}` said.
#[derive(Debug, Clone)]
pub struct Caller(pub Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The internal listener has decided already.
        if let Some(principal) = parts.extensions.get::<Principal>() {
            return Ok(Self(principal.clone()));
        }
        let tenant = parts.extensions.get::<TenantId>().cloned().unwrap_or_default();
        let credential = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, credential)| credential.trim())
            .ok_or_else(Problem::unauthorized)?;
        let authenticate = parts
            .extensions
            .get::<AuthenticateHandle>()
            .ok_or_else(Problem::unauthorized)?
            .0
            .clone();
        match authenticate.bearer(&tenant, credential).await {
            Ok(principal) => Ok(Self(principal)),
            Err(AuthError::Unavailable(cause)) => Err(Problem::unavailable(&cause)),
            Err(_) => Err(Problem::unauthorized()),
        }
    }
}

/// Lets API keys with `scope` and the operator pass.
///
/// # Errors
/// 403 for everybody else.
pub fn require_scope(principal: &Principal, scope: Scope) -> Result<(), Problem> {
    match &principal.caller {
        Kind::Operator => Ok(()),
        Kind::Key(key) if key.scopes.contains(&scope) => Ok(()),
        Kind::Key(_) => Err(Problem::forbidden(format!(
            "The API key lacks the scope {scope}."
        ))),
        // Its channels are asked for by `require_channel`: nothing else is a worker's.
        Kind::Worker(_) => Err(Problem::forbidden("This needs an API key, not a worker's key.")),
        Kind::User(_) => Err(Problem::forbidden("This needs an API key, not a user's token.")),
    }
}

/// Whose deliveries a worker serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// This tenant's alone.
    Tenant(TenantId),
    /// Every tenant's.
    All,
}

/// Lets the workers of a channel pass: keys of one tenant with the scope `channel:{kind}`, keys for all tenants that
/// name it, and the operator for the path's tenant. Answers whose deliveries the caller may see; nothing that the
/// request says widens it.
///
/// # Errors
/// 403 for everybody else.
pub fn require_channel(principal: &Principal, kind: &ChannelKind) -> Result<Served, Problem> {
    match &principal.caller {
        Kind::Worker(worker) if worker.channels.contains(kind) => Ok(Served::All),
        Kind::Worker(_) => Err(Problem::forbidden(format!(
            "The worker's key lacks the scope {}.",
            Scope::Channel(kind.clone())
        ))),
        Kind::Operator | Kind::Key(_) | Kind::User(_) => {
            require_scope(principal, Scope::Channel(kind.clone()))?;
            Ok(Served::Tenant(principal.tenant.clone()))
        }
    }
}

/// Lets the operator pass: whoever may open the internal listener.
///
/// # Errors
/// 403 for everybody else.
pub fn require_operator(principal: &Principal) -> Result<(), Problem> {
    match &principal.caller {
        Kind::Operator => Ok(()),
        Kind::Key(_) | Kind::Worker(_) | Kind::User(_) => Err(Problem::forbidden(
            "This is served on the internal listener alone.",
        )),
    }
}

/// Lets users pass.
///
/// # Errors
/// 403 for everybody else.
pub fn require_user(principal: &Principal) -> Result<&Arc<UserCaller>, Problem> {
    match &principal.caller {
        Kind::User(user) => Ok(user),
        Kind::Key(_) | Kind::Worker(_) | Kind::Operator => {
            Err(Problem::forbidden("This needs a user's token, not an API key."))
        }
    }
}

#[cfg(test)]
mod tests {
    use carillon_domain::{KeyCaller, KeyId, Timestamp, WorkerCaller};

    use super::*;

    fn of(caller: Kind) -> Principal {
        Principal {
            tenant: "acme".parse().expect("a tenant"),
            caller,
        }
    }

    fn key(scopes: Vec<Scope>) -> Principal {
        let id = KeyId::at(Timestamp::default());
        of(Kind::Key(Arc::new(KeyCaller { id, scopes })))
    }

    fn worker(kind: &str) -> Principal {
        let id = KeyId::at(Timestamp::default());
        let channels = vec![kind.parse().expect("a channel")];
        of(Kind::Worker(Arc::new(WorkerCaller { id, channels })))
    }

    #[test]
    fn a_tenants_worker_never_sees_another_tenants_deliveries() {
        let sms: ChannelKind = "sms".parse().expect("a channel");
        let acme = Served::Tenant("acme".parse().expect("a tenant"));
        assert_eq!(
            require_channel(&key(vec![Scope::Channel(sms.clone())]), &sms),
            Ok(acme.clone())
        );
        assert_eq!(require_channel(&of(Kind::Operator), &sms), Ok(acme));
        assert_eq!(require_channel(&worker("sms"), &sms), Ok(Served::All));
        for other in [
            key(Scope::ALL.to_vec()),
            key(vec![Scope::Channel("fax".parse().expect("a channel"))]),
            worker("fax"),
        ] {
            let refused = require_channel(&other, &sms).expect_err("refused");
            assert_eq!(refused.status, 403, "{other:?}");
        }
    }

    #[test]
    fn a_worker_for_all_tenants_may_do_nothing_else() {
        let worker = worker("sms");
        for scope in Scope::ALL
            .into_iter()
            .chain([Scope::Channel("sms".parse().expect("a channel"))])
        {
            assert_eq!(require_scope(&worker, scope).expect_err("refused").status, 403);
        }
        assert!(require_user(&worker).is_err());
        assert!(require_operator(&worker).is_err());
        assert!(require_operator(&key(Scope::ALL.to_vec())).is_err());
        assert!(require_operator(&of(Kind::Operator)).is_ok());
    }
}
