//! Another algorithm than the key's, and what is public in the place of a secret.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    super::{PREVIOUS, SECRET},
    forge::{Cases, Forge, b64, changed, parts},
};

pub(super) fn cases(forge: &Forge) -> Cases {
    let good = forge.own(&forge.header(), &forge.claims());
    let [_, claims, _] = parts(&good);
    let mut cases = Cases::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));

    for alg in [
        "none", "None", "NONE", "nOnE", "", "EDDSA", "eddsa", "Ed25519", "RS256", "ES256", "PS256", "HS384",
    ] {
        case(
            &format!("alg {alg:?}, signed"),
            forge.with_header("alg", json!(alg)),
        );
        let unsigned = changed(forge.header(), "alg", json!(alg)).to_string();
        case(
            &format!("alg {alg:?}, unsigned"),
            format!("{}.{claims}.", b64(unsigned)),
        );
    }
    case(
        "alg missing",
        forge.own(&json!({"typ": "at+jwt", "kid": forge.own.kid}), &forge.claims()),
    );
    case("alg null", forge.with_header("alg", Value::Null));
    case("alg list", forge.with_header("alg", json!(["EdDSA"])));
    case("alg object", forge.with_header("alg", json!({"0": "EdDSA"})));

    // RS256 -> HS256 and its like: what is public is no secret.
    let jwk = forge.own.jwk();
    let jwk = serde_json::to_value(&jwk).expect("JSON");
    let public = URL_SAFE_NO_PAD
        .decode(jwk["x"].as_str().expect("x"))
        .expect("base64");
    let der = [
        &hex::decode("302a300506032b6570032100").expect("hex")[..],
        &public,
    ]
    .concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&der)
    );
    for (name, secret) in [
        ("raw", public.clone()),
        ("DER", der),
        ("PEM", pem.clone().into_bytes()),
        (
            "PEM without the last line feed",
            pem.trim_end().as_bytes().to_vec(),
        ),
        ("JWK", jwk.to_string().into_bytes()),
        ("x", jwk["x"].as_str().expect("x").as_bytes().to_vec()),
        ("kid", forge.own.kid.clone().into_bytes()),
        ("nothing", Vec::new()),
        ("the shared secret", SECRET.as_bytes().to_vec()),
        ("the previous shared secret", PREVIOUS.as_bytes().to_vec()),
    ] {
        case(
            &format!("HS256 with our key's id and {name} as the secret"),
            forge.confused(&secret),
        );
        let bare = forge.shared_raw(r#"{"alg":"HS256"}"#, &forge.claims().to_string(), &secret);
        if !name.ends_with("secret") {
            case(&format!("HS256 with {name} as the secret"), bare);
        }
    }
    case("our key under HS256's name", {
        forge.raw(
            r#"{"alg":"HS256","typ":"JWT"}"#,
            &forge.shared_claims().to_string(),
        )
    });
    case(
        "an own token without a key id",
        forge.own(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &forge.claims()),
    );
    cases
}
