//! The stream cookie: how native `EventSource` comes back on its own.

use std::fmt::Write as _;

use axum::extract::OriginalUri;
use carillon_domain::TenantId;
use http::{Extensions, HeaderMap, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cookie's name.
pub const STREAM_COOKIE: &str = "carillon_stream";

/// More cookies of the name than this in one request are not looked at.
const MAX_COOKIES: usize = 4;

/// In a request's extensions: whether it came over TLS. The edge puts it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViaTls(pub bool);

/// Whether cookies are marked `Secure`. Also read from a request's extensions, where the composition root puts what
/// is configured; absent means [`SecureCookies::Auto`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecureCookies {
    /// When the request came over TLS.
    #[default]
    Auto,
    /// Always: a proxy in front ends TLS.
    Always,
    /// Never.
    Never,
}

/// The `Set-Cookie` that hands out `value`: a session cookie, since the server keeps the expiry.
pub fn set_stream_cookie(extensions: &Extensions, tenant: &TenantId, value: &str) -> Option<HeaderValue> {
    cookie(extensions, tenant, value, "")
}

/// The `Set-Cookie` that takes the cookie away.
pub fn clear_stream_cookie(extensions: &Extensions, tenant: &TenantId) -> Option<HeaderValue> {
    cookie(extensions, tenant, "", "; Max-Age=0")
}

fn cookie(extensions: &Extensions, tenant: &TenantId, value: &str, more: &str) -> Option<HeaderValue> {
    let mut text = format!("{STREAM_COOKIE}={value}; Path=");
    // The browser sends the cookie only to the spelling of the path that it was set for.
    let prefixed = extensions
        .get::<OriginalUri>()
        .map_or(tenant.as_str() != TenantId::DEFAULT, |uri| {
            uri.path().starts_with("/t/")
        });
    if prefixed {
        let _ = write!(text, "/t/{tenant}");
    }
    text.push_str("/v1/stream; HttpOnly; SameSite=Lax");
    text.push_str(more);
    let secure = match extensions.get::<SecureCookies>().copied().unwrap_or_default() {
        SecureCookies::Auto => extensions.get::<ViaTls>().is_some_and(|tls| tls.0),
        SecureCookies::Always => true,
        SecureCookies::Never => false,
    };
    if secure {
        text.push_str("; Secure");
    }
    HeaderValue::from_str(&text).ok()
}

/// The values of the stream cookies that a request carries, at most four: one browser may hold one per path.
pub fn stream_cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, value)| *name == STREAM_COOKIE && !value.is_empty())
        .map(|(_, value)| value)
        .take(MAX_COOKIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_belongs_to_its_tenants_stream() {
        let mut extensions = Extensions::new();
        let tenant: TenantId = "acme".parse().expect("a tenant");
        let text = |extensions: &Extensions, tenant: &TenantId| {
            let value = set_stream_cookie(extensions, tenant, "abc").expect("a header");
            value.to_str().expect("ASCII").to_owned()
        };
        assert_eq!(
            text(&extensions, &TenantId::default()),
            "carillon_stream=abc; Path=/v1/stream; HttpOnly; SameSite=Lax"
        );
        extensions.insert(ViaTls(true));
        assert_eq!(
            text(&extensions, &tenant),
            "carillon_stream=abc; Path=/t/acme/v1/stream; HttpOnly; SameSite=Lax; Secure"
        );
        extensions.insert(SecureCookies::Never);
        assert!(!text(&extensions, &tenant).contains("Secure"));
    }

    #[test]
    fn only_our_cookies_are_read() {
        let mut headers = HeaderMap::new();
        let cookies = "a=b; carillon_stream=one; xcarillon_stream=no; carillon_stream=; carillon_stream=two";
        headers.append(header::COOKIE, HeaderValue::from_static(cookies));
        assert_eq!(stream_cookies(&headers).collect::<Vec<_>>(), ["one", "two"]);
    }
}
