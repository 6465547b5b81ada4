//! What every request of the API passes behind the edge: it is given what its extractors look for, and an operator's
//! tenant must exist.
//!
//! A key fixes its tenant, and a token is verified by its tenant's keys. The operator may name any: after a slip, a
//! notification would be accepted for a tenant in which nobody can ever read it.
//!
//! One layer for all of it: with each layer axum copies the services below once more for every request.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
    routing::Route,
};
use carillon_auth::Auth;
use carillon_domain::{Caller, Principal, TenantId};
use carillon_runtime::http::{AuthenticateHandle, Problem, SecureCookies};
use futures_util::future::BoxFuture;
use http::StatusCode;
use tower::{Layer, Service, ServiceExt as _};

/// Where a tenant begins.
const KEYS: &str = "/v1/keys";

/// A layer around routes.
#[derive(Clone)]
pub(crate) struct Entrance(Arc<Inner>);

struct Inner {
    auth: Arc<Auth>,
    handle: AuthenticateHandle,
    cookies: SecureCookies,
    known_tenants: bool,
}

impl Entrance {
    /// `known_tenants`: answers 404 to an operator whose tenant does not exist, except where its first key is made.
    pub(crate) fn new(auth: Arc<Auth>, cookies: SecureCookies, known_tenants: bool) -> Self {
        Self(Arc::new(Inner {
            handle: AuthenticateHandle(auth.clone()),
            auth,
            cookies,
            known_tenants,
        }))
    }
}

impl Layer<Route> for Entrance {
    type Service = Entered;

    fn layer(&self, route: Route) -> Entered {
        Entered {
            entrance: self.clone(),
            route,
        }
    }
}

/// A route behind the entrance.
#[derive(Clone)]
pub(crate) struct Entered {
    entrance: Entrance,
    route: Route,
}

impl Service<Request> for Entered {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.route, cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let entrance = &self.entrance.0;
        let extensions = request.extensions_mut();
        extensions.insert(entrance.handle.clone());
        extensions.insert(entrance.cookies);
        let asked = if entrance.known_tenants {
            asked(&request)
        } else {
            None
        };
        let Some(tenant) = asked else {
            return Box::pin(self.route.call(request));
        };
        let (entrance, route) = (Arc::clone(entrance), self.route.clone());
        Box::pin(async move {
            match check(&entrance.auth, &tenant).await {
                Ok(()) => route.oneshot(request).await,
                Err(problem) => Ok(problem.into_response()),
            }
        })
    }
}

/// The tenant that an operator names and that must exist.
fn asked(request: &Request) -> Option<TenantId> {
    match request.extensions().get::<Principal>()? {
        Principal {
            tenant,
            caller: Caller::Operator,
        } if request.uri().path() != KEYS => Some(tenant.clone()),
        _ => None,
    }
}

async fn check(auth: &Auth, tenant: &TenantId) -> Result<(), Problem> {
    if auth.knows_tenant(tenant).await? {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("There is no tenant {tenant}: a tenant begins to exist with its first API key."),
    ))
}
