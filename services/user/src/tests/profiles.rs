//! Languages and addresses.

use std::time::Duration;

use carillon_domain::{Scope, ports::Directory as _};
use http::Method;
use serde_json::{Value, json};

use super::{World, name, on_both, tenant};
use crate::profiles::MANY;

async fn put(world: &World, user: &str, body: Value) -> (u16, Value) {
    let (status, body) = world
        .send(Scope::UsersWrite, Method::PUT, &format!("/v1/users/{user}"), body)
        .await;
    (status.as_u16(), body)
}

async fn show(world: &World, user: &str) -> Value {
    let (status, body) = world
        .call(
            Scope::NotificationsRead,
            Method::GET,
            &format!("/v1/users/{user}"),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    body
}

/// Retires an address.
async fn retire(world: &World, channel: &str, address: &str) {
    let (channel, address) = (
        channel.parse().expect("a channel"),
        address.parse().expect("an address"),
    );
    world
        .users
        .retire(&tenant(), &channel, &address, "550 no such\nuser")
        .await
        .expect("retired");
}

/// What planning sees of one user: language, and addresses with whether they are verified.
async fn seen(users: &crate::Users, user: &str) -> (Option<String>, Vec<(String, bool)>) {
    let id = users.resolve(&tenant(), &[name(user)]).await.expect("resolved")[0];
    let profile = users.profiles(&tenant(), &[id]).await.expect("read").remove(0);
    let devices = profile.devices.iter();
    (
        profile.locale.as_deref().map(str::to_owned),
        devices
            .map(|device| (device.address.to_string(), device.verified))
            .collect(),
    )
}

on_both! {
    async fn a_put_makes_a_user_and_absent_members_stay_as_they_are(world: World) {
        let (status, made) = put(&world, "ada", json!({
            "locale": "DE-at",
            "addresses": [
                {"channel": "email", "address": "Ada@Example.org", "verified": true, "label": "work"},
                {"channel": "sms", "address": "+43 1 234"},
            ],
        })).await;
        assert_eq!((status, &made["locale"], &made["state"]), (200, &json!("de-AT"), &json!("active")), "{made}");
        let (first, second) = (&made["addresses"][0], &made["addresses"][1]);
        assert_eq!((&first["address"], &first["verified"], &first["label"]), (&json!("ada@example.org"), &json!(true), &json!("work")));
        assert_eq!((&second["address"], &second["verified"], &second["label"]), (&json!("+43 1 234"), &json!(false), &Value::Null));
        assert_eq!(show(&world, "ada").await, made);
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0];
        assert_eq!(made["id"], json!(id));

        assert_eq!(put(&world, "ada", json!({})).await.1, made);
        let silent = put(&world, "ada", json!({"locale": null})).await.1;
        assert_eq!((&silent["locale"], &silent["addresses"]), (&Value::Null, &made["addresses"]));
        let homeless = put(&world, "ada", json!({"addresses": []})).await.1;
        assert_eq!(homeless["addresses"], json!([]));
    }

    async fn a_list_is_the_whole_set_and_what_stays_keeps_its_id(world: World) {
        let addresses = |texts: &[&str]| {
            let list: Vec<_> = texts.iter().map(|text| json!({"channel": "email", "address": text})).collect();
            json!({"addresses": list})
        };
        let before = put(&world, "ada", addresses(&["a@x", "b@x"])).await.1;
        world.clock.advance(Duration::from_secs(1));
        let after = put(&world, "ada", addresses(&["C@x", "B@X"])).await.1;
        assert_eq!(after["addresses"].as_array().map(Vec::len), Some(2));
        assert_eq!(after["addresses"][1], before["addresses"][1]);
        assert_eq!(after["addresses"][0]["address"], "c@x");
        // The same address is somebody else's too.
        assert_eq!(put(&world, "bob", addresses(&["c@x"])).await.0, 200);
    }

    async fn what_does_not_fit_is_named_by_its_place_and_changes_nothing(world: World) {
        put(&world, "ada", json!({"locale": "en"})).await;
        let one = |address: Value| json!({"addresses": [address]});
        let twice = json!({"addresses": [
            {"channel": "email", "address": "a@x"}, {"channel": "sms", "address": "a@x"}, {"channel": "email", "address": "A@X"},
        ]});
        let many: Vec<_> = (0..33).map(|n| json!({"channel": "sms", "address": n.to_string()})).collect();
        for (body, pointer) in [
            (json!({"locale": "no_locale"}), "/locale"),
            (json!({"locale": 5}), "/locale"),
            (json!({"addresses": many}), "/addresses"),
            (twice, "/addresses/2/address"),
            (one(json!({"channel": "email", "address": "nowhere"})), "/addresses/0/address"),
            (one(json!({"channel": "sms", "address": ""})), "/addresses/0/address"),
            (one(json!({"channel": "sms", "address": "a\nb"})), "/addresses/0/address"),
            (one(json!({"channel": "sms", "address": "x".repeat(2_049)})), "/addresses/0/address"),
            (one(json!({"channel": "in_app", "address": "x"})), "/addresses/0/channel"),
            (one(json!({"channel": "E-Mail", "address": "a@x"})), "/addresses/0/channel"),
            (one(json!({"channel": "sms", "address": "1", "label": ""})), "/addresses/0/label"),
            (one(json!({"channel": "sms", "address": "1", "label": "a\u{7}"})), "/addresses/0/label"),
        ] {
            let (status, problem) = put(&world, "ada", body.clone()).await;
            assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{body} {problem}");
        }
        let both = put(&world, "ada", json!({"locale": "-", "addresses": [{"channel": "email", "address": "x"}]})).await.1;
        assert_eq!(both["errors"].as_array().map(Vec::len), Some(2));
        for unknown in [json!({"email": "a@x"}), one(json!({"channel": "sms", "address": "1", "id": "dev_1"}))] {
            assert_eq!(put(&world, "ada", unknown).await.0, 422);
        }
        let ada = show(&world, "ada").await;
        assert_eq!((&ada["locale"], &ada["addresses"]), (&json!("en"), &json!([])));
        let many: Vec<_> = (0..32).map(|n| json!({"channel": "sms", "address": n.to_string()})).collect();
        assert_eq!(put(&world, "ada", json!({"addresses": many})).await.0, 200);
    }

    async fn profiles_are_read_in_batches_in_the_order_asked_for(world: World) {
        put(&world, "ada", json!({"locale": "en", "addresses": [{"channel": "email", "address": "a@x"}]})).await;
        put(&world, "bob", json!({"addresses": [{"channel": "email", "address": "b@x"}, {"channel": "sms", "address": "1"}]})).await;
        let mut ids = world.users.resolve(&tenant(), &[name("bob"), name("eve"), name("ada")]).await.expect("resolved");
        ids.push(ids[0]);
        for _ in 0..2 {
            let profiles = world.users.profiles(&tenant(), &ids).await.expect("read");
            let counts: Vec<_> = profiles.iter().map(|profile| profile.devices.len()).collect();
            assert_eq!(counts, [2, 0, 1, 2]);
            assert_eq!(profiles[2].locale.as_deref(), Some("en"));
        }
        let acme = "acme".parse().expect("a tenant");
        let foreign = world.users.profiles(&acme, &ids[..1]).await.expect("read");
        assert_eq!(foreign[0].devices, []);
    }

    async fn a_change_is_seen_at_once_where_it_was_made(world: World) {
        let beside = world.beside().await;
        put(&world, "ada", json!({"addresses": [{"channel": "email", "address": "a@x"}]})).await;
        for users in [&world.users, &beside] {
            assert_eq!(seen(users, "ada").await, (None, vec![("a@x".to_owned(), false)]));
        }
        put(&world, "ada", json!({"addresses": [{"channel": "email", "address": "b@x", "verified": true}]})).await;
        assert_eq!(seen(&world.users, "ada").await.1, [("b@x".to_owned(), true)]);
        let fresh = world.beside().await;
        assert_eq!(seen(&fresh, "ada").await.1, [("b@x".to_owned(), true)]);
    }

    async fn a_dead_address_is_retired_for_everybody_until_it_is_registered_anew(world: World) {
        let shared = json!({"addresses": [{"channel": "email", "address": "team@x", "verified": true}, {"channel": "sms", "address": "team@x"}]});
        for user in ["ada", "bob"] {
            put(&world, user, shared.clone()).await;
            assert_eq!(seen(&world.users, user).await.1.len(), 2);
        }
        let before = show(&world, "ada").await;
        for _ in 0..2 {
            retire(&world, "email", "team@x").await;
            world.clock.advance(Duration::from_secs(60));
        }
        for user in ["ada", "bob"] {
            assert_eq!(seen(&world.users, user).await.1, [("team@x".to_owned(), false)], "the other channel's stays");
        }
        let retired = &show(&world, "ada").await["addresses"][0];
        assert_eq!((&retired["state"], &retired["reason"]), (&json!("retired"), &json!("550 no such user")));
        assert_eq!(retired["retired_at"], before["created_at"], "twice is once");
        let revived = put(&world, "ada", json!({"addresses": [{"channel": "email", "address": "TEAM@x"}]})).await.1;
        let revived = &revived["addresses"][0];
        assert_eq!((&revived["id"], &revived["state"], &revived["verified"]), (&before["addresses"][0]["id"], &json!("active"), &json!(false)));
        assert_eq!(seen(&world.users, "bob").await.1.len(), 1, "only hers");
    }

    async fn retired_addresses_go_after_their_retention(world: World) {
        put(&world, "ada", json!({"addresses": [{"channel": "sms", "address": "1"}, {"channel": "sms", "address": "2"}]})).await;
        retire(&world, "sms", "1").await;
        world.clock.advance(Duration::from_secs(29 * 86_400));
        world.users.tidy().await.expect("tidied");
        assert_eq!(show(&world, "ada").await["addresses"].as_array().map(Vec::len), Some(2));
        world.clock.advance(Duration::from_secs(2 * 86_400));
        world.users.tidy().await.expect("tidied");
        let left = show(&world, "ada").await;
        assert_eq!((left["addresses"].as_array().map(Vec::len), &left["addresses"][0]["address"]), (Some(1), &json!("2")));
    }

    async fn an_erasure_takes_addresses_and_language_with_the_name(world: World) {
        put(&world, "ada", json!({"locale": "en", "addresses": [{"channel": "email", "address": "a@x"}]})).await;
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved")[0];
        assert!(world.users.erase(&tenant(), &name("ada")).await.expect("begun"));
        let gone = world.beside().await.profiles(&tenant(), &[id]).await.expect("read").remove(0);
        assert_eq!(gone, carillon_domain::ports::Profile::default());
        let erasing = show(&world, "ada").await;
        assert_eq!((&erasing["state"], &erasing["addresses"], &erasing["locale"]), (&json!("erasing"), &json!([]), &Value::Null));
        // Whoever is called the same is somebody else.
        let next = put(&world, "ada", json!({})).await.1;
        assert_eq!((&next["addresses"], &next["locale"]), (&json!([]), &Value::Null));
        assert_ne!(next["id"], json!(id));
    }

    async fn addresses_written_at_once_are_one_set_or_the_other(world: World) {
        let list = |letter: char| {
            let addresses: Vec<_> = (0..20).map(|n| json!({"channel": "sms", "address": format!("{letter}{n}")})).collect();
            json!({"addresses": addresses})
        };
        for _ in 0..5 {
            let (a, b, c) = tokio::join!(
                put(&world, "ada", list('a')), put(&world, "ada", list('b')), put(&world, "ada", list('a'))
            );
            assert_eq!((a.0, b.0, c.0), (200, 200, 200));
            let shown = show(&world, "ada").await;
            let addresses = shown["addresses"].as_array().expect("a list");
            let first = addresses[0]["address"].as_str().expect("text")[..1].to_owned();
            assert_eq!(addresses.len(), 20);
            assert!(addresses.iter().all(|address| address["address"].as_str().expect("text").starts_with(&first)), "{shown}");
        }
    }

    async fn a_page_of_many_is_read_anew_and_nobody_of_it_is_remembered(world: World) {
        let names: Vec<_> = (0..=MANY).map(|n| name(&format!("u{n}"))).collect();
        let ids = world.users.resolve(&tenant(), &names).await.expect("resolved");
        put(&world, "u7", json!({"locale": "de"})).await;
        let twice: Vec<_> = ids.iter().chain(&ids[7..8]).copied().collect();
        let profiles = world.users.profiles(&tenant(), &twice).await.expect("read");
        let german: Vec<usize> = (0..twice.len()).filter(|place| profiles[*place].locale.as_deref() == Some("de")).collect();
        assert_eq!((profiles.len(), german), (twice.len(), vec![7, MANY + 1]));
        assert_eq!(world.users.profiles.remembered().await, 0);
        world.users.profiles(&tenant(), &ids[..MANY]).await.expect("read");
        assert_eq!(world.users.profiles.remembered().await, MANY as u64);
    }

    async fn only_a_key_that_may_write_users_writes_them(world: World) {
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::UsersWrite) {
            let (status, _) = world.send(scope, Method::PUT, "/v1/users/ada", json!({})).await;
            assert_eq!(status, 403);
        }
        assert_eq!(world.users.find(&tenant(), &name("ada")).await.expect("asked"), None);
    }
}
