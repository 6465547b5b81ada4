//! One id for everything that a request sets off.

use std::{fmt, str};

use http::{HeaderMap, HeaderValue};

/// A trace id (W3C Trace Context): 32 hex digits, from the request's `traceparent` or new. In every request's
/// extensions, in the log's span, in problems and in the answer's `x-trace-id`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// The one that `traceparent` names, or a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all("traceparent").iter();
        match (
            values.next().and_then(|value| Self::parse(value.as_bytes())),
            values.next(),
        ) {
            (Some(id), None) => id,
            _ => Self::random(),
        }
    }

    /// A new one.
    pub fn random() -> Self {
        let mut id = [0; 32];
        // Of 32 digits for 16 bytes none is left over.
        let number: u128 = rand::random::<u128>().max(1);
        for (at, digit) in id.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * at) & 0xf) as usize];
        }
        Self(id)
    }

    /// `version-trace-parent-flags`, each in lower-case hex; all-zero ids and version `ff` are none.
    fn parse(value: &[u8]) -> Option<Self> {
        let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
        let known = value.len() == 55 || (value.len() > 55 && value[55] == b'-' && !value.starts_with(b"00"));
        if !known || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
            return None;
        }
        let (version, trace, parent, flags) = (&value[..2], &value[3..35], &value[36..52], &value[53..55]);
        let valid = [version, trace, parent, flags].into_iter().all(hex) && version != b"ff";
        if !valid || zero(trace) || zero(parent) {
            return None;
        }
        trace.try_into().ok().map(Self)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_counts() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parse = |text: &str| TraceId::parse(text.as_bytes()).map(|id| id.to_string());
        assert_eq!(
            parse(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(),
            Some(id)
        );
        assert_eq!(
            parse(&format!("cc-{id}-00f067aa0ba902b7-01-what-comes-later")).as_deref(),
            Some(id)
        );
        for bad in [
            String::new(),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{id}-0000000000000000-01"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
        assert_ne!(TraceId::random(), TraceId::random());
        assert_eq!(TraceId::random().as_str().len(), 32);
    }
}
