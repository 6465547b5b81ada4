//! What every answer carries: its trace, security headers, and what a browser asks for across origins.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{TraceId, pass::Shared};

/// Puts it on an answer's headers.
pub(super) fn stamp(
    shared: &Shared,
    trace: TraceId,
    origin: Option<&HeaderValue>,
    preflight: bool,
    headers: &mut HeaderMap,
) {
    set_security_headers(headers, shared.tls);
    headers.insert("x-trace-id", trace.header());
    shared.cors.decorate(origin, preflight, headers);
}

/// What every answer carries, for one that a handler writes itself.
#[derive(Clone)]
pub(super) struct Stamp {
    pub(super) shared: Arc<Shared>,
    pub(super) trace: TraceId,
    pub(super) origin: Option<HeaderValue>,
}

impl Stamp {
    /// Adds to a response head what it does not have. The stream's first bytes may stand behind it.
    pub(super) fn put_on(&self, answer: &[u8]) -> Bytes {
        let end = answer
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .map_or(answer.len(), |at| at + 2);
        let (head, rest) = answer.split_at(end);
        let mut headers = HeaderMap::new();
        stamp(
            &self.shared,
            self.trace,
            self.origin.as_ref(),
            false,
            &mut headers,
        );
        let known: Vec<String> = head
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.split(|byte| *byte == b':').next())
            .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
            .collect();
        let mut stamped = head.to_vec();
        for (name, value) in &headers {
            if !known.iter().any(|known| known == name.as_str()) {
                push_line(&mut stamped, name, value);
            }
        }
        stamped.extend_from_slice(rest);
        stamped.into()
    }
}

/// One line of a head.
pub(super) fn push_line(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

pub(super) fn set_security_headers(headers: &mut HeaderMap, tls: bool) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}
