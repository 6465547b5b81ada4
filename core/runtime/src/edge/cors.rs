//! Cross-origin access by browsers (the Fetch standard's CORS protocol).

use std::{str::FromStr, sync::Arc};

use carillon_domain::Invalid;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::CorsConfig;
use crate::http::Problem;

/// What pages of other origins may send.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const HEADERS: &str =
    "accept, authorization, cache-control, content-type, idempotency-key, last-event-id, traceparent";
const EXPOSED: &str = "allow, idempotent-replayed, location, retry-after, x-trace-id";

/// One configured origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `*`.
    Any,
    /// As a browser writes it: scheme, host and a port that is not the scheme's own, in lower case.
    Exact(String),
}

impl FromStr for Origin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const EXPECTED: Invalid =
            Invalid("expected an origin such as https://app.example.com, without a path");
        if text == "*" {
            return Ok(Self::Any);
        }
        let url: url::Url = text.parse().map_err(|_| EXPECTED)?;
        let bare = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if bare {
            Ok(Self::Exact(url.origin().ascii_serialization()))
        } else {
            Err(EXPECTED)
        }
    }
}

/// The configured policy. In every request's extensions, for handlers that must look at `Origin` themselves (a
/// WebSocket's handshake with a cookie).
#[derive(Debug, Clone)]
pub struct Cors(Arc<Policy>);

#[derive(Debug, Default)]
struct Policy {
    any: bool,
    exact: Vec<String>,
    credentials: bool,
    max_age: u64,
}

impl Cors {
    /// From its configuration; origins that are none are left out ([`super::EdgeConfig::validate`] refuses them).
    pub fn new(config: &CorsConfig) -> Self {
        let mut policy = Policy {
            credentials: config.credentials,
            max_age: config.max_age.duration().as_secs(),
            ..Policy::default()
        };
        for origin in config.origins.iter().filter_map(|text| text.parse().ok()) {
            match origin {
                Origin::Any => policy.any = true,
                Origin::Exact(origin) => policy.exact.push(origin),
            }
        }
        Self(Arc::new(policy))
    }

    /// Whether a page of `origin` (the header's value, as it came) may call. `null` never may.
    pub fn allows(&self, origin: &str) -> bool {
        origin != "null"
            && (self.0.exact.iter().any(|known| known == origin) || (self.0.any && !self.0.credentials))
    }

    /// The answer to a preflight; `None` when the request is none.
    pub(super) fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Result<StatusCode, Problem>> {
        if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
        Some(if self.allows(origin) {
            Ok(StatusCode::NO_CONTENT)
        } else {
            Err(Problem::forbidden("This origin may not call across origins."))
        })
    }

    /// Adds what a browser needs to hand the answer to the page.
    pub(super) fn decorate(&self, origin: Option<&HeaderValue>, preflight: bool, answer: &mut HeaderMap) {
        if !self.0.any && self.0.exact.is_empty() {
            return;
        }
        answer.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(|text| self.allows(text))) else {
            return;
        };
        let mut set = |name: HeaderName, value: &'static str| {
            answer.insert(name, HeaderValue::from_static(value));
        };
        if preflight {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        } else {
            set(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        if self.0.credentials {
            set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        if preflight {
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.0.max_age));
        }
        let listed = origin
            .to_str()
            .is_ok_and(|text| self.0.exact.iter().any(|known| known == text));
        let value = if listed {
            origin.clone()
        } else {
            HeaderValue::from_static("*")
        };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Cors::new(&CorsConfig {
            origins,
            credentials,
            ..CorsConfig::default()
        })
    }

    #[test]
    fn only_exact_origins_pass() {
        let cors = cors(&["https://app.example.com", "http://LocalHost:3000/"], true);
        assert!(cors.allows("https://app.example.com") && cors.allows("http://localhost:3000"));
        for foreign in [
            "null",
            "",
            "*",
            "https://app.example.com.evil",
            "https://evil-app.example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "http://localhost:3001",
        ] {
            assert!(!cors.allows(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_star_never_goes_with_credentials() {
        assert!(cors(&["*"], false).allows("https://anywhere.example"));
        assert!(!cors(&["*"], true).allows("https://anywhere.example"));
        assert!(!cors(&["*"], false).allows("null"));
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for bad in [
            "null",
            "example.com",
            "https://x.example/path",
            "ftp://x.example",
            "https://u@x.example",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        assert_eq!(
            "https://x.example:443".parse(),
            Ok(Origin::Exact("https://x.example".to_owned()))
        );
    }
}
