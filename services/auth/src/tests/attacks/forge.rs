//! Tokens made with our own keys and the shared secret, and changed on the way.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_domain::Clock as _;
use serde_json::{Value, json};

use super::super::{SECRET, World, acme, default};
use crate::signing::SigningKey;

/// What each case is, and its token.
pub(super) type Cases = Vec<(String, String)>;

/// Base64 as tokens have it.
pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hs256(secret: &[u8], message: &str) -> String {
    b64(hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        message.as_bytes(),
    ))
}

/// What a case signs with.
pub(super) struct Forge {
    pub(super) own: Arc<SigningKey>,
    pub(super) foreign: Arc<SigningKey>,
    pub(super) now: i64,
}

impl Forge {
    /// With the keys of `default` and of another tenant.
    pub(super) async fn new(world: &World) -> Self {
        let now = world.clock.now();
        world.key(&acme(), &[carillon_domain::Scope::TokensWrite]).await;
        Self {
            own: world.auth.signing.signer(&default(), now).await.expect("a key"),
            foreign: world.auth.signing.signer(&acme(), now).await.expect("a key"),
            now: now.as_seconds(),
        }
    }

    pub(super) fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.own.kid})
    }

    pub(super) fn claims(&self) -> Value {
        json!({"iss": "carillon", "aud": "carillon", "sub": "ada", "tenant": "default", "iat": self.now,
            "exp": self.now + 600, "jti": "abc", "topics": {"subscribe": ["room.*"]}, "device": "laptop"})
    }

    /// Signed by our own key, whatever the parts say.
    pub(super) fn raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.own.sign(message.as_bytes());
        format!("{message}.{signature}")
    }

    pub(super) fn own(&self, header: &Value, claims: &Value) -> String {
        self.raw(&header.to_string(), &claims.to_string())
    }

    pub(super) fn with_header(&self, name: &str, value: Value) -> String {
        self.own(&changed(self.header(), name, value), &self.claims())
    }

    pub(super) fn with_claim(&self, name: &str, value: Value) -> String {
        self.own(&self.header(), &changed(self.claims(), name, value))
    }

    pub(super) fn without_claim(&self, name: &str) -> String {
        let mut claims = self.claims();
        claims.as_object_mut().expect("an object").remove(name);
        self.own(&self.header(), &claims)
    }

    pub(super) fn shared_claims(&self) -> Value {
        json!({"sub": "ada", "iat": self.now, "exp": self.now + 600, "jti": "abc"})
    }

    pub(super) fn shared_raw(&self, header: &str, claims: &str, secret: &[u8]) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = hs256(secret, &message);
        format!("{message}.{signature}")
    }

    pub(super) fn shared(&self, claims: &Value) -> String {
        self.shared_raw(
            r#"{"alg":"HS256","typ":"JWT"}"#,
            &claims.to_string(),
            SECRET.as_bytes(),
        )
    }

    pub(super) fn shared_with(&self, name: &str, value: Value) -> String {
        self.shared(&changed(self.shared_claims(), name, value))
    }

    /// Our claims under HS256 with something public for a secret.
    pub(super) fn confused(&self, secret: &[u8]) -> String {
        let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": self.own.kid});
        self.shared_raw(&header.to_string(), &self.claims().to_string(), secret)
    }
}

pub(super) fn changed(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

/// A token's header, claims and signature.
pub(super) fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("three parts")
}
