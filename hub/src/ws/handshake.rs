//! The WebSocket opening handshake (RFC 6455, section 4.2).

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use carillon_runtime::http::Problem;
use http::{HeaderMap, HeaderName, StatusCode, header};

/// The subprotocol of Centrifugo's JSON form; a client may also offer none.
const JSON: &str = "centrifuge-json";

/// Checks the request's head and answers the head of the 101.
///
/// # Errors
/// 400 for what is no WebSocket handshake or speaks another subprotocol; 426 for another version.
pub(crate) fn accept(headers: &HeaderMap) -> Result<Bytes, Refused> {
    if !lists(headers, &header::CONNECTION, "upgrade") || !lists(headers, &header::UPGRADE, "websocket") {
        return Err(Refused::malformed(
            "This address speaks WebSocket: Connection: Upgrade and Upgrade: websocket.",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refused::Version);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(http::HeaderValue::as_bytes)
        .unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(Refused::malformed("Sec-WebSocket-Key is not 16 bytes in base64."));
    }
    let offers = headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let json = lists(headers, &header::SEC_WEBSOCKET_PROTOCOL, JSON);
    if offers && !json {
        return Err(Refused::malformed(
            "Of the subprotocols only centrifuge-json is spoken here so far.",
        ));
    }
    let mut head = String::with_capacity(192);
    head.push_str("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    head.push_str(&accept_key(key));
    if json {
        head.push_str("\r\nSec-WebSocket-Protocol: ");
        head.push_str(JSON);
    }
    head.push_str("\r\n\r\n");
    Ok(head.into())
}

/// Why there is no WebSocket.
pub(crate) enum Refused {
    /// 400, or another status.
    Problem(Problem),
    /// 426, naming the version that is spoken.
    Version,
}

impl Refused {
    fn malformed(detail: &'static str) -> Self {
        Self::Problem(Problem::malformed(detail))
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> axum::response::Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Version => {
                let problem = Problem::new(
                    StatusCode::UPGRADE_REQUIRED,
                    "upgrade_required",
                    "Only version 13 of the WebSocket protocol is spoken.",
                );
                let version = [
                    (header::SEC_WEBSOCKET_VERSION, "13"),
                    (header::UPGRADE, "websocket"),
                ];
                (version, problem).into_response()
            }
        }
    }
}

fn accept_key(key: &[u8]) -> String {
    // SHA-1 guards nothing here: it only shows that the server understood the handshake.
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_gets_its_answer() {
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
