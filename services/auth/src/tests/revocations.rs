//! Tokens that were ended before their time.

use std::time::Duration;

use carillon_domain::{
    Clock as _, Revocation, Scope,
    ports::{AuthError, Authenticate as _},
};
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{SECRET, World, acme, config, default, on_both, user};

fn hs256(claims: &serde_json::Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("a token")
}

on_both! {
    async fn one_token_ends_by_its_id(world: World) {
        let key = world.key(&default(), &[Scope::RevocationsWrite]).await;
        let minted = world.mint(&default(), "ada").await;
        let (token, other) = (minted.token.expose_secret(), world.token("ada").await);
        world.bearer(token).await.expect("good");
        let body = json!({"jti": minted.jti});
        world.call(Method::POST, "/v1/revocations", &key, body).await.expect(204);
        assert!(matches!(world.bearer(token).await, Err(AuthError::Revoked)));
        world.bearer(&other).await.expect("good");
        assert_eq!(world.announced(), [Revocation::Token(minted.jti)]);
    }

    async fn all_of_a_users_tokens_end_and_new_ones_work_at_once(world: World) {
        let key = world.key(&default(), &[Scope::RevocationsWrite]).await;
        let now = world.clock.now().as_seconds();
        let (own, bob) = (world.token("ada").await, world.token("bob").await);
        let shared = hs256(&json!({"sub": "ada", "iat": now}));
        let undated = hs256(&json!({"sub": "ada"}));
        let undated_bob = hs256(&json!({"sub": "bob"}));
        let later = hs256(&json!({"sub": "ada", "iat": now + 1}));
        let id = user(&world.bearer(&own).await.expect("good")).id;
        world.call(Method::POST, "/v1/revocations", &key, json!({"user": "ada"})).await.expect(204);
        for ended in [&own, &shared, &undated] {
            assert!(matches!(world.bearer(ended).await, Err(AuthError::Revoked)));
        }
        for good in [&bob, &undated_bob, &later] {
            world.bearer(good).await.expect("good");
        }
        assert_eq!(world.announced(), [Revocation::User(id)]);
        let new = world.token("ada").await;
        world.bearer(&new).await.expect("minted in the revocation's own second, and yet after it");
        // A name of the other tenant is another user.
        world.key(&acme(), &[Scope::TokensWrite]).await;
        let theirs = world.mint(&acme(), "ada").await;
        world.auth.bearer(&acme(), theirs.token.expose_secret()).await.expect("good");
    }

    async fn revocations_outlive_the_process_and_go_when_nothing_can_need_them(world: World) {
        let token = world.token("ada").await;
        let forever = hs256(&json!({"sub": "ada", "iat": world.clock.now().as_seconds()}));
        world.auth.revoke_user(&default(), &"ada".parse().expect("a user")).await.expect("revoked");
        let again = world.beside(config()).await;
        assert!(matches!(again.bearer(&default(), &token).await, Err(AuthError::Revoked)));
        world.clock.advance(Duration::from_secs(399 * 86_400));
        again.keep_house().await.expect("kept");
        assert!(matches!(again.bearer(&default(), &forever).await, Err(AuthError::Revoked)));
        world.clock.advance(Duration::from_secs(2 * 86_400));
        again.keep_house().await.expect("kept");
        let since = carillon_domain::Timestamp::from_micros(0);
        assert_eq!(again.store.revocations_since(since, since).await.expect("read"), []);
    }

    async fn what_is_to_be_revoked_must_be_said(world: World) {
        let key = world.key(&default(), &[Scope::RevocationsWrite]).await;
        for bad in [
            json!({}),
            json!({"user": "ada", "jti": "x"}),
            json!({"user": ""}),
            json!({"jti": ""}),
            json!({"jti": "x".repeat(256)}),
            json!({"jti": "a\u{0}b"}),
            json!({"user": "ada", "tenant": "acme"}),
        ] {
            world.call(Method::POST, "/v1/revocations", &key, bad).await.expect(422);
        }
    }
}
