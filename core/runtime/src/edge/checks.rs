//! What is refused before it is routed.

use std::borrow::Cow;

use http::{StatusCode, Version, header, request::Parts};

use super::{LimitsConfig, Peer};
use crate::http::Problem;

/// hyper's own default for HTTP/1.1; HTTP/2 is held to the same.
const MAX_HEADERS: usize = 100;

/// Query parameters that carry a bearer credential elsewhere on the web.
const CREDENTIALS: [&str; 6] = [
    "access_token",
    "token",
    "authorization",
    "api_key",
    "apikey",
    "jwt",
];

pub(super) fn check_sizes(limits: &LimitsConfig, parts: &Parts) -> Result<(), Problem> {
    let uri = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if uri as u64 > limits.uri.bytes() {
        return Err(uri_too_long());
    }
    let size: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if parts.headers.len() > MAX_HEADERS || size as u64 > limits.headers.bytes() {
        return Err(headers_too_large());
    }
    Ok(())
}

pub(super) fn ambiguous() -> Problem {
    Problem::malformed("The request's head can be read in two ways.")
}

pub(super) fn uri_too_long() -> Problem {
    Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", "The URI is too long.")
}

pub(super) fn headers_too_large() -> Problem {
    let detail = "The request has too many headers, or too large ones.";
    Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers_too_large",
        detail,
    )
}

/// RFC 9112, 3.2: exactly one `Host`.
pub(super) fn check_host(parts: &Parts) -> Result<(), Problem> {
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
        return Err(Problem::malformed("A request has exactly one Host header."));
    }
    Ok(())
}

pub(super) fn check_query(query: Option<&str>) -> Result<(), Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    let carries = url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, _)| CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known)));
    if carries {
        let detail = "A credential in a URL ends up in logs. Send it in the Authorization header.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "credential_in_url", detail));
    }
    Ok(())
}

/// A page in a browser on this machine can reach the internal listener too: by a cross-origin request, or under a name
/// of its own that resolves to this machine. Neither is the operator.
pub(super) fn is_operator(peer: Peer, parts: &Parts) -> bool {
    if parts.headers.contains_key(header::ORIGIN) {
        return false;
    }
    if peer == Peer::Unix {
        return true;
    }
    let host = parts
        .uri
        .authority()
        .map(|authority| Cow::Borrowed(authority.as_str()))
        .or_else(|| {
            parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .map(Cow::Borrowed)
        });
    host.is_some_and(|host| is_literal(&host))
}

/// Whether a host with or without a port is an address or `localhost`.
fn is_literal(host: &str) -> bool {
    host.parse::<std::net::SocketAddr>().is_ok() || {
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let name = name.map_or(host, |(name, _)| name);
        name.eq_ignore_ascii_case("localhost")
            || name
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<std::net::IpAddr>()
                .is_ok()
    }
}
