//! What a server answered.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// An answer: its head, and as much of its body as was wanted.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The head's fields.
    pub headers: HeaderMap,
    /// The beginning of the body.
    pub body: Bytes,
    /// Whether [`Self::body`] is all of it: nothing was cut off, by us or by the server.
    pub whole: bool,
}

/// The beginning of an answer for an attempt log: at most `limit` bytes of UTF-8, control characters replaced. Nothing
/// when there is nothing to show.
pub fn excerpt(body: &[u8], limit: usize) -> Option<String> {
    let body = &body[..body.len().min(limit)];
    let mut shown = String::with_capacity(body.len());
    for c in String::from_utf8_lossy(body).chars() {
        let c = if c.is_control() { ' ' } else { c };
        if shown.len() + c.len_utf8() > limit {
            break;
        }
        shown.push(c);
    }
    let end = shown.trim_end().len();
    shown.truncate(end);
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(
            excerpt(b"ok\r\n\x1b[31mred\0", 1_024).as_deref(),
            Some("ok   [31mred")
        );
        assert_eq!(excerpt(b"", 1_024), None);
        assert_eq!(excerpt(b" \n", 1_024), None);
        assert_eq!(excerpt("ää".as_bytes(), 3).as_deref(), Some("ä"));
        for limit in 0..16 {
            let shown = excerpt(&[0xff; 2_000], limit).unwrap_or_default();
            assert!(shown.len() <= limit, "{limit}");
        }
    }
}
