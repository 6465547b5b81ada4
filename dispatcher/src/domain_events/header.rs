//! Attributes in headers (CloudEvents 1.0, `cloudevents/bindings/http-protocol-binding.md`, 3.1.3).

/// What a header says: its quoted parts without their quotes, then percent-decoded once. Nothing where that is no UTF-8.
pub(super) fn decode(value: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(value.len());
    let mut quoted = false;
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => plain.extend(bytes.next()),
            byte => plain.push(byte),
        }
    }
    let mut out = Vec::with_capacity(plain.len());
    let mut rest = plain.as_slice();
    while let [first, after @ ..] = rest {
        let decoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match decoded {
            Some((high, low)) => {
                out.push(high * 16 + low);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_was_encoded() {
        for (value, expected) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u{20ac} \u{1f600}"),
            ("\"a \\\"b\\\" \\\\c\"", "a \"b\" \\c"),
            ("50%25", "50%"),
            ("%2525", "%25"),
            ("100%", "100%"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(decode(value.as_bytes()).as_deref(), Some(expected), "{value}");
        }
        assert_eq!(decode(b"%ff"), None);
    }
}
