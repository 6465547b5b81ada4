//! Well-signed tokens of our own whose claims do not fit.

use serde_json::{Value, json};

use super::forge::{Cases, Forge};

pub(super) fn cases(forge: &Forge) -> Cases {
    let mut cases = Cases::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));

    let now = forge.now;
    for name in ["iss", "aud", "sub", "tenant", "iat", "exp", "jti"] {
        case(&format!("{name} missing"), forge.without_claim(name));
        case(&format!("{name} null"), forge.with_claim(name, Value::Null));
        case(&format!("{name} object"), forge.with_claim(name, json!({})));
    }
    let far = now + 600;
    for name in ["exp", "iat", "nbf"] {
        for value in [
            json!(far.to_string()),
            json!(far as f64 + 0.5),
            json!(-1),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e30),
            json!([far]),
            json!(true),
        ] {
            case(&format!("{name} {value}"), forge.with_claim(name, value));
        }
    }
    case("exp 2^63 in digits", {
        let claims = forge.claims().to_string();
        forge.raw(
            &forge.header().to_string(),
            &claims.replace(&far.to_string(), "9223372036854775808"),
        )
    });
    case("exp in exponents", {
        let claims = forge.claims().to_string();
        forge.raw(
            &forge.header().to_string(),
            &claims.replace(&far.to_string(), "4e9"),
        )
    });
    case("expired by 61 s", forge.with_claim("exp", json!(now - 61)));
    case("expired for long", forge.with_claim("exp", json!(0)));
    case("issued in the future", forge.with_claim("iat", json!(now + 61)));
    case("not valid yet", forge.with_claim("nbf", json!(now + 61)));
    case(
        "issuer other",
        forge.with_claim("iss", json!("https://evil.example")),
    );
    case("issuer prefix", forge.with_claim("iss", json!("carillo")));
    case("issuer list", forge.with_claim("iss", json!(["carillon"])));
    case(
        "audience other",
        forge.with_claim("aud", json!("another-service")),
    );
    case(
        "audience list",
        forge.with_claim("aud", json!(["carillon", "another-service"])),
    );
    case("audience empty", forge.with_claim("aud", json!("")));
    case("tenant other", forge.with_claim("tenant", json!("acme")));
    case("tenant list", forge.with_claim("tenant", json!(["default"])));
    case("tenant in capitals", forge.with_claim("tenant", json!("DEFAULT")));
    case("subject empty", forge.with_claim("sub", json!("")));
    case(
        "subject too long",
        forge.with_claim("sub", json!("x".repeat(256))),
    );
    case("subject with a NUL", forge.with_claim("sub", json!("ada\0")));
    case("subject number", forge.with_claim("sub", json!(7)));
    case("jti empty", forge.with_claim("jti", json!("")));
    case("jti number", forge.with_claim("jti", json!(7)));
    case("topics list", forge.with_claim("topics", json!(["*"])));
    case(
        "topics unknown member",
        forge.with_claim("topics", json!({"admin": ["*"]})),
    );
    case(
        "topics bad pattern",
        forge.with_claim("topics", json!({"subscribe": ["a b"]})),
    );
    case("device malformed", forge.with_claim("device", json!("../etc")));
    cases
}
