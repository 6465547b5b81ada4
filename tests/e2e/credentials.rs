//! Who may call what, with what, and until when.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Sse, Start, shared, user_name};

const SECRET: &str = "a-shared-secret-of-thirty-two-bytes-or-more";

fn hs256(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(
        &Header::default(),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .expect("a token")
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[track_caller]
fn refused(answer: &Answer) {
    answer.problem(401, "invalid_token");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.contains("Bearer") && challenge.contains("invalid_token"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn each_kind_of_credential_opens_its_own_doors() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    for path in ["/v1/inbox", "/v1/stream"] {
        api.get(path).await.problem(403, "forbidden");
    }
    for path in ["/v1/notifications", "/v1/keys"] {
        ada.get(path).await.problem(403, "forbidden");
    }
    ada.post(
        "/v1/notifications",
        &json!({"targets": [{"user": "x"}], "content": {"title": "x"}}),
    )
    .await
    .problem(403, "forbidden");
}

#[tokio::test]
async fn a_missing_or_made_up_credential_is_refused() {
    let api = shared().await.api().await;
    let good = api.user(&user_name("ada")).await.credential().to_owned();
    let parts: Vec<&str> = good.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    let hs = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let mut tampered = claims(&good);
    tampered["sub"] = json!("somebody-else");
    let tampered = URL_SAFE_NO_PAD.encode(tampered.to_string());
    let made_up = [
        "nonsense".to_owned(),
        "crk_nonsense".to_owned(),
        format!("crk_{}", "0".repeat(43)),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{hs}.{}.{}", parts[1], parts[2]),
        format!("{}.{tampered}.{}", parts[0], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}."),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86)),
        hs256(&json!({"sub": "ada", "exp": 4_000_000_000_u64}), ""),
        hs256(&json!({"sub": "ada", "exp": 4_000_000_000_u64}), SECRET),
    ];
    for credential in &made_up {
        refused(&api.with(credential).get("/v1/inbox").await);
        refused(&api.with(credential).get("/v1/stream").await);
    }
    for path in ["/v1/inbox", "/v1/notifications", "/v1/stream"] {
        refused(&api.send(api.bare(Method::GET, path)).await);
    }
    let basic = api
        .bare(Method::GET, "/v1/inbox")
        .header("authorization", "Basic YTpi");
    refused(&api.send(basic).await);
}

#[tokio::test]
async fn a_bearer_credential_in_a_url_is_refused() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    for name in ["access_token", "token"] {
        for credential in [ada.credential(), api.credential()] {
            let answer = api
                .send(api.bare(Method::GET, &format!("/v1/stream?{name}={credential}")))
                .await;
            answer.problem(400, "credential_in_url");
            assert!(
                !answer.text.contains(credential),
                "an error repeats the credential"
            );
        }
    }
}

#[tokio::test]
async fn a_minted_token_says_what_was_asked_and_its_key_is_published() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let body = json!({"user": user, "ttl": 60, "device": "laptop", "topics": {"subscribe": ["room.*"], "publish": []}});
    let minted = api.post("/v1/tokens", &body).await.expect(201);
    let token = minted["token"].as_str().expect("a token");
    let claims = claims(token);
    for name in ["iss", "aud", "tenant", "iat", "exp", "jti"] {
        assert!(claims.get(name).is_some(), "{name} is missing: {claims}");
    }
    assert_eq!(claims["sub"], user);
    assert_eq!(claims["tenant"], "default");
    assert_eq!(claims["jti"], minted["jti"]);
    assert_eq!(claims["device"], "laptop");
    assert_eq!(
        claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"),
        60
    );

    let header = jsonwebtoken::decode_header(token).expect("a header");
    assert_eq!(header.alg, jsonwebtoken::Algorithm::EdDSA);
    let keys = api
        .send(api.bare(Method::GET, "/.well-known/jwks.json"))
        .await
        .expect(200);
    let published = keys["keys"].as_array().expect("keys");
    assert!(
        published.iter().any(|key| key["kid"] == json!(header.kid)),
        "{keys}"
    );
    assert!(
        published.iter().all(|key| key.get("d").is_none()),
        "a private key is published"
    );

    for bad in [
        json!({"ttl": 60}),
        json!({"user": user, "ttl": 0}),
        json!({"user": user, "ttl": 2_592_001}),
    ] {
        api.post("/v1/tokens", &bad).await.problem(422, "invalid_request");
    }
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let server = Start::default().env("CARILLON_AUTH__LEEWAY", "0s").serve().await;
    let api = server.api().await;
    let ada = api.user_with(json!({"user": "ada", "ttl": 1})).await;
    ada.get("/v1/inbox").await.expect(200);
    crate::harness::eventually("the expiry", || async {
        (ada.get("/v1/inbox").await.status == 401).then_some(())
    })
    .await;
    refused(&ada.get("/v1/inbox").await);
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_until_it_is_revoked() {
    let server = shared().await;
    let reader = server
        .api()
        .await
        .with(&server.create_key("default", &["notifications:read"]).await);
    reader.get("/v1/notifications").await.expect(200);
    reader
        .post(
            "/v1/notifications",
            &json!({"targets": [{"user": "x"}], "content": {"title": "x"}}),
        )
        .await
        .problem(403, "forbidden");
    reader
        .post("/v1/tokens", &json!({"user": "x"}))
        .await
        .problem(403, "forbidden");
    reader.delete("/v1/users/x").await.problem(403, "forbidden");

    let manager = server
        .api()
        .await
        .with(&server.create_key("default", &["keys:write"]).await);
    let made = manager
        .post(
            "/v1/keys",
            &json!({"name": "made", "scopes": ["notifications:read"]}),
        )
        .await
        .expect(201);
    let key = made["key"].as_str().expect("the key, shown once");
    assert!(key.starts_with("crk_"), "{made}");
    let made_api = reader.with(key);
    made_api.get("/v1/notifications").await.expect(200);
    let listed = manager.get("/v1/keys?limit=200").await.expect(200);
    assert!(!listed.to_string().contains(key), "a listed key shows its secret");
    manager
        .delete(&format!("/v1/keys/{}", made["id"].as_str().expect("an id")))
        .await;
    crate::harness::eventually("the revocation", || async {
        (made_api.get("/v1/notifications").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shared_secret_token_with_centrifugos_claims_opens_the_inbox() {
    let server = Start::default()
        .env("CARILLON_AUTH__HMAC_SECRET", SECRET)
        .serve()
        .await;
    let api = server.api().await;
    let token = hs256(
        &json!({"sub": "ada", "exp": 4_000_000_000_u64, "info": {"name": "Ada"}, "channels": ["news"],
            "topics": {"subscribe": ["room.*"], "publish": ["room.*"]}}),
        SECRET,
    );
    let ada = api.with(&token);
    let mut socket = ada.connect(json!({})).await;
    assert!(
        socket.connected["subs"].get("news").is_some(),
        "{}",
        socket.connected
    );
    assert!(
        socket.connected["subs"].get("carillon:inbox").is_none(),
        "the mailbox comes on request: {}",
        socket.connected
    );
    let subscribed = socket
        .command("subscribe", json!({"channel": "carillon:inbox"}))
        .await;
    assert!(subscribed.get("error").is_none(), "{subscribed}");
    let mut asked = ada.connect(json!({"inbox": true})).await;
    api.ring("ada", "hello").await;
    assert_eq!(socket.change().await.1["entry"]["content"]["title"], "hello");
    assert_eq!(asked.change().await.1["entry"]["content"]["title"], "hello");

    for bad in [
        json!({"sub": "ada", "exp": 1_000_000_000_u64}),
        json!({"sub": "ada", "exp": "4000000000"}),
        json!({"sub": "ada", "exp": -1}),
        json!({"sub": "ada", "nbf": 4_000_000_000_u64, "exp": 4_100_000_000_u64}),
        json!({"sub": 7, "exp": 4_000_000_000_u64}),
    ] {
        refused(&api.with(&hs256(&bad, SECRET)).get("/v1/inbox").await);
    }
    refused(
        &api.with(&hs256(
            &json!({"sub": "ada"}),
            "another-secret-of-thirty-two-bytes-or-more",
        ))
        .get("/v1/inbox")
        .await,
    );
    // The secret is the tenant default's, no other's.
    refused(&ada.under("/t/acme").get("/v1/inbox").await);
}

async fn by_ticket(api: &Api, ticket: &str) -> reqwest::RequestBuilder {
    api.bare(Method::GET, &format!("/v1/stream?ticket={ticket}"))
}

#[tokio::test]
async fn a_ticket_opens_one_stream_and_its_cookie_the_next() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let ada = api.user(&user).await;
    let issued = ada.post("/v1/stream/tickets", &json!({})).await.expect(201);
    let ticket = issued["ticket"].as_str().expect("a ticket");
    let stream = Sse::open(by_ticket(&api, ticket).await).await;
    let cookie = cookie(&stream.headers);
    assert!(!cookie.contains(ticket));
    refused(&api.send(by_ticket(&api, ticket).await).await);

    // As native EventSource comes back: the same URL, now with the cookie.
    let request = by_ticket(&api, ticket)
        .await
        .header("cookie", &cookie)
        .header("last-event-id", &stream.position);
    let mut back = Sse::open(request).await;
    api.ring(&user, "hello").await;
    assert_eq!(back.next().await.event, "added");
}

fn cookie(headers: &reqwest::header::HeaderMap) -> String {
    let set = headers
        .get("set-cookie")
        .expect("a cookie")
        .to_str()
        .expect("ASCII");
    assert!(set.starts_with("carillon_stream="), "{set}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path="] {
        assert!(set.contains(attribute), "{set}");
    }
    set.split(';').next().expect("a pair").to_owned()
}

#[tokio::test]
async fn a_cookie_opens_streams_until_logout_which_answers_204() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let answer = ada.post("/v1/stream/tickets", &json!({"mode": "cookie"})).await;
    answer.expect(204);
    let cookie = cookie(&answer.headers);
    let stream = |api: &Api| api.bare(Method::GET, "/v1/stream").header("cookie", &cookie);
    let mut open = Sse::open(stream(&api)).await;

    let logout = api
        .bare(Method::DELETE, "/v1/stream/tickets")
        .header("cookie", &cookie);
    api.send(logout).await.expect(204);
    let bye = open.next_named("bye").await;
    assert_eq!(bye.data["reason"], "revoked");
    assert_eq!(open.next_or_end().await, None);
    // 204 makes EventSource stop coming back.
    api.send(stream(&api)).await.expect(204);
    // A cookie opens nothing but streams.
    refused(
        &api.send(api.bare(Method::GET, "/v1/inbox").header("cookie", &cookie))
            .await,
    );
}

#[tokio::test]
async fn a_cookie_from_another_site_is_not_taken() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    let answer = ada.post("/v1/stream/tickets", &json!({"mode": "cookie"})).await;
    let cookie = cookie(&answer.headers);
    let request = api
        .bare(Method::GET, "/v1/stream")
        .header("cookie", &cookie)
        .header("origin", "https://evil.example")
        .header("sec-fetch-site", "cross-site");
    let answer = api.send(request).await;
    assert!(matches!(answer.status.as_u16(), 401 | 403), "{answer:?}");
}

#[tokio::test]
async fn revoking_a_token_ends_its_live_connections_and_only_those() {
    let api = shared().await.api().await;
    let user = user_name("ada");
    let minted = api.post("/v1/tokens", &json!({"user": user})).await.expect(201);
    let revoked = api.with(minted["token"].as_str().expect("a token"));
    let other = api.user(&user).await;
    let (mut stream, mut kept) = (revoked.stream("").await, other.stream("").await);
    let mut socket = revoked.connect(json!({})).await;

    api.post("/v1/revocations", &json!({"jti": minted["jti"]}))
        .await
        .expect(204);
    assert_eq!(stream.next_named("bye").await.data["reason"], "revoked");
    let (code, _) = socket.closed().await;
    assert!(
        (3500..4000).contains(&code),
        "a client must not come back by itself: {code}"
    );
    refused(&revoked.get("/v1/inbox").await);
    revoked.get("/v1/stream").await.expect(204);

    api.ring(&user, "still here").await;
    assert_eq!(kept.next().await.event, "added");
}

#[tokio::test]
async fn revoking_a_user_ends_every_token_issued_before() {
    let mut server = Start::default().serve().await;
    let api = server.api().await;
    let (one, two) = (api.user("ada").await, api.user("ada").await);
    let bob = api.user("bob").await;
    let mut stream = one.stream("").await;
    let mut socket = two.connect(json!({})).await;
    api.post("/v1/revocations", &json!({"user": "ada"}))
        .await
        .expect(204);
    assert_eq!(stream.next_named("bye").await.data["reason"], "revoked");
    assert!(socket.closed().await.0 >= 3500);
    refused(&two.get("/v1/inbox").await);
    bob.get("/v1/inbox").await.expect(200);
    // A revocation outlives the process.
    server.start_again().await;
    refused(&one.get("/v1/inbox").await);
    // Logged in again. Tokens carry whole seconds, so one of the revocation's own second may be refused.
    crate::harness::eventually("a new token", || async {
        (api.user("ada").await.get("/v1/inbox").await.status == 200).then_some(())
    })
    .await;
}
