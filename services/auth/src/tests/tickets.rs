//! Tickets and stream cookies for native `EventSource`.

use std::{sync::Arc, time::Duration};

use carillon_domain::{
    Revocation,
    ports::{AuthError, Authenticate as _, Erase as _},
};
use carillon_runtime::http::ViaTls;
use http::{Method, Request, header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{Answer, World, acme, default, on_both, request, user};
use crate::MintRequest;

async fn ticket(world: &World, token: &str) -> String {
    let answer = world
        .call(Method::POST, "/v1/stream/tickets", token, Value::Null)
        .await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    answer.expect(201)["ticket"]
        .as_str()
        .expect("a ticket")
        .to_owned()
}

fn cookie_value(answer: &Answer) -> String {
    let set = answer.headers[header::SET_COOKIE].to_str().expect("ASCII");
    let pair = set.split(';').next().expect("a pair");
    pair.strip_prefix("carillon_stream=")
        .expect("our cookie")
        .to_owned()
}

async fn cookie(world: &World, token: &str) -> String {
    let answer = world
        .call(
            Method::POST,
            "/v1/stream/tickets",
            token,
            json!({"mode": "cookie"}),
        )
        .await;
    assert_eq!(answer.status, 204);
    cookie_value(&answer)
}

async fn log_out(world: &World, cookie: &str) -> Answer {
    let request = Request::builder()
        .method(Method::DELETE)
        .uri("/v1/stream/tickets")
        .header("cookie", format!("other=1; carillon_stream={cookie}"))
        .body(axum::body::Body::empty())
        .expect("a request");
    world.send(&default(), request).await
}

on_both! {
    async fn a_ticket_works_once_however_many_try(world: World) {
        let token = world.token("ada").await;
        let ticket = ticket(&world, &token).await;
        let tries = (0..16).map(|_| {
            let (auth, ticket) = (Arc::clone(&world.auth), ticket.clone());
            tokio::spawn(async move { auth.ticket(&default(), &ticket).await })
        });
        let mut winners = Vec::new();
        for one in tries.collect::<Vec<_>>() {
            match one.await.expect("no panic") {
                Ok((principal, cookie)) => winners.push((principal, cookie)),
                Err(AuthError::Invalid) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners.len(), 1);
        let (principal, cookie) = &winners[0];
        let of_token = user(&world.bearer(&token).await.expect("good"));
        let of_ticket = user(principal);
        assert_eq!((of_ticket.id, &of_ticket.jti), (of_token.id, &of_token.jti));
        let of_cookie = user(&world.auth.stream_cookie(&default(), cookie).await.expect("good"));
        assert_eq!(of_cookie.id, of_token.id);
        assert_eq!(of_cookie.expires_at, of_token.expires_at);
    }

    async fn a_ticket_is_its_tenants_and_short(world: World) {
        let token = world.token("ada").await;
        let (one, late) = (ticket(&world, &token).await, ticket(&world, &token).await);
        assert!(matches!(world.auth.ticket(&acme(), &one).await, Err(AuthError::Invalid)));
        world.auth.ticket(&default(), &one).await.expect("still unused");
        world.clock.advance(Duration::from_secs(30));
        assert!(matches!(world.auth.ticket(&default(), &late).await, Err(AuthError::Invalid)));
        for nonsense in ["", "x", &"0".repeat(32), &"F".repeat(32), &"0".repeat(31), &"0".repeat(1_000_000)] {
            assert!(matches!(world.auth.ticket(&default(), nonsense).await, Err(AuthError::Invalid)));
            assert!(matches!(world.auth.stream_cookie(&default(), nonsense).await, Err(AuthError::Invalid)));
        }
    }

    async fn a_ticket_carries_what_its_token_grants_and_a_cookie_lives_no_longer(world: World) {
        let asked = MintRequest {
            ttl: Some(Duration::from_secs(100)),
            device: Some("laptop".parse().expect("a device")),
            topics: serde_json::from_value(json!({"subscribe": ["room.*"]})).expect("grants"),
            ..request("ada")
        };
        let minted = world.auth.mint(&default(), &asked).await.expect("minted");
        let token = minted.token.expose_secret();
        let ticket = ticket(&world, token).await;
        let (principal, cookie) = world.auth.ticket(&default(), &ticket).await.expect("good");
        assert_eq!(user(&principal).topics, asked.topics);
        assert_eq!(user(&principal).device, asked.device);
        let of_mode = self::cookie(&world, token).await;
        world.clock.advance(Duration::from_secs(159));
        for cookie in [&cookie, &of_mode] {
            world.auth.stream_cookie(&default(), cookie).await.expect("as long as the token");
        }
        world.clock.advance(Duration::from_secs(1));
        for cookie in [&cookie, &of_mode] {
            assert!(matches!(world.auth.stream_cookie(&default(), cookie).await, Err(AuthError::Expired)));
        }
        world.auth.keep_house().await.expect("kept");
        assert!(matches!(world.auth.stream_cookie(&default(), &cookie).await, Err(AuthError::Invalid)));
    }

    async fn the_cookie_is_set_and_taken_away_for_the_stream_alone(world: World) {
        let token = world.token("ada").await;
        let answer = world.call(Method::POST, "/v1/stream/tickets", &token, json!({"mode": "cookie"})).await;
        let set = answer.headers[header::SET_COOKIE].to_str().expect("ASCII");
        assert!(set.ends_with("; Path=/v1/stream; HttpOnly; SameSite=Lax"), "{set}");
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/stream/tickets")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .extension(ViaTls(true))
            .body(axum::body::Body::from(r#"{"mode": "cookie"}"#))
            .expect("a request");
        let answer = world.send(&default(), request).await;
        assert!(answer.headers[header::SET_COOKIE].to_str().expect("ASCII").ends_with("; Secure"));
        let out = log_out(&world, &cookie_value(&answer)).await;
        assert_eq!(out.status, 204);
        assert!(out.headers[header::SET_COOKIE].to_str().expect("ASCII").contains("Max-Age=0"));
        let token = world.token("ada").await;
        for bad in [json!({"mode": "forever"}), json!({"user": "bob"}), json!("cookie")] {
            world.call(Method::POST, "/v1/stream/tickets", &token, bad).await.expect(422);
        }
    }

    async fn logging_out_ends_the_token_with_all_that_came_of_it(world: World) {
        for by_cookie in [true, false] {
            let minted = world.mint(&default(), "ada").await;
            let token = minted.token.expose_secret();
            let other = world.token("ada").await;
            let (cookie, unused) = (cookie(&world, token).await, ticket(&world, token).await);
            if by_cookie {
                assert_eq!(log_out(&world, &cookie).await.status, 204);
            } else {
                world.call(Method::DELETE, "/v1/stream/tickets", token, Value::Null).await.expect(204);
            }
            // Revoked, and not merely unknown: the stream answers 204, by which EventSource stops.
            assert!(matches!(world.auth.stream_cookie(&default(), &cookie).await, Err(AuthError::Revoked)));
            assert!(matches!(world.auth.ticket(&default(), &unused).await, Err(AuthError::Revoked)));
            assert!(matches!(world.bearer(token).await, Err(AuthError::Revoked)));
            assert_eq!(world.announced().last(), Some(&Revocation::Token(minted.jti)));
            world.bearer(&other).await.expect("another token of the same user goes on");
            // Doing it twice is doing it once.
            assert_eq!(log_out(&world, &cookie).await.status, 204);
            world.call(Method::DELETE, "/v1/stream/tickets", token, Value::Null).await.expect(204);
            // Even after the token's own end the cookie is told to stop.
            world.clock.advance(Duration::from_secs(3_600 + 61));
            assert!(matches!(world.auth.stream_cookie(&default(), &cookie).await, Err(AuthError::Revoked)));
        }
        assert_eq!(log_out(&world, "nonsense").await.status, 401);
        world.call(Method::DELETE, "/v1/stream/tickets", "", Value::Null).await.expect(401);
    }

    async fn one_user_cannot_fill_the_store(world: World) {
        let token = world.token("ada").await;
        let mut tickets = Vec::new();
        for _ in 0..70 {
            world.clock.advance(Duration::from_micros(1));
            tickets.push(ticket(&world, &token).await);
        }
        assert!(world.auth.ticket(&default(), &tickets[0]).await.is_err(), "the oldest one gave way");
        world.auth.ticket(&default(), &tickets[69]).await.expect("the newest one works");
    }

    async fn erasing_a_person_takes_sessions_along_and_spares_the_next_of_that_name(world: World) {
        let minted = world.mint(&default(), "ada").await;
        let token = minted.token.expose_secret();
        let id = user(&world.bearer(token).await.expect("good")).id;
        let (cookie, ticket) = (cookie(&world, token).await, ticket(&world, token).await);
        world.auth.erase(&default(), id).await.expect("erased");
        world.directory.forget(&default(), &"ada".parse().expect("a user"));
        assert!(matches!(world.bearer(token).await, Err(AuthError::Revoked)));
        assert!(world.auth.ticket(&default(), &ticket).await.is_err());
        assert!(world.auth.stream_cookie(&default(), &cookie).await.is_err());
        assert_eq!(world.announced(), [Revocation::User(id)]);
        world.clock.advance(Duration::from_secs(1));
        let again = world.token("ada").await;
        world.clock.advance(Duration::from_secs(10));
        // The second pass of the same erasure.
        world.auth.erase(&default(), id).await.expect("erased again");
        let principal = world.bearer(&again).await.expect("somebody else, of the same name");
        assert_ne!(user(&principal).id, id);
        assert!(world.bearer(token).await.is_err(), "the old token stays ended");
    }
}
