//! Tokens that must not get in. Every one is refused with the same words, one audit event without a trace of the token,
//! and without anybody being asked for a key.

use std::{
    cell::RefCell,
    io::Write,
    sync::{Arc, Once},
};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use carillon_domain::{
    Clock as _,
    ports::{AuthError, Authenticate as _},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{PREVIOUS, SECRET, World, acme, default};
use crate::signing::SigningKey;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hs256(secret: &[u8], message: &str) -> String {
    b64(hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        message.as_bytes(),
    ))
}

/// What a case signs with.
struct Forge {
    own: Arc<SigningKey>,
    foreign: Arc<SigningKey>,
    now: i64,
}

impl Forge {
    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.own.kid})
    }

    fn claims(&self) -> Value {
        json!({"iss": "carillon", "aud": "carillon", "sub": "ada", "tenant": "default", "iat": self.now,
            "exp": self.now + 600, "jti": "abc", "topics": {"subscribe": ["room.*"]}, "device": "laptop"})
    }

    /// Signed by our own key, whatever the parts say.
    fn raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.own.sign(message.as_bytes());
        format!("{message}.{signature}")
    }

    fn own(&self, header: &Value, claims: &Value) -> String {
        self.raw(&header.to_string(), &claims.to_string())
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        self.own(&changed(self.header(), name, value), &self.claims())
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        self.own(&self.header(), &changed(self.claims(), name, value))
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims();
        claims.as_object_mut().expect("an object").remove(name);
        self.own(&self.header(), &claims)
    }

    fn shared_claims(&self) -> Value {
        json!({"sub": "ada", "iat": self.now, "exp": self.now + 600, "jti": "abc"})
    }

    fn shared_raw(&self, header: &str, claims: &str, secret: &[u8]) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = hs256(secret, &message);
        format!("{message}.{signature}")
    }

    fn shared(&self, claims: &Value) -> String {
        self.shared_raw(
            r#"{"alg":"HS256","typ":"JWT"}"#,
            &claims.to_string(),
            SECRET.as_bytes(),
        )
    }

    fn shared_with(&self, name: &str, value: Value) -> String {
        self.shared(&changed(self.shared_claims(), name, value))
    }

    /// Our claims under HS256 with something public for a secret.
    fn confused(&self, secret: &[u8]) -> String {
        let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": self.own.kid});
        self.shared_raw(&header.to_string(), &self.claims().to_string(), secret)
    }
}

