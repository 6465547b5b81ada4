//! Codes that confirm addresses.

use std::{sync::atomic::Ordering, time::Duration};

use carillon_domain::{Scope, ports::Directory as _};
use http::Method;
use serde_json::{Value, json};

use super::{World, name, on_both, tenant};

/// A user with one address that is not verified; the path of its verification.
async fn unverified(world: &World) -> String {
    let body = json!({"locale": "de", "addresses": [{"channel": "email", "address": "ada@x"}]});
    let (_, made) = world
        .send(Scope::UsersWrite, Method::PUT, "/v1/users/ada", body)
        .await;
    let id = made["addresses"][0]["id"].as_str().expect("an id");
    format!("/v1/users/ada/devices/{id}/verification")
}

async fn send(world: &World, path: &str) -> (u16, Value) {
    let (status, body) = world.call(Scope::UsersWrite, Method::POST, path).await;
    (status.as_u16(), body)
}

async fn confirm(world: &World, path: &str, code: &str) -> u16 {
    let body = json!({"code": code});
    let (status, _) = world.send(Scope::UsersWrite, Method::PUT, path, body).await;
    status.as_u16()
}

fn code(world: &World) -> String {
    world
        .letters
        .sent
        .lock()
        .unwrap()
        .last()
        .expect("a code")
        .code
        .clone()
}

/// Another code than this.
fn wrong(code: &str) -> String {
    let first = if code.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &code[1..])
}

async fn is_verified(world: &World) -> bool {
    let id = world
        .users
        .resolve(&tenant(), &[name("ada")])
        .await
        .expect("resolved")[0];
    let profile = world
        .users
        .profiles(&tenant(), &[id])
        .await
        .expect("read")
        .remove(0);
    profile.devices[0].verified
}

