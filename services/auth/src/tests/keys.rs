//! API keys.

use std::time::Duration;

use carillon_domain::{
    Caller, Scope,
    ports::{AuthError, Authenticate as _},
};
use carillon_runtime::http::{Served, require_channel};
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{World, acme, default, on_both};
use crate::store::KeyOwner;

on_both! {
    async fn a_key_opens_its_own_tenant_only(world: World) {
        let key = world.key(&acme(), &[Scope::NotificationsWrite]).await;
        let principal = world.auth.bearer(&acme(), &key).await.expect("good");
        assert_eq!(principal.tenant, acme());
        let Caller::Key(caller) = principal.caller else { panic!("no key") };
        assert_eq!(caller.scopes, [Scope::NotificationsWrite]);
        // Remembered or not, it is nothing elsewhere.
        assert!(matches!(world.bearer(&key).await, Err(AuthError::Invalid)));
        let other = world.key(&acme(), &[Scope::NotificationsWrite]).await;
        assert!(matches!(world.bearer(&other).await, Err(AuthError::Invalid)));
        world.auth.bearer(&acme(), &other).await.expect("good");
        assert!(world.auth.knows_tenant(&acme()).await.expect("asked"), "the key made the tenant");
        assert!(!world.auth.knows_tenant(&"initech".parse().expect("a tenant")).await.expect("asked"));
    }

    async fn a_wrong_secret_of_a_right_key_is_refused(world: World) {
        let key = world.key(&default(), &[Scope::NotificationsWrite]).await;
        let wrong = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
        for _ in 0..2 {
            assert!(matches!(world.bearer(&wrong).await, Err(AuthError::Invalid)));
            world.bearer(&key).await.expect("good");
        }
    }

    async fn scopes_are_what_routes_ask_for(world: World) {
        let routes = [
            (Scope::TokensWrite, Method::POST, "/v1/tokens", json!({"user": "ada"})),
            (Scope::RevocationsWrite, Method::POST, "/v1/revocations", json!({"user": "bob"})),
            (Scope::KeysWrite, Method::POST, "/v1/keys", json!({"name": "x"})),
            (Scope::KeysWrite, Method::GET, "/v1/keys", Value::Null),
            (Scope::KeysWrite, Method::DELETE, "/v1/keys/key_0190d6a5c0de70008000000000000000", Value::Null),
        ];
        let token = world.token("ada").await;
        for scope in Scope::ALL {
            let key = world.key(&default(), std::slice::from_ref(&scope)).await;
            for (needed, method, path, body) in &routes {
                let answer = world.call(method.clone(), path, &key, body.clone()).await;
                let forbidden = answer.status == 403;
                assert_eq!(forbidden, scope != *needed, "{scope:?} {method} {path}: {answer:?}");
            }
        }
        for (_, method, path, body) in &routes {
            world.call(method.clone(), path, &token, body.clone()).await.expect(403);
            world.call(method.clone(), path, "", body.clone()).await.expect(401);
        }
        let key = world.key(&default(), &Scope::ALL).await;
        world.call(Method::POST, "/v1/stream/tickets", &key, Value::Null).await.expect(403);
    }

    async fn keys_are_made_listed_and_revoked_over_http(world: World) {
        let admin = world.key(&default(), &[Scope::KeysWrite]).await;
        world.clock.advance(Duration::from_millis(1));
        let made = world.call(Method::POST, "/v1/keys", &admin, json!({"name": "ci"})).await.expect(201);
        let key = made["key"].as_str().expect("the key").to_owned();
        assert_eq!(made["scopes"].as_array().map(Vec::len), Some(Scope::BACKEND.len()));
        world.bearer(&key).await.expect("good");

        let mut listed = Vec::new();
        let mut path = "/v1/keys?limit=1".to_owned();
        loop {
            let page = world.call(Method::GET, &path, &admin, Value::Null).await.expect(200);
            listed.extend(page["data"].as_array().expect("a list").clone());
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/keys?limit=1&cursor={next}");
        }
        assert_eq!(listed.iter().map(|key| key["name"].clone()).collect::<Vec<_>>(), ["tests", "ci"]);
        assert!(!json!(listed).to_string().contains("crk_"));

        let path = format!("/v1/keys/{}", made["id"].as_str().expect("an id"));
        for _ in 0..2 {
            world.call(Method::DELETE, &path, &admin, Value::Null).await.expect(204);
            assert!(matches!(world.bearer(&key).await, Err(AuthError::Revoked | AuthError::Invalid)));
        }
        // Another tenant's and nobody's look the same.
        let (theirs, _) = world.auth.create_key(&acme(), "theirs", &[Scope::KeysWrite]).await.expect("made");
        for id in [theirs.to_string(), "key_0190d6a5c0de70008000000000000000".to_owned(), "nonsense".to_owned()] {
            world.call(Method::DELETE, &format!("/v1/keys/{id}"), &admin, Value::Null).await.expect(404);
        }
        for bad in [
            json!({}),
            json!({"name": ""}),
            json!({"name": "x".repeat(256)}),
            json!({"name": "a\nb"}),
            json!({"name": "x", "scopes": []}),
            json!({"name": "x", "scopes": ["everything"]}),
            json!({"name": "x", "tenant": "acme"}),
        ] {
            world.call(Method::POST, "/v1/keys", &admin, bad).await.expect(422);
        }
    }

    async fn the_last_use_is_written_down_lazily(world: World) {
        let key = world.key(&default(), &[Scope::KeysWrite]).await;
        let last_used = async || {
            let page = world.call(Method::GET, "/v1/keys", &key, Value::Null).await.expect(200);
            page["data"][0]["last_used_at"].clone()
        };
        assert_eq!(last_used().await, Value::Null);
        world.auth.keys.write_uses(&*world.auth.store).await.expect("written");
        let first = last_used().await;
        assert!(first.is_string(), "{first}");
        world.clock.advance(Duration::from_secs(90));
        assert_eq!(last_used().await, first);
        world.auth.keys.write_uses(&*world.auth.store).await.expect("written");
        assert_ne!(last_used().await, first);
    }

    async fn revoked_keys_go_after_their_retention(world: World) {
        let admin = world.key(&default(), &[Scope::KeysWrite]).await;
        let (id, _) = world.auth.create_key(&default(), "gone", &[Scope::KeysWrite]).await.expect("made");
        world.auth.revoke_key(&KeyOwner::Tenant(default()), id).await.expect("revoked");
        let count = async || {
            let page = world.call(Method::GET, "/v1/keys", &admin, Value::Null).await.expect(200);
            page["data"].as_array().map(Vec::len)
        };
        world.auth.keep_house().await.expect("kept");
        assert_eq!(count().await, Some(2));
        world.clock.advance(Duration::from_secs(31 * 86_400));
        world.auth.keep_house().await.expect("kept");
        assert_eq!(count().await, Some(1));
    }

    async fn a_worker_of_one_tenant_is_a_key_with_its_channels_scope(world: World) {
        let admin = world.key(&acme(), &[Scope::KeysWrite]).await;
        let request = json!({"name": "sms", "scopes": ["channel:sms", "notifications:read", "channel:sms"]});
        let made = world.call_in(&acme(), Method::POST, "/v1/keys", &admin, request).await.expect(201);
        assert_eq!(made["scopes"], json!(["notifications:read", "channel:sms"]));
        let principal = world.auth.bearer(&acme(), made["key"].as_str().expect("a key")).await.expect("good");
        let sms = "sms".parse().expect("a channel");
        assert_eq!(require_channel(&principal, &sms).expect("its own"), Served::Tenant(acme()));
        for bad in [json!(["channel:in_app"]), json!(["channel:"]), json!(["channel:*"]), many_channels(33)] {
            let request = json!({"name": "x", "scopes": bad});
            world.call_in(&acme(), Method::POST, "/v1/keys", &admin, request).await.expect(422);
        }
    }

    async fn a_worker_for_all_tenants_is_made_by_the_operator_alone(world: World) {
        let operator = async |method, path: &str, body| world.as_operator(&acme(), method, path, body).await;
        let request = json!({"name": "sms", "scopes": ["channel:sms"]});
        let made = operator(Method::POST, "/v1/worker-keys", request.clone()).await.expect(201);
        let key = made["key"].as_str().expect("a key").to_owned();
        let sms = "sms".parse().expect("a channel");
        for tenant in [default(), acme()] {
            let principal = world.auth.bearer(&tenant, &key).await.expect("good everywhere");
            assert_eq!(require_channel(&principal, &sms).expect("its channel"), Served::All);
            assert_eq!(principal.tenant, tenant);
        }
        // It does nothing else, on any route.
        world.call(Method::GET, "/v1/keys", &key, Value::Null).await.expect(403);
        world.call(Method::POST, "/v1/tokens", &key, json!({"user": "ada"})).await.expect(403);
        // As a tenant's key it is nothing, and a tenant's key is nothing among the workers'.
        let tenants = key.replacen("crw_", "crk_", 1);
        let (_, ours) = world.auth.create_key(&default(), "ours", &Scope::ALL).await.expect("made");
        let workers = ours.expose_secret().replacen("crk_", "crw_", 1);
        for forged in [tenants, workers, format!("{}0", &key[..key.len() - 1]).replacen("crw_", "crk_", 1)] {
            for _ in 0..2 {
                assert!(matches!(world.bearer(&forged).await, Err(AuthError::Invalid)), "{forged}");
            }
        }
        // No tenant's key reaches them, whatever its scopes.
        let id = made["id"].as_str().expect("an id").to_owned();
        let all = world.key(&acme(), &Scope::ALL).await;
        for key in [&all, &key] {
            world.call_in(&acme(), Method::POST, "/v1/worker-keys", key, request.clone()).await.expect(403);
            world.call_in(&acme(), Method::GET, "/v1/worker-keys", key, Value::Null).await.expect(403);
            world.call_in(&acme(), Method::DELETE, &format!("/v1/worker-keys/{id}"), key, Value::Null).await.expect(403);
        }
        world.call_in(&acme(), Method::DELETE, &format!("/v1/keys/{id}"), &all, Value::Null).await.expect(404);
        let tenants = world.call_in(&acme(), Method::GET, "/v1/keys", &all, Value::Null).await.expect(200);
        assert!(!tenants.to_string().contains(&id));
        for bad in [json!(["channel:sms", "keys:write"]), json!([]), json!(["channel:in_app"]), many_channels(33)] {
            operator(Method::POST, "/v1/worker-keys", json!({"name": "x", "scopes": bad})).await.expect(422);
        }
        world.auth.keys.write_uses(&*world.auth.store).await.expect("written");
        let listed = operator(Method::GET, "/v1/worker-keys", Value::Null).await.expect(200);
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
        assert!(listed["data"][0]["last_used_at"].is_string(), "{listed}");
        operator(Method::DELETE, &format!("/v1/worker-keys/{id}"), Value::Null).await.expect(204);
        for tenant in [default(), acme()] {
            assert!(matches!(world.auth.bearer(&tenant, &key).await, Err(AuthError::Revoked | AuthError::Invalid)));
        }
    }

    async fn the_operator_of_the_internal_listener_needs_no_key(world: World) {
        let request = json!({"name": "first", "scopes": ["tokens:write"]});
        let made = world.as_operator(&acme(), Method::POST, "/v1/keys", request).await.expect(201);
        let key = made["key"].as_str().expect("a key");
        world.auth.bearer(&acme(), key).await.expect("good");
        world.call_in(&acme(), Method::POST, "/v1/tokens", key, json!({"user": "ada"})).await.expect(201);
    }
}