fn changed(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

/// Respells the last character of a part so that it decodes to the same bytes.
fn noncanonical(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = part.bytes().last().expect("not empty");
    let at = ALPHABET.iter().position(|b| *b == last).expect("base64");
    let respelled = char::from(ALPHABET[at | 1]);
    assert_ne!(char::from(last), respelled, "the case needs unused bits");
    format!("{}{respelled}", &part[..part.len() - 1])
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases(forge: &Forge, attacker: &str) -> Vec<(String, String)> {
    let good = forge.own(&forge.header(), &forge.claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let now = forge.now;
    let mut cases: Vec<(String, String)> = Vec::new();
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

    // Signatures.
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

    // Keys from elsewhere.
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

    // Forms.
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

    // Claims.
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

    // The shared secret.
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

thread_local! {
    /// What this test's thread logged since it began to listen.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// A test runs on one thread; the subscriber is the whole process's, because tracing remembers per event whether
/// anybody at all listens.
#[derive(Clone, Copy)]
struct Log;

impl Log {
    fn listen() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::TRACE)
                .with_writer(|| Log)
                .init();
        });
        LOGGED.set(Some(Vec::new()));
        Self
    }

    fn take(self) -> String {
        String::from_utf8(LOGGED.replace(Some(Vec::new())).unwrap_or_default()).expect("text")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(logged) = logged {
                logged.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn forge(world: &World) -> Forge {
    let now = world.clock.now();
    world.key(&acme(), &[carillon_domain::Scope::TokensWrite]).await;
    Forge {
        own: world.auth.signing.signer(&default(), now).await.expect("a key"),
        foreign: world.auth.signing.signer(&acme(), now).await.expect("a key"),
        now: now.as_seconds(),
    }
}

#[tokio::test]
async fn what_is_not_quite_a_token_is_refused_and_audited_without_a_trace_of_it() {
    let world = World::sqlite().await;
    let forge = forge(&world).await;
    // The controls: the forge makes good tokens as long as it changes nothing.
    world
        .bearer(&forge.own(&forge.header(), &forge.claims()))
        .await
        .expect("a good token of our own");
    world
        .bearer(&forge.shared(&forge.shared_claims()))
        .await
        .expect("a good token of the shared secret");

    let attacker = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", attacker.local_addr().expect("an address"));
    let cases = cases(&forge, &url);
    assert!(cases.len() >= 80, "{}", cases.len());

    let log = Log::listen();
    let mut let_in = Vec::new();
    for (name, token) in &cases {
        match world.bearer(token).await {
            Err(AuthError::Invalid | AuthError::Expired) => {}
            other => let_in.push(format!("{name}: {other:?}")),
        }
        let events = log.take();
        let audited = events.matches("carillon::audit: credential refused").count();
        assert_eq!(audited, 1, "{name}: {events}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!events.contains(part), "{name} is in the log: {events}");
        }
    }
    assert!(
        let_in.is_empty(),
        "{} of {}: {}",
        let_in.len(),
        cases.len(),
        let_in.join("\n")
    );
    let asked = tokio::time::timeout(std::time::Duration::from_millis(50), attacker.accept()).await;
    assert!(asked.is_err(), "somebody was asked for a key");
}

#[tokio::test]
async fn no_character_of_a_token_can_be_another() {
    let world = World::sqlite().await;
    let forge = forge(&world).await;
    for good in [
        forge.own(&forge.header(), &forge.claims()),
        forge.shared(&forge.shared_claims()),
    ] {
        world.bearer(&good).await.expect("good");
        for at in 0..good.len() {
            for other in ["A", "B", "_", ".", "=", " ", "\0", "\u{e9}", ""] {
                if &good[at..=at] != other {
                    let changed = format!("{}{other}{}", &good[..at], &good[at + 1..]);
                    assert!(world.bearer(&changed).await.is_err(), "{at} {other:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn refused_keys_tickets_and_cookies_leave_no_trace_in_the_log() {
    let world = World::sqlite().await;
    let key = world.key(&acme(), &[carillon_domain::Scope::TokensWrite]).await;
    let wrong = format!(
        "{}{}",
        &key[..80],
        if key.ends_with("0000") { "1111" } else { "0000" }
    );
    let session = "0123456789abcdef0123456789abcdef";
    let log = Log::listen();
    for (tenant, credential) in [(default(), &key), (acme(), &wrong)] {
        assert!(world.auth.bearer(&tenant, credential).await.is_err());
    }
    assert!(world.auth.ticket(&default(), session).await.is_err());
    assert!(world.auth.stream_cookie(&default(), session).await.is_err());
    let text = log.take();
    assert_eq!(text.matches("credential refused").count(), 4, "{text}");
    for secret in [&key[36..], &wrong[36..], session] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn every_refusal_has_the_same_answer() {
    let world = World::sqlite().await;
    let forge = forge(&world).await;
    let key = world.key(&acme(), &[carillon_domain::Scope::TokensWrite]).await;
    let expired = forge.with_claim("exp", json!(forge.now - 61));
    let mut answers = Vec::new();
    for credential in [
        "",
        "x",
        "crk_x",
        &key,
        &expired,
        &forge.shared_with("sub", json!("")),
    ] {
        let answer = world
            .call(
                http::Method::POST,
                "/v1/tokens",
                credential,
                json!({"user": "ada"}),
            )
            .await;
        assert_eq!(
            answer.headers["www-authenticate"],
            "Bearer error=\"invalid_token\""
        );
        let mut body = answer.expect(401);
        body.as_object_mut().expect("an object").remove("trace_id");
        answers.push(body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test]
async fn a_token_of_one_tenant_is_nothing_under_another() {
    let world = World::sqlite().await;
    let forge = forge(&world).await;
    let own = forge.own(&forge.header(), &forge.claims());
    let shared = forge.shared(&forge.shared_claims());
    for tenant in [acme(), "nobody".parse().expect("a tenant")] {
        for token in [&own, &shared] {
            assert!(matches!(
                world.auth.bearer(&tenant, token).await,
                Err(AuthError::Invalid)
            ));
            // Also once it is remembered as verified for its own tenant.
            world.bearer(token).await.expect("good at home");
            assert!(matches!(
                world.auth.bearer(&tenant, token).await,
                Err(AuthError::Invalid)
            ));
        }
    }
}

#[tokio::test]
async fn subscription_tokens_are_their_own_kind() {
    let world = World::sqlite().await;
    let forge = forge(&world).await;
    let claims = json!({"sub": "ada", "channel": "room.1", "exp": forge.now + 600});
    let grant = world
        .auth
        .subscription(&default(), &forge.shared(&claims))
        .await
        .expect("granted");
    assert_eq!((grant.user.as_str(), grant.topic.as_str()), ("ada", "room.1"));
    assert_eq!(
        grant.expires_at.map(carillon_domain::Timestamp::as_seconds),
        Some(forge.now + 600)
    );
    let forever = changed(claims.clone(), "expire_at", json!(0));
    let grant = world
        .auth
        .subscription(&default(), &forge.shared(&forever))
        .await
        .expect("granted");
    assert_eq!(grant.expires_at, None);
    let refused = [
        forge.shared(&forge.shared_claims()),
        forge.own(
            &forge.header(),
            &changed(forge.claims(), "channel", json!("room.1")),
        ),
        forge.shared(&changed(claims.clone(), "channel", json!("carillon:inbox"))),
        forge.shared(&changed(claims.clone(), "channel", json!(7))),
        forge.shared(&changed(claims.clone(), "sub", json!(""))),
        forge.shared(&changed(claims.clone(), "exp", json!(forge.now))),
        forge.shared(&changed(claims.clone(), "exp", json!("x"))),
        forge.shared_raw(
            r#"{"alg":"HS256"}"#,
            &claims.to_string(),
            b"another secret of thirty-two bytes",
        ),
        String::new(),
    ];
    for token in refused {
        assert!(
            world.auth.subscription(&default(), &token).await.is_err(),
            "{token}"
        );
    }
    assert!(
        world
            .auth
            .subscription(&acme(), &forge.shared(&claims))
            .await
            .is_err()
    );
}
