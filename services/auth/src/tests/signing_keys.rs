//! Our issuer's keys: made lazily, rotated with overlap.

use std::time::Duration;

use carillon_domain::{
    Clock as _, Scope,
    ports::{AuthError, Authenticate as _},
};
use carillon_testkit::TestDatabase;
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{World, acme, config, default, master, on_both, request};
use crate::{MasterKey, MasterKeyError, MintRequest, OpenError};

const DAY: Duration = Duration::from_secs(86_400);

async fn kids(world: &World) -> Vec<String> {
    // Remembered for as long as half a minute of real time, which does not pass here.
    world.auth.signing.forget().await;
    let jwks = world
        .call(Method::GET, "/.well-known/jwks.json", "", Value::Null)
        .await
        .expect(200);
    let keys = jwks["keys"].as_array().expect("a list");
    keys.iter()
        .map(|key| key["kid"].as_str().expect("a kid").to_owned())
        .collect()
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token)
        .expect("a header")
        .kid
        .expect("a kid")
}

on_both! {
    async fn keys_rotate_with_overlap(world: World) {
        assert_eq!(kids(&world).await, Vec::<String>::new(), "none before the first token");
        let first = world.token("ada").await;
        assert_eq!(kids(&world).await, [kid(&first)]);

        world.clock.advance(29 * DAY);
        world.auth.keep_house().await.expect("kept");
        let shown = kids(&world).await;
        assert_eq!(shown.len(), 2, "the next key is shown a day before it signs");
        assert_eq!(kid(&world.token("ada").await), shown[0], "and does not sign yet");
        world.auth.keep_house().await.expect("kept");
        assert_eq!(kids(&world).await, shown, "once is enough");

        world.clock.advance(DAY - Duration::from_secs(1));
        let asked = MintRequest { ttl: Some(30 * DAY), ..request("ada") };
        let long = world.auth.mint(&default(), &asked).await.expect("minted");
        let long = long.token.expose_secret();
        assert_eq!(kid(long), shown[0]);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(kid(&world.token("ada").await), shown[1], "now it signs");
        world.bearer(long).await.expect("the key before still verifies");

        world.clock.advance(29 * DAY);
        world.auth.keep_house().await.expect("kept");
        assert_eq!(kids(&world).await.len(), 3, "previous, current, next");
        world.bearer(long).await.expect("to the token's own end");
        world.clock.advance(2 * DAY);
        world.auth.keep_house().await.expect("kept");
        let shown_now = kids(&world).await;
        assert!(!shown_now.contains(&shown[0]), "no token that it signed can be valid");
        assert!(world.bearer(long).await.is_err());
    }

    async fn each_tenant_has_keys_of_its_own(world: World) {
        world.key(&acme(), &[Scope::TokensWrite]).await;
        let (ours, theirs) = (world.token("ada").await, world.mint(&acme(), "ada").await);
        assert_ne!(kid(&ours), kid(theirs.token.expose_secret()));
        assert!(matches!(world.bearer(theirs.token.expose_secret()).await, Err(AuthError::Invalid)));
        assert!(matches!(world.auth.bearer(&acme(), &ours).await, Err(AuthError::Invalid)));
    }

    async fn the_master_key_rotates_and_a_wrong_one_stops_the_start(world: World) {
        const NEW: &str = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
        let token = world.token("ada").await;
        let open = async |text: &str| {
            let master = MasterKey::from_secret(&text.into()).expect("good keys");
            world.beside_on(world.database.database.clone(), config(), master).await
        };
        let refused = open(NEW).await;
        assert!(matches!(refused, Err(OpenError::MasterKey(MasterKeyError::Missing { .. }))), "{refused:?}");
        let both = open(&format!("{NEW}\n{}", super::MASTER)).await.expect("opens");
        both.bearer(&default(), &token).await.expect("good");
        let new = open(NEW).await.expect("everything is wrapped anew");
        new.bearer(&default(), &token).await.expect("good");
        let refused = open(super::MASTER).await;
        assert!(matches!(refused, Err(OpenError::MasterKey(MasterKeyError::Missing { .. }))), "{refused:?}");
    }
}

#[tokio::test]
async fn weak_secrets_stop_the_start() {
    let database = TestDatabase::sqlite().await;
    let world = World::on(database, config()).await;
    let mut tried = 0;
    for secret in [
        "",
        "secret",
        "changeme",
        &"a".repeat(64),
        &"ab".repeat(40),
        "only thirty-one characters here",
    ] {
        for previous in [false, true] {
            let mut weak = config();
            let field = if previous {
                &mut weak.hmac_previous_secret
            } else {
                &mut weak.hmac_secret
            };
            *field = Some(secret.into());
            let opened = world
                .beside_on(world.database.database.clone(), weak.clone(), master())
                .await;
            let Err(OpenError::Config { key, reason }) = opened else {
                panic!("{secret:?} was let pass")
            };
            assert_eq!(
                key,
                if previous {
                    "hmac_previous_secret"
                } else {
                    "hmac_secret"
                }
            );
            assert!(secret.is_empty() || !reason.contains(secret), "{reason}");
            if !secret.is_empty() {
                weak.allow_weak_secrets = true;
                weak.validate().expect("for development");
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 12);
    let mut named = config();
    let tenant = crate::TenantAuthConfig {
        hmac_secret: Some("short".into()),
        ..Default::default()
    };
    named.tenants.insert("acme".to_owned(), tenant);
    assert_eq!(named.validate().expect_err("weak").0, "tenants.acme.hmac_secret");
    let printed = serde_json::to_string(&named).expect("JSON");
    assert!(
        !printed.contains("short") && !printed.contains(super::SECRET),
        "{printed}"
    );
    assert!(!format!("{named:?}").contains(super::SECRET));
    assert!(world.clock.now().as_seconds() > 0);
}
