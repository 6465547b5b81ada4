//! How a tool proves that it is the source: a token of its own, or a signature. Never in the URL, which gets logged.

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header};

use crate::digest::sha256;

/// GitHub's signature: `sha256=` and the HMAC-SHA-256 of the body in hexadecimal.
const SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// The token, for tools that can send headers but no `Authorization`.
const TOKEN: HeaderName = HeaderName::from_static("x-carillon-token");

/// Whether a header is nobody's to quote.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    [
        header::AUTHORIZATION,
        header::COOKIE,
        header::PROXY_AUTHORIZATION,
        TOKEN,
        SIGNATURE,
    ]
    .contains(name)
}

/// Whether the request carries the source's token: as a bearer token, as the password of basic authentication, or in
/// `X-Carillon-Token`.
pub(super) fn has_token(headers: &HeaderMap, secret: &[u8]) -> bool {
    // Digests, so that not even the length can be told from the time.
    let expected = sha256(secret);
    let is = |given: &[u8]| constant_time::verify_slices_are_equal(&sha256(given), &expected).is_ok();
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let authorized = authorization
        .and_then(|value| value.split_once(' '))
        .is_some_and(|(scheme, rest)| {
            let rest = rest.trim();
            if scheme.eq_ignore_ascii_case("bearer") {
                is(rest.as_bytes())
            } else if scheme.eq_ignore_ascii_case("basic") {
                password(rest).is_some_and(|password| is(&password))
            } else {
                false
            }
        });
    authorized || headers.get(TOKEN).is_some_and(|token| is(token.as_bytes()))
}

/// Whether the request says that its body is signed.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE)
}

/// Whether the body's signature is the secret's.
pub(super) fn has_signature(headers: &HeaderMap, secret: &[u8], body: &[u8]) -> bool {
    let mut values = headers.get_all(SIGNATURE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let tag = value
        .as_bytes()
        .strip_prefix(b"sha256=")
        .and_then(|tag| hex::decode(tag).ok());
    tag.is_some_and(|tag| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), body, &tag).is_ok())
}

/// The password of basic authentication (RFC 7617); the name does not matter.
fn password(encoded: &str) -> Option<Vec<u8>> {
    let decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header"));
        headers
    }

    #[test]
    fn a_token_comes_in_three_ways() {
        let secret = b"s3cret: with / colon";
        for headers in [
            with("authorization", "Bearer s3cret: with / colon"),
            with("authorization", "bearer  s3cret: with / colon"),
            // any name and the secret
            with("authorization", "Basic Z3JhZmFuYTpzM2NyZXQ6IHdpdGggLyBjb2xvbg=="),
            with("x-carillon-token", "s3cret: with / colon"),
        ] {
            assert!(has_token(&headers, secret), "{headers:?}");
            assert!(!has_token(&headers, b"another"));
        }
        for headers in [
            HeaderMap::new(),
            with("authorization", "s3cret: with / colon"),
            with("authorization", "Basic %%%"),
            with("authorization", "Basic Z3JhZmFuYQ=="),
            with("x-carillon-token", ""),
        ] {
            assert!(!has_token(&headers, secret), "{headers:?}");
        }
    }

    /// The example of GitHub's documentation, "Validating webhook deliveries".
    #[test]
    fn a_signature_is_githubs() {
        let secret = b"It's a Secret to Everybody";
        let tag = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let headers = with("x-hub-signature-256", tag);
        assert!(has_signature(&headers, secret, b"Hello, World!"));
        assert!(!has_signature(&headers, secret, b"Hello, World?"));
        assert!(!has_signature(&headers, b"another", b"Hello, World!"));
        for bad in ["", "sha256=", "sha1=757107ea", &tag[..70], &tag.replace('7', "g")] {
            let headers = with("x-hub-signature-256", bad);
            assert!(!has_signature(&headers, secret, b"Hello, World!"), "{bad}");
        }
        let mut twice = headers.clone();
        twice.append(SIGNATURE, HeaderValue::from_static("sha256=00"));
        assert!(!has_signature(&twice, secret, b"Hello, World!"));
    }
}
