//! Signatures that are none, or another message's.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::forge::{Cases, Forge, b64, changed, parts};

pub(super) fn cases(forge: &Forge) -> Cases {
    let good = forge.own(&forge.header(), &forge.claims());
    let [header, claims, signature] = parts(&good);
    let mut cases = Cases::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));

    case(
        "signature of zeros",
        format!("{header}.{claims}.{}", b64([0; 64])),
    );
    case(
        "signature of ones",
        format!("{header}.{claims}.{}", b64([0xff; 64])),
    );
    case(
        "signature cut short",
        format!("{header}.{claims}.{}", &signature[..80]),
    );
    case(
        "signature prolonged",
        format!("{header}.{claims}.{signature}AAAA"),
    );
    case("signature of another message", {
        let other = forge.with_claim("sub", json!("bob"));
        format!("{header}.{claims}.{}", other.rsplit('.').next().expect("a part"))
    });
    case("S plus the group's order", {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let order =
            hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").expect("hex");
        let mut carry = 0_u16;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = u8::try_from(sum & 0xff).expect("a byte");
            carry = sum >> 8;
        }
        format!("{header}.{claims}.{}", b64(bytes))
    });
    case("ES256 with r = s = 0", {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": forge.own.kid}).to_string();
        format!("{}.{claims}.{}", b64(header), b64([0; 64]))
    });
    case("another Ed25519 key under our key's id", {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let message = format!("{header}.{claims}");
        format!("{message}.{}", b64(pair.sign(message.as_bytes())))
    });
    case("claims changed after signing", {
        let other = changed(forge.claims(), "sub", json!("root")).to_string();
        format!("{header}.{}.{signature}", b64(other))
    });
    cases
}
