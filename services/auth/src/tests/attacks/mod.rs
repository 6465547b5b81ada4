//! Tokens that must not get in. Every one is refused with the same words, one audit event without a trace of the token,
//! and without anybody being asked for a key.

mod algorithms;
mod claims;
mod foreign_keys;
mod forge;
mod forms;
mod log;
mod shared_secret;
mod signatures;

use carillon_domain::ports::{AuthError, Authenticate as _};
use serde_json::json;
use tokio::net::TcpListener;

use self::{
    forge::{Forge, changed},
    log::Log,
};
use super::{World, acme, default};

#[tokio::test]
async fn what_is_not_quite_a_token_is_refused_and_audited_without_a_trace_of_it() {
    let world = World::sqlite().await;
    let forge = Forge::new(&world).await;
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
    let cases = [
        algorithms::cases(&forge),
        signatures::cases(&forge),
        foreign_keys::cases(&forge, &url),
        forms::cases(&forge),
        claims::cases(&forge),
        shared_secret::cases(&forge),
    ]
    .concat();
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
    let forge = Forge::new(&world).await;
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
    let forge = Forge::new(&world).await;
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
    let forge = Forge::new(&world).await;
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
    let forge = Forge::new(&world).await;
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
