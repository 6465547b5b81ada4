//! The head of an answer whose socket leaves hyper.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::stamp::push_line;

/// A whole HTTP/1.1 response head for [`super::TakeOver::take`], which adds what every answer carries.
pub fn stream_head(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let reason = status.canonical_reason().unwrap_or("OK");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        push_line(&mut head, name, value);
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}
