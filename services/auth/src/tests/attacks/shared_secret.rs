//! Tokens of the shared secret, or nearly.

use serde_json::{Value, json};

use super::{
    super::SECRET,
    forge::{Cases, Forge},
};

pub(super) fn cases(forge: &Forge) -> Cases {
    let mut cases = Cases::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));

    let now = forge.now;
    let far = now + 600;
    case(
        "HS256 empty secret",
        forge.shared_raw(r#"{"alg":"HS256"}"#, &forge.shared_claims().to_string(), b""),
    );
    case("HS256 another secret", {
        forge.shared_raw(
            r#"{"alg":"HS256"}"#,
            &forge.shared_claims().to_string(),
            b"secret",
        )
    });
    for alg in ["HS384", "HS512", "hs256", "none", "EdDSA"] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        case(&format!("shared, alg {alg}"), {
            forge.shared_raw(&header, &forge.shared_claims().to_string(), SECRET.as_bytes())
        });
    }
    for typ in ["at+jwt", "id+jwt", "rt+jwt", "logout+jwt", "JWE"] {
        let header = json!({"alg": "HS256", "typ": typ}).to_string();
        case(&format!("shared, typ {typ}"), {
            forge.shared_raw(&header, &forge.shared_claims().to_string(), SECRET.as_bytes())
        });
    }
    for (name, value) in [
        ("sub", json!("")),
        ("sub", json!(42)),
        ("sub", Value::Null),
        ("exp", json!(far.to_string())),
        ("exp", json!(far as f64 + 0.5)),
        ("exp", json!(-1)),
        ("exp", Value::Null),
        ("exp", json!(now)),
        ("exp", json!(now - 61)),
        ("nbf", json!("0")),
        ("nbf", json!(now + 61)),
        ("iat", json!(now + 61)),
        ("iat", json!("now")),
        ("jti", json!(1)),
        ("aud", json!(1)),
        ("aud", json!(["a", 1])),
        ("iss", json!(["a"])),
        ("channels", json!("news")),
        ("channels", json!(["carillon:inbox"])),
        ("channels", json!(["a b"])),
        ("subs", json!(["news"])),
        ("subs", json!({"news": 1})),
        ("subs", json!({"carillon:inbox": {}})),
        ("b64info", json!("%%%")),
        ("b64info", json!("bm90IGpzb24=")),
        ("expire_at", json!("never")),
        ("topics", json!({"subscribe": "*"})),
        ("topics", json!([["*"], ["*"]])),
        ("topics", Value::Null),
        ("device", json!("a b")),
        ("channel", json!("news")),
    ] {
        case(&format!("shared, {name} {value}"), forge.shared_with(name, value));
    }
    case("shared, no subject", forge.shared(&json!({"exp": far})));
    case("shared, the same key twice", {
        let claims = forge
            .shared_claims()
            .to_string()
            .replacen('{', r#"{"sub":"root","#, 1);
        forge.shared_raw(r#"{"alg":"HS256"}"#, &claims, SECRET.as_bytes())
    });
    cases
}
