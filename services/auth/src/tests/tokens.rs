//! Users' tokens: minted, verified, remembered.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use carillon_domain::{
    Clock as _, Scope, TopicGrants,
    ports::{AuthError, Authenticate as _, Directory as _},
};
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{PREVIOUS, SECRET, World, acme, default, on_both, request, user};
use crate::{MintError, MintRequest};

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

fn hs256(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token")
}

on_both! {
    async fn a_minted_token_says_who_and_what(world: World) {
        let grants: TopicGrants =
            serde_json::from_value(json!({"subscribe": ["room.*"], "publish": ["room.1"]})).expect("grants");
        let asked = MintRequest {
            ttl: Some(Duration::from_secs(60)),
            device: Some("laptop".parse().expect("a device")),
            topics: grants.clone(),
            ..request("ada")
        };
        let minted = world.auth.mint(&default(), &asked).await.expect("minted");
        let token = minted.token.expose_secret();
        let header = part(token, 0);
        assert_eq!((&header["alg"], &header["typ"]), (&json!("EdDSA"), &json!("at+jwt")));
        let now = world.clock.now().as_seconds();
        assert_eq!(
            part(token, 1),
            json!({"iss": "carillon", "aud": "carillon", "sub": "ada", "tenant": "default", "iat": now,
                "exp": now + 60, "jti": minted.jti, "topics": {"subscribe": ["room.*"], "publish": ["room.1"]},
                "device": "laptop"})
        );
        let principal = world.bearer(token).await.expect("good");
        let caller = user(&principal);
        assert_eq!(caller.external.as_str(), "ada");
        assert_eq!(caller.topics, grants);
        assert_eq!(caller.device.as_ref().map(|device| device.as_str()), Some("laptop"));
        assert_eq!(caller.jti.as_deref(), Some(minted.jti.as_str()));
        assert_eq!(caller.expires_at, Some(minted.expires_at));
        assert!(caller.own_token);
        let found = world.directory.find(&default(), &caller.external).await.expect("asked");
        assert_eq!(found, Some(caller.id), "minting is a mention");

        let jwks = world.call(Method::GET, "/.well-known/jwks.json", "", Value::Null).await.expect(200);
        assert_eq!(jwks["keys"][0]["kid"], header["kid"]);
        assert_eq!(jwks["keys"].as_array().map(Vec::len), Some(1));
        let members = jwks["keys"][0].as_object().expect("a key").keys().cloned().collect::<Vec<_>>();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
        // Any verifier can: here the library on its own.
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwks["keys"][0].clone()).expect("a JWK");
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a key");
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
        validation.set_audience(&["carillon"]);
        validation.validate_exp = false;
        jsonwebtoken::decode::<Value>(token, &key, &validation).expect("verified");
    }

    async fn tokens_end_when_they_say(world: World) {
        let asked = MintRequest { ttl: Some(Duration::from_secs(10)), ..request("ada") };
        let minted = world.auth.mint(&default(), &asked).await.expect("minted");
        let token = minted.token.expose_secret();
        world.bearer(token).await.expect("good");
        world.clock.advance(Duration::from_secs(69));
        world.bearer(token).await.expect("within the leeway");
        world.clock.advance(Duration::from_secs(1));
        assert!(matches!(world.bearer(token).await, Err(AuthError::Expired)));
    }

    async fn a_backends_shared_secret_signs_tokens_as_for_centrifugo(world: World) {
        let now = world.clock.now().as_seconds();
        let claims = json!({"sub": "ada", "exp": now + 60, "iat": now, "nbf": now, "aud": ["a", "b"], "iss": "app",
            "jti": "j", "info": {"name": "Ada"}, "channels": ["news", "room.1"], "subs": {"room.1": {}, "room.2": {"info": 1}},
            "topics": {"subscribe": ["*"]}, "device": "phone", "meta": {"ignored": true}});
        for secret in [SECRET, PREVIOUS] {
            let principal = world.bearer(&hs256(&claims, secret)).await.expect("good");
            let caller = user(&principal);
            assert_eq!(caller.external.as_str(), "ada");
            assert!(!caller.own_token);
            let channels: Vec<_> = caller.channels.iter().map(|topic| topic.as_str()).collect();
            assert_eq!(channels, ["news", "room.1", "room.2"]);
            assert_eq!(caller.info.as_deref(), Some(r#"{"name":"Ada"}"#));
            assert_eq!(caller.jti.as_deref(), Some("j"));
            assert_eq!(caller.expires_at.map(|at| at.as_seconds()), Some(now + 60));
        }
        let bare = world.bearer(&hs256(&json!({"sub": "bob"}), SECRET)).await.expect("no exp is fine here");
        assert_eq!(user(&bare).expires_at, None);
        assert!(user(&bare).jti.is_some(), "so that it can be ended");
        let encoded = json!({"sub": "eve", "b64info": "eyJhIjoxfQ=="});
        let eve = world.bearer(&hs256(&encoded, SECRET)).await.expect("good");
        assert_eq!(user(&eve).info.as_deref(), Some(r#"{"a":1}"#));
        assert!(world.auth.bearer(&acme(), &hs256(&claims, SECRET)).await.is_err(), "acme has no secret");
        // Without leeway: a client whose token has just ended gets a new one.
        world.clock.advance(Duration::from_secs(60));
        assert!(matches!(world.bearer(&hs256(&claims, SECRET)).await, Err(AuthError::Expired)));
    }

    async fn what_cannot_be_minted_is_said(world: World) {
        let key = world.key(&default(), &[Scope::TokensWrite]).await;
        let many: Vec<String> = (0..65).map(|n| format!("room.{n}")).collect();
        let long: Vec<String> = (0..60).map(|n| format!("{}{n}", "x".repeat(200))).collect();
        for (bad, pointer) in [
            (json!({}), "/user"),
            (json!({"user": ""}), "/user"),
            (json!({"user": "ada", "ttl": 0}), "/ttl"),
            (json!({"user": "ada", "ttl": 2_592_001}), "/ttl"),
            (json!({"user": "ada", "ttl": "1h"}), "/ttl"),
            (json!({"user": "ada", "device": "a b"}), "/device"),
            (json!({"user": "ada", "topics": {"subscribe": many}}), "/topics"),
            (json!({"user": "ada", "topics": {"subscribe": long}}), "/topics"),
            (json!({"user": "ada", "tenant": "acme"}), "/tenant"),
        ] {
            let problem = world.call(Method::POST, "/v1/tokens", &key, bad).await.expect(422);
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        }
        let nobody = "initech".parse().expect("a tenant");
        assert!(matches!(world.auth.mint(&nobody, &request("ada")).await, Err(MintError::NoTenant)));
    }

    async fn verified_tokens_are_remembered_but_not_beyond_an_erasure(world: World) {
        let token = world.token("ada").await;
        let first = user(&world.bearer(&token).await.expect("good"));
        let again = user(&world.bearer(&token).await.expect("good"));
        assert!(std::sync::Arc::ptr_eq(&first, &again), "verified once");
        world.directory.forget(&default(), &first.external);
        let after = user(&world.bearer(&token).await.expect("good"));
        assert_ne!(after.id, first.id, "the name belongs to somebody else now");
    }
}
