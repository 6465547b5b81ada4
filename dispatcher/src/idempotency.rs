//! Idempotency keys: a request that is sent again gets the first answer again.
//!
//! What is in flight is known in memory only, so that a crash between the claim and the commit locks no key; what was
//! answered is a row that the accepting transaction itself writes. Among several nodes that row's unique key decides.

use std::{collections::HashSet, sync::Arc};

use carillon_domain::TenantId;
use carillon_runtime::http::Problem;
use http::HeaderMap;
use parking_lot::Mutex;

/// The request header.
pub(crate) const HEADER: &str = "idempotency-key";

/// The key of a request: 1-255 printable ASCII characters, as they are or as a structured field's string (RFC 8941).
///
/// # Errors
/// 400 when there is more than one, or it is neither.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let malformed = || {
        Problem::malformed(
            "Idempotency-Key is 1-255 printable ASCII characters, with or without double quotes.",
        )
    };
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?.trim();
    let key = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(quoted) => unquote(quoted).ok_or_else(malformed)?,
    };
    let valid = matches!(key.len(), 1..=255) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if valid {
        Ok(Some(Arc::from(key)))
    } else {
        Err(malformed())
    }
}

/// The rest of a structured field's string: the closing quote must be its end.
fn unquote(quoted: &str) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => key.push(escaped),
                _ => return None,
            },
            plain => key.push(plain),
        }
    }
}

type InFlightKey = (TenantId, &'static str, Arc<str>);

/// The keys of requests that are not answered yet, on this node.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashSet<InFlightKey>>);

/// A key that is in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    all: Arc<InFlight>,
    key: InFlightKey,
}

impl InFlight {
    /// Takes off; `None` when the key is in the air already.
    pub(crate) fn begin(
        self: &Arc<Self>,
        tenant: &TenantId,
        route: &'static str,
        key: &Arc<str>,
    ) -> Option<Flight> {
        let key = (tenant.clone(), route, Arc::clone(key));
        let free = self.0.lock().insert(key.clone());
        free.then(|| Flight {
            all: Arc::clone(self),
            key,
        })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn keys_come_plain_or_quoted() {
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(value).expect("a header"));
            key(&headers)
        };
        for (text, expected) in [
            ("abc-1", "abc-1"),
            ("\"abc-1\"", "abc-1"),
            (r#""a\"b\\""#, r#"a"b\"#),
            ("a\"b", "a\"b"),
            ("a b", "a b"),
        ] {
            assert_eq!(read(text.as_bytes()).expect(text).as_deref(), Some(expected));
        }
        let long = "x".repeat(255);
        assert_eq!(
            read(long.as_bytes()).expect("255").as_deref(),
            Some(long.as_str())
        );
        for bad in [
            "",
            "\"",
            "\"\"",
            "\"a",
            "\"a\"b",
            r#""a\b""#,
            "x\ty",
            &"x".repeat(256),
        ] {
            assert_eq!(read(bad.as_bytes()).expect_err(bad).status, 400);
        }
        assert!(read("caf\u{e9}".as_bytes()).is_err());
        let mut twice = HeaderMap::new();
        twice.append(HEADER, HeaderValue::from_static("a"));
        twice.append(HEADER, HeaderValue::from_static("a"));
        assert!(key(&twice).is_err());
        assert_eq!(key(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_key_flies_once_per_tenant_and_route() {
        let all = Arc::new(InFlight::default());
        let (one, other): (TenantId, TenantId) = ("one".parse().expect("a"), "other".parse().expect("a"));
        let key: Arc<str> = Arc::from("k");
        let flight = all.begin(&one, "r", &key).expect("free");
        assert!(all.begin(&one, "r", &key).is_none());
        assert!(all.begin(&other, "r", &key).is_some() && all.begin(&one, "s", &key).is_some());
        drop(flight);
        assert!(all.begin(&one, "r", &key).is_some());
    }
}