on_both! {
    async fn the_code_that_came_verifies_the_address_once(world: World) {
        let path = unverified(&world).await;
        assert!(!is_verified(&world).await);
        let (status, answer) = send(&world, &path).await;
        assert_eq!(status, 202, "{answer}");
        let letter = world.letters.sent.lock().unwrap()[0].clone();
        assert_eq!((letter.to.channel.as_str(), letter.to.to.as_str()), ("email", "ada@x"));
        assert_eq!((letter.user, letter.locale.as_deref()), (name("ada"), Some("de")));
        assert_eq!(answer, json!({"expires_at": letter.expires_at}));
        assert!(!answer.to_string().contains(&letter.code));
        assert!(letter.code.len() == 6 && letter.code.bytes().all(|byte| byte.is_ascii_digit()));

        assert_eq!(confirm(&world, &path, &wrong(&letter.code)).await, 422);
        assert!(!is_verified(&world).await);
        assert_eq!(confirm(&world, &path, &letter.code).await, 204);
        assert!(is_verified(&world).await, "also where it was remembered otherwise");
        assert_eq!(confirm(&world, &path, &letter.code).await, 409, "used");
        assert_eq!(send(&world, &path).await.0, 409, "verified");
    }

    async fn a_code_may_be_tried_five_times(world: World) {
        let path = unverified(&world).await;
        send(&world, &path).await;
        let code = code(&world);
        for malformed in ["", "12345", "1234567", "12345a", "\u{661}23456"] {
            assert_eq!(confirm(&world, &path, malformed).await, 422, "costs nothing");
        }
        for _ in 0..5 {
            assert_eq!(confirm(&world, &path, &wrong(&code)).await, 422);
        }
        assert_eq!(confirm(&world, &path, &code).await, 409);
        assert!(!is_verified(&world).await);
        world.clock.advance(Duration::from_secs(30));
        send(&world, &path).await;
        assert_eq!(confirm(&world, &path, &self::code(&world)).await, 204, "a fresh one has its own tries");
    }

    async fn a_code_holds_ten_minutes_and_the_next_one_replaces_it(world: World) {
        let path = unverified(&world).await;
        assert_eq!(confirm(&world, &path, "123456").await, 409, "none was sent");
        send(&world, &path).await;
        let first = code(&world);
        world.clock.advance(Duration::from_secs(30));
        send(&world, &path).await;
        let second = code(&world);
        if first != second {
            assert_eq!(confirm(&world, &path, &first).await, 422);
        }
        world.clock.advance(Duration::from_secs(600));
        assert_eq!(confirm(&world, &path, &second).await, 409);
        world.users.tidy().await.expect("tidied");
        assert_eq!(confirm(&world, &path, &second).await, 409);
    }

    async fn codes_do_not_follow_each_other_quickly(world: World) {
        let path = unverified(&world).await;
        assert_eq!(send(&world, &path).await.0, 202);
        assert_eq!(send(&world, &path).await.0, 429);
        assert_eq!(world.letters.sent.lock().unwrap().len(), 1);
        world.clock.advance(Duration::from_secs(30));
        assert_eq!(send(&world, &path).await.0, 202);
    }

    async fn a_code_that_could_not_be_sent_is_forgotten(world: World) {
        let path = unverified(&world).await;
        world.letters.failures.store(1, Ordering::SeqCst);
        assert_eq!(send(&world, &path).await.0, 503);
        assert_eq!(confirm(&world, &path, "123456").await, 409);
        assert_eq!(send(&world, &path).await.0, 202, "at once");
    }

    async fn what_is_not_there_or_retired_gets_no_code(world: World) {
        let path = unverified(&world).await;
        let nobodys = path.replace("/ada/", "/bob/");
        for absent in [nobodys.as_str(), "/v1/users/ada/devices/dev_0190d6a5c0de70008000000000000000/verification", "/v1/users/ada/devices/x/verification"] {
            assert_eq!(send(&world, absent).await.0, 404, "{absent}");
            assert_eq!(confirm(&world, absent, "123456").await, 404, "{absent}");
        }
        send(&world, &path).await;
        let (channel, address) = ("email".parse().expect("a channel"), "ada@x".parse().expect("an address"));
        world.users.retire(&tenant(), &channel, &address, "gone").await.expect("retired");
        assert_eq!(confirm(&world, &path, &code(&world)).await, 409);
        world.clock.advance(Duration::from_secs(30));
        assert_eq!(send(&world, &path).await.0, 409);
        for (method, body) in [(Method::POST, Value::Null), (Method::PUT, json!({"code": "123456"}))] {
            assert_eq!(world.send(Scope::NotificationsRead, method, &path, body).await.0, 403);
        }
    }

    async fn answers_at_once_are_counted_each(world: World) {
        let path = unverified(&world).await;
        send(&world, &path).await;
        let wrong = wrong(&code(&world));
        let (a, b, c, d, e, f, g) = tokio::join!(
            confirm(&world, &path, &wrong), confirm(&world, &path, &wrong), confirm(&world, &path, &wrong),
            confirm(&world, &path, &wrong), confirm(&world, &path, &wrong), confirm(&world, &path, &wrong),
            confirm(&world, &path, &wrong),
        );
        let answers = [a, b, c, d, e, f, g];
        assert_eq!(answers.iter().filter(|status| **status == 422).count(), 5, "{answers:?}");
    }
}

#[tokio::test]
async fn no_code_stands_in_the_store() {
    let world = World::sqlite().await;
    let path = unverified(&world).await;
    send(&world, &path).await;
    let carillon_sql::Database::Sqlite(sqlite) = &world.database.database else {
        panic!("SQLite")
    };
    let mut read = sqlite
        .read_system("a test looks at everything")
        .await
        .expect("opens");
    let (code,): (Vec<u8>,) = sqlx::query_as("SELECT code FROM devices")
        .fetch_one(&mut *read)
        .await
        .expect("a device");
    assert_eq!(code.len(), 32);
    assert!(
        !code
            .windows(6)
            .any(|window| window == self::code(&world).as_bytes())
    );
    assert!(!format!("{:?}", world.letters.sent.lock().unwrap()).contains(&self::code(&world)));
}