#[tokio::test]
async fn what_was_verified_once_costs_no_read_of_the_store() {
    let world = World::sqlite().await;
    let (known, unknown) = (
        world.key(&default(), &[Scope::KeysWrite]).await,
        world.key(&default(), &[Scope::KeysWrite]).await,
    );
    let (token, forgotten) = (world.token("ada").await, world.token("bob").await);
    for credential in [&known, &token] {
        world.bearer(credential).await.expect("good");
    }
    let carillon_sql::Database::Sqlite(sqlite) = &world.database.database else {
        panic!("SQLite")
    };
    sqlite.close().await;
    for credential in [&known, &token, &forgotten] {
        world
            .bearer(credential)
            .await
            .expect("good without the store: tokens need none, keys are remembered");
    }
    // What cannot be checked is let in by nobody, and is no proof against the credential either.
    assert!(matches!(
        world.bearer(&unknown).await,
        Err(AuthError::Unavailable(_))
    ));
    let ticket = world.auth.ticket(&default(), &"0".repeat(32)).await;
    assert!(matches!(ticket, Err(AuthError::Unavailable(_))));
    world
        .call(Method::GET, "/v1/keys", &known, Value::Null)
        .await
        .expect(503);
    assert!(world.auth.ping().await.is_err());
}

/// So many different channels' scopes.
fn many_channels(count: usize) -> Value {
    (0..count).map(|n| format!("channel:c{n}")).collect()
}
