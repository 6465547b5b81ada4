//! Who may use the development routes.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use carillon_runtime::http::Problem;
use http::{HeaderMap, Uri, header};

/// Refuses requests that came by a name other than a loopback one, and requests that another site's page made.
pub(super) async fn only_this_page(request: Request, next: Next) -> Response {
    if is_loopback(host(request.uri(), request.headers())) && is_own(request.headers()) {
        next.run(request).await
    } else {
        Problem::forbidden("The quickstart page is for this machine alone. Open it by its loopback address.")
            .into_response()
    }
}

/// HTTP/2 says it in the URI, HTTP/1.1 in a header.
fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    uri.authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(header::HOST)?.to_str().ok())
}

/// Browsers resolve `localhost` and what ends in `.localhost` to loopback without asking anybody (RFC 6761, 6.3).
fn is_loopback(host: Option<&str>) -> bool {
    let Some(host) = host.and_then(|host| format!("http://{host}/").parse::<url::Url>().ok()) else {
        return false;
    };
    match host.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Browsers say truthfully which site's page asks; other programs do not say it.
fn is_own(headers: &HeaderMap) -> bool {
    let site = headers
        .get("sec-fetch-site")
        .map(|site| site.to_str().unwrap_or_default());
    matches!(site, None | Some("same-origin" | "none"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_loopback_names_pass() {
        for good in [
            "127.0.0.1:8080",
            "127.9.9.9",
            "localhost",
            "LOCALHOST:1",
            "a.localhost:80",
            "[::1]:8080",
        ] {
            assert!(is_loopback(Some(good)), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]",
            "a@b",
            "x y",
        ] {
            assert!(!is_loopback(Some(bad)), "{bad}");
        }
        assert!(!is_loopback(None));
    }

    #[test]
    fn other_sites_pages_do_not_pass() {
        let mut headers = HeaderMap::new();
        assert!(is_own(&headers));
        for (site, own) in [
            ("same-origin", true),
            ("none", true),
            ("cross-site", false),
            ("same-site", false),
            ("", false),
        ] {
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            assert_eq!(is_own(&headers), own, "{site}");
        }
    }
}
