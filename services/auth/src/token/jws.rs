use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_runtime::http::parse_json;
use serde_json::{Map, Value};

/// Header members that bring keys or change how the rest is read. None of ours has any, and each has been an attack.
const FORBIDDEN: [&str; 14] = [
    "crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "zip", "enc", "epk", "apu", "p2s", "p2c",
];

/// The longest key id that is looked at.
const MAX_KID: usize = 255;

/// A token taken apart (RFC 7515, compact). Nothing in it is to be believed before its signature was verified.
pub(super) struct Jws<'a> {
    /// What was signed.
    pub(super) signed: &'a [u8],
    /// In base64, canonical.
    pub(super) signature: &'a str,
    pub(super) header: Header,
    payload: &'a str,
}

/// What we read of a token's header.
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: Option<String>,
    pub(super) kid: Option<String>,
}

impl<'a> Jws<'a> {
    /// Takes `token` apart: exactly three parts, each in canonical base64, and a harmless header.
    ///
    /// # Errors
    /// What is wrong, for the audit.
    pub(super) fn parse(token: &'a str) -> Result<Self, &'static str> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("it has not three parts");
        };
        if decode(signature)?.is_empty() {
            return Err("it has no signature");
        }
        Ok(Self {
            signed: &token.as_bytes()[..header.len() + 1 + payload.len()],
            signature,
            header: read_header(header)?,
            payload,
        })
    }

    /// The claims. Call it once the signature is verified.
    ///
    /// # Errors
    /// What is wrong, for the audit.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, &'static str> {
        parse_json(&decode(self.payload)?).map_err(|_| "its claims are no strict JSON object")
    }
}

/// Canonical base64 without padding: one text for the same bytes, so that a token cannot be respelled.
fn decode(part: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| "a part is no canonical base64")
}

fn read_header(part: &str) -> Result<Header, &'static str> {
    let mut members: Map<String, Value> =
        parse_json(&decode(part)?).map_err(|_| "its header is no strict JSON object")?;
    if FORBIDDEN.iter().any(|name| members.contains_key(*name)) {
        return Err("its header has a member that is not allowed");
    }
    let mut text = |name: &str| match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("a member of its header is no text"),
    };
    let alg = text("alg")?.ok_or("its header has no alg")?;
    let typ = text("typ")?;
    let kid = text("kid")?;
    if kid
        .as_ref()
        .is_some_and(|kid| kid.len() > MAX_KID || kid.chars().any(char::is_control))
    {
        return Err("its key id is malformed");
    }
    Ok(Header { alg, typ, kid })
}
