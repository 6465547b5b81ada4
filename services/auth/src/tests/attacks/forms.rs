//! Texts that are not quite a token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use serde_json::{Value, json};

use super::forge::{Cases, Forge, parts};

/// Respells the last character of a part so that it decodes to the same bytes.
fn noncanonical(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = part.bytes().last().expect("not empty");
    let at = ALPHABET.iter().position(|b| *b == last).expect("base64");
    let respelled = char::from(ALPHABET[at | 1]);
    assert_ne!(char::from(last), respelled, "the case needs unused bits");
    format!("{}{respelled}", &part[..part.len() - 1])
}

pub(super) fn cases(forge: &Forge) -> Cases {
    let good = forge.own(&forge.header(), &forge.claims());
    let [header, claims, signature] = parts(&good);
    let mut cases = Cases::new();
    let mut case = |name: &str, token: String| cases.push((name.to_owned(), token));

    case("empty", String::new());
    case("one dot", format!("{header}.{claims}"));
    case("two dots alone", "..".to_owned());
    case("three dots", format!("{good}."));
    case(
        "five parts (JWE)",
        format!("{header}.{claims}.{claims}.{claims}.{signature}"),
    );
    case("no header", format!(".{claims}.{signature}"));
    case("no claims", format!("{header}..{signature}"));
    case("a leading space", format!(" {good}"));
    case("a trailing line feed", format!("{good}\n"));
    case(
        "padding",
        format!("{}.{claims}.{signature}", URL_SAFE.encode(br#"{"alg":"EdDSA"}"#)),
    );
    case("padded signature", format!("{good}=="));
    case(
        "standard base64",
        format!("{header}.{claims}.{}", "+/".repeat(43)),
    );
    case("no base64", format!("{header}.%%%.{signature}"));
    case(
        "a signature respelled",
        format!("{header}.{claims}.{}", noncanonical(signature)),
    );
    case("a NUL", format!("{header}\0.{claims}.{signature}"));
    case(
        "larger than 8 KiB",
        forge.with_claim("pad", json!("x".repeat(8_000))),
    );
    case("header twice the same key", {
        forge.raw(
            &format!(
                r#"{{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#,
                forge.own.kid
            ),
            &forge.claims().to_string(),
        )
    });
    case(
        "header no object",
        forge.raw(r#"["EdDSA"]"#, &forge.claims().to_string()),
    );
    case(
        "header no JSON",
        forge.raw("alg=EdDSA", &forge.claims().to_string()),
    );
    case("claims no object", forge.raw(&forge.header().to_string(), "[]"));
    case(
        "claims no JSON",
        forge.raw(&forge.header().to_string(), "sub=ada"),
    );
    case("claims with a byte order mark", {
        forge.raw(
            &forge.header().to_string(),
            &format!("\u{feff}{}", forge.claims()),
        )
    });
    case("claims twice the same key", {
        let claims = forge.claims().to_string();
        forge.raw(
            &forge.header().to_string(),
            &claims.replacen('{', r#"{"sub":"root","#, 1),
        )
    });
    case("claims twice the same key, respelled", {
        let claims = forge.claims().to_string();
        forge.raw(
            &forge.header().to_string(),
            &claims.replacen('{', r#"{"\u0073ub":"root","#, 1),
        )
    });
    case("claims nested too deep", {
        let claims = forge.claims().to_string();
        let deep = format!(r#"{{"x":{}{},"#, "[".repeat(100), "]".repeat(100));
        forge.raw(&forge.header().to_string(), &claims.replacen('{', &deep, 1))
    });
    for typ in [
        json!("JWT"),
        json!("id+jwt"),
        json!("rt+jwt"),
        json!("AT+JWT "),
        json!(""),
        json!(1),
        Value::Null,
    ] {
        case(&format!("typ {typ}"), forge.with_header("typ", typ));
    }
    case(
        "typ missing",
        forge.own(&json!({"alg": "EdDSA", "kid": forge.own.kid}), &forge.claims()),
    );
    cases
}
