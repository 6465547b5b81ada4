//! Keys from elsewhere: brought along, pointed at, or another tenant's.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::forge::{Cases, Forge, b64, changed, parts};

/// `attacker` is an address at which nobody may ask for a key.
pub(super) fn cases(forge: &Forge, attacker: &str) -> Cases {
    let good = forge.own(&forge.header(), &forge.claims());
    let [_, claims, _] = parts(&good);
    let mut cases = Cases::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));

    let pair = Ed25519KeyPair::generate().expect("a key");
    let evil = json!({"kty": "OKP", "crv": "Ed25519", "kid": "evil", "x": b64(pair.public_key())});
    for (name, value) in [
        ("jwk", evil.clone()),
        ("jku", json!(format!("{attacker}/jwks.json"))),
        ("x5u", json!(format!("{attacker}/cert.pem"))),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("abc")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("epk", evil),
    ] {
        let mut header = changed(forge.header(), name, value);
        case(
            &format!("header {name}, our signature"),
            forge.own(&header, &forge.claims()),
        );
        header.as_object_mut().expect("an object").remove("kid");
        let message = format!("{}.{claims}", b64(header.to_string()));
        case(&format!("header {name}, the attacker's signature"), {
            format!("{message}.{}", b64(pair.sign(message.as_bytes())))
        });
    }
    for kid in [
        "../../dev/null".to_owned(),
        "' OR 1=1 --".to_owned(),
        "|cmd".to_owned(),
        "x\0y".to_owned(),
        String::new(),
        "A".repeat(43),
        "A".repeat(300),
        forge.foreign.kid.clone(),
    ] {
        let name = format!("kid {:?}", &kid[..kid.len().min(20)]);
        case(&name, forge.with_header("kid", json!(kid)));
    }
    case("kid number", forge.with_header("kid", json!(1)));
    case("kid list", forge.with_header("kid", json!([forge.own.kid])));
    case("another tenant's key, its own claims", {
        let header = changed(forge.header(), "kid", json!(forge.foreign.kid)).to_string();
        let message = format!(
            "{}.{}",
            b64(header),
            b64(changed(forge.claims(), "tenant", json!("acme")).to_string())
        );
        format!("{message}.{}", forge.foreign.sign(message.as_bytes()))
    });
    case("another tenant's key, our claims", {
        let header = changed(forge.header(), "kid", json!(forge.foreign.kid)).to_string();
        let message = format!("{}.{claims}", b64(header));
        format!("{message}.{}", forge.foreign.sign(message.as_bytes()))
    });
    cases
}
