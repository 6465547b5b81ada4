//! Who may open a stream: `Authorization`, a one-time ticket, or the stream cookie.

use carillon_domain::{
    Principal, TenantId,
    ports::{AuthError, Authenticate},
};
use carillon_runtime::{
    edge::Cors,
    http::{Problem, ViaTls, stream_cookies},
};
use http::{header, request::Parts};

/// The outcome of looking at a request's credentials.
pub(crate) enum Admission {
    /// Known; with the value of the cookie to set, after a ticket.
    Admitted(Principal, Option<String>),
    /// Logged out: 204, so that `EventSource` stops.
    LoggedOut,
}

/// Finds out who is calling.
///
/// # Errors
/// 401 without a valid credential; 403 for a cookie that a foreign page brought; 503 when nobody can tell.
pub(crate) async fn admit(
    authenticate: &dyn Authenticate,
    tenant: &TenantId,
    ticket: Option<&str>,
    request: &Parts,
    allowed_origins: &[String],
) -> Result<Admission, Problem> {
    if let Some(value) = request.headers.get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
        let Some((_, credential)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(Problem::unauthorized());
        };
        return outcome(
            authenticate
                .bearer(tenant, credential.trim())
                .await
                .map(|principal| (principal, None)),
        );
    }
    let mut refused = Err(AuthError::Invalid);
    if let Some(ticket) = ticket {
        match authenticate.ticket(tenant, ticket).await {
            // `EventSource` comes back with the address it began with: then the ticket is spent and the cookie counts.
            Err(error @ (AuthError::Invalid | AuthError::Expired)) => refused = Err(error),
            Err(error) => return outcome(Err(error)),
            Ok((principal, cookie)) => return outcome(Ok((principal, Some(cookie)))),
        }
    }
    for cookie in stream_cookies(&request.headers) {
        if !is_own_page(request, allowed_origins) {
            return Err(Problem::forbidden(
                "A page of another origin may not open a stream by cookie.",
            ));
        }
        match authenticate.stream_cookie(tenant, cookie).await {
            // A browser may hold one of an earlier login as well.
            Err(AuthError::Invalid | AuthError::Expired) => {}
            Err(AuthError::Revoked) => refused = Err(AuthError::Revoked),
            other => return outcome(other.map(|principal| (principal, None))),
        }
    }
    outcome(refused)
}

fn outcome(result: Result<(Principal, Option<String>), AuthError>) -> Result<Admission, Problem> {
    match result {
        Ok((principal, cookie)) => Ok(Admission::Admitted(principal, cookie)),
        Err(AuthError::Revoked) => Ok(Admission::LoggedOut),
        Err(AuthError::Unavailable(error)) => Err(error.into()),
        Err(AuthError::Invalid | AuthError::Expired) => Err(Problem::unauthorized()),
    }
}

/// Whether the page that sends a cookie is ours or an allowed one. A request without `Origin` and `Sec-Fetch-Site` is
/// no foreign page's: browsers that send neither keep a `SameSite=Lax` cookie at home.
fn is_own_page(request: &Parts, allowed_origins: &[String]) -> bool {
    let text = |name: &str| {
        request
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("null"))
    };
    let Some(origin) = text("origin") else {
        return text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    };
    let listed = allowed_origins.iter().any(|allowed| allowed == origin)
        || request
            .extensions
            .get::<Cors>()
            .is_some_and(|cors| cors.allows(origin));
    listed || is_same_origin(request, origin)
}

fn is_same_origin(request: &Parts, origin: &str) -> bool {
    let host = request
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host
        .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default();
    let via_tls = request.extensions.get::<ViaTls>().is_some_and(|tls| tls.0);
    match origin.split_once("://") {
        Some(("https", authority)) => !host.is_empty() && authority.eq_ignore_ascii_case(host),
        // Behind a proxy that ends TLS the page is https and we are not; the other way round nothing fits.
        Some(("http", authority)) => !via_tls && !host.is_empty() && authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(headers: &[(&str, &str)], tls: bool) -> bool {
        let mut request = http::Request::builder()
            .uri("/v1/stream")
            .header("host", "app.example.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(ViaTls(tls));
        is_own_page(&parts, &["https://other.example".to_owned()])
    }

    #[test]
    fn a_cookie_works_for_our_own_pages_alone() {
        assert!(own(&[], true) && own(&[("sec-fetch-site", "same-origin")], true));
        assert!(own(&[("origin", "https://app.example.com")], true));
        assert!(
            own(&[("origin", "https://other.example")], true),
            "an allowed one"
        );
        for evil in [
            "https://evil.example",
            "null",
            "https://app.example.com.evil",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://sub.app.example.com",
        ] {
            assert!(
                !own(&[("origin", evil), ("sec-fetch-site", "same-origin")], true),
                "{evil}"
            );
        }
        assert!(
            !own(&[("sec-fetch-site", "cross-site")], true) && !own(&[("sec-fetch-site", "same-site")], true)
        );
    }
}
