//! Devices, and what a user may do with his own token.

use std::time::Duration;

use carillon_domain::{DeviceKind, Scope, ports::Directory as _};
use http::Method;
use serde_json::{Value, json};

use super::{World, name, on_both, tenant};

async fn register(world: &World, user: &str, body: Value) -> (u16, Value) {
    let path = format!("/v1/users/{user}/devices");
    let (status, answer) = world.send(Scope::UsersWrite, Method::POST, &path, body).await;
    (status.as_u16(), answer)
}

async fn devices(world: &World, user: &str) -> Vec<Value> {
    let path = format!("/v1/users/{user}/devices");
    let (status, answer) = world.call(Scope::NotificationsRead, Method::GET, &path).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].as_array().expect("a list").clone()
}

/// The addresses that planning sees.
async fn reached(world: &World, user: &str) -> Vec<String> {
    let id = world
        .users
        .resolve(&tenant(), &[name(user)])
        .await
        .expect("resolved");
    let profile = world
        .users
        .profiles(&tenant(), &id)
        .await
        .expect("read")
        .remove(0);
    profile
        .devices
        .iter()
        .map(|device| device.address.to_string())
        .collect()
}

on_both! {
    async fn a_device_registered_again_is_the_same_one(world: World) {
        let token = json!({"kind": "app", "platform": "ios", "channel": "fcm", "address": "t1", "name": "phone", "app_version": "1.0"});
        let (status, made) = register(&world, "ada", token.clone()).await;
        assert_eq!((status, &made["kind"], &made["state"], &made["verified"]), (201, &json!("app"), &json!("active"), &json!(false)), "{made}");
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(register(&world, "ada", token).await, (200, made.clone()), "nothing changed");
        let renewed = json!({"name": "phone", "channel": "fcm", "address": "t2", "app_version": "1.1"});
        let (status, changed) = register(&world, "ada", renewed).await;
        assert_eq!((status, &changed["id"], &changed["address"], &changed["platform"]), (200, &made["id"], &json!("t2"), &json!("ios")));
        assert!(changed["updated_at"] != made["updated_at"]);
        assert_eq!(devices(&world, "ada").await, [changed]);
        assert_eq!(reached(&world, "ada").await, ["t2"]);
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved");
        let seen = world.users.profiles(&tenant(), &id).await.expect("read").remove(0).devices.remove(0);
        assert_eq!((seen.kind, seen.platform.as_deref(), seen.active_until), (DeviceKind::App, Some("ios"), None));
        // A browser that only the inbox reaches.
        let (status, browser) = register(&world, "ada", json!({"kind": "browser", "name": "laptop", "locale": "DE"})).await;
        assert_eq!((status, &browser["address"], &browser["locale"]), (201, &Value::Null, &json!("de")));
        assert_eq!(reached(&world, "ada").await, ["t2"]);
    }

    async fn a_push_token_belongs_to_who_registered_it_last(world: World) {
        let token = json!({"kind": "app", "channel": "fcm", "address": "shared"});
        register(&world, "ada", token.clone()).await;
        assert_eq!(reached(&world, "ada").await, ["shared"]);
        register(&world, "bob", token.clone()).await;
        assert_eq!((reached(&world, "ada").await, reached(&world, "bob").await), (vec![], vec!["shared".to_owned()]));
        let was = &devices(&world, "ada").await[0];
        assert_eq!((&was["state"], &was["reason"]), (&json!("retired"), &json!("registered for another user")));
        register(&world, "ada", token).await;
        assert_eq!(reached(&world, "bob").await, Vec::<String>::new());
        // A mailbox may be many people's.
        let mail = json!({"channel": "email", "address": "team@x"});
        register(&world, "ada", mail.clone()).await;
        register(&world, "bob", mail).await;
        assert_eq!(reached(&world, "ada").await.len(), 2);
    }

    async fn nobody_takes_a_confirmed_number_by_his_own_token(world: World) {
        let number = json!({"kind": "phone", "channel": "sms", "address": "+1", "verified": true});
        register(&world, "ada", number).await;
        let mine = json!({"kind": "phone", "channel": "sms", "address": "+1"});
        let (status, claimed) = world.send_as("bob", Method::POST, "/v1/users/bob/devices", mine).await;
        assert_eq!((status.as_u16(), &claimed["verified"]), (201, &json!(false)));
        assert_eq!(reached(&world, "ada").await, ["+1"]);
        let vouched = json!({"channel": "sms", "address": "+1", "verified": true});
        register(&world, "bob", vouched).await;
        assert_eq!(reached(&world, "ada").await, Vec::<String>::new(), "unless the tenant says so");
    }

    async fn a_device_is_changed_and_retired(world: World) {
        let made = register(&world, "ada", json!({"kind": "app", "name": "a", "channel": "fcm", "address": "t1", "verified": true})).await.1;
        register(&world, "ada", json!({"kind": "app", "name": "b"})).await;
        let path = format!("/v1/users/ada/devices/{}", made["id"].as_str().expect("an id"));
        let patch = async |body: Value| {
            let (status, answer) = world.send(Scope::UsersWrite, Method::PATCH, &path, body).await;
            (status.as_u16(), answer)
        };
        let (status, changed) = patch(json!({"label": "old", "app_version": null})).await;
        assert_eq!((status, &changed["label"], &changed["verified"]), (200, &json!("old"), &json!(true)));
        assert_eq!(patch(json!({"channel": "fcm", "address": "t2"})).await.1["verified"], json!(false), "another address");
        assert_eq!(patch(json!({"name": "b"})).await.0, 409);
        assert_eq!(patch(json!({"id": "dev_0190d6a5c0de70008000000000000000"})).await.0, 422);
        for _ in 0..2 {
            assert_eq!(world.call(Scope::UsersWrite, Method::DELETE, &path).await.0, 204);
            world.clock.advance(Duration::from_secs(5));
        }
        let listed = devices(&world, "ada").await;
        let gone = listed.iter().find(|device| device["id"] == made["id"]).expect("is listed");
        assert_eq!((&gone["state"], &gone["reason"]), (&json!("retired"), &json!("removed")));
        assert_eq!(reached(&world, "ada").await, Vec::<String>::new());
        let revived = register(&world, "ada", json!({"channel": "fcm", "address": "t2"})).await;
        assert_eq!((revived.0, &revived.1["id"], &revived.1["state"]), (200, &made["id"], &json!("active")));
        let absent = "/v1/users/ada/devices/dev_0190d6a5c0de70008000000000000000";
        assert_eq!(world.call(Scope::UsersWrite, Method::DELETE, absent).await.0, 404);
        assert_eq!(world.send(Scope::UsersWrite, Method::PATCH, absent, json!({})).await.0, 404);
        assert_eq!(world.call(Scope::UsersWrite, Method::DELETE, &path.replace("ada", "eve")).await.0, 404);
    }

    async fn what_does_not_fit_is_named_by_its_place(world: World) {
        for (body, pointer) in [
            (json!({}), "/kind"),
            (json!({"kind": "toaster"}), "/kind"),
            (json!({"kind": "phone"}), "/address"),
            (json!({"kind": "app", "channel": "fcm"}), "/address"),
            (json!({"kind": "app", "address": "x"}), "/address"),
            (json!({"channel": "in_app", "address": "x"}), "/channel"),
            (json!({"channel": "email", "address": "nowhere"}), "/address"),
            (json!({"kind": "app", "name": "a b"}), "/name"),
            (json!({"kind": "app", "locale": "_"}), "/locale"),
            (json!({"kind": "app", "platform": ""}), "/platform"),
            (json!({"kind": "app", "label": "a\u{7}"}), "/label"),
        ] {
            let (status, problem) = register(&world, "ada", body.clone()).await;
            assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{body} {problem}");
        }
        assert_eq!(world.users.find(&tenant(), &name("ada")).await.expect("asked"), None, "nobody is made");
    }

    async fn a_user_has_at_most_thirty_two(world: World) {
        for n in 0..32 {
            assert_eq!(register(&world, "ada", json!({"channel": "fcm", "address": n.to_string()})).await.0, 201);
        }
        assert_eq!(register(&world, "ada", json!({"channel": "fcm", "address": "32"})).await.0, 409);
        let list = json!({"addresses": [{"channel": "email", "address": "a@x"}]});
        assert_eq!(world.send(Scope::UsersWrite, Method::PUT, "/v1/users/ada", list).await.0, 409);
    }

    async fn a_user_writes_his_own_language_zone_and_devices_alone(world: World) {
        let put = async |user: &str, body: Value| {
            let (status, answer) = world.send_as(user, Method::PUT, "/v1/users/ada", body).await;
            (status.as_u16(), answer)
        };
        let (status, ada) = put("ada", json!({"locale": "de", "timezone": "europe/vienna"})).await;
        assert_eq!((status, &ada["timezone"]), (200, &json!("Europe/Vienna")), "{ada}");
        let (_, ada) = put("ada", json!({"timezone": null})).await;
        assert_eq!((&ada["locale"], &ada["timezone"]), (&json!("de"), &Value::Null));
        assert_eq!(put("ada", json!({"attributes": {}})).await.0, 403);
        assert_eq!(put("ada", json!({"addresses": []})).await.0, 403);
        assert_eq!(put("bob", json!({"locale": "en"})).await.0, 403);
        let bad = put("ada", json!({"timezone": "Europe/Nowhere"})).await;
        assert_eq!((bad.0, &bad.1["errors"][0]["pointer"]), (422, &json!("/timezone")));
        assert_eq!(world.send_as("ada", Method::GET, "/v1/users/ada", Value::Null).await.0, 200);
        assert_eq!(world.send_as("bob", Method::GET, "/v1/users/ada", Value::Null).await.0, 403);

        let path = "/v1/users/ada/devices";
        let vouched = json!({"channel": "email", "address": "a@x", "verified": true});
        assert_eq!(world.send_as("ada", Method::POST, path, vouched).await.0, 403);
        let (status, own) = world.send_as("ada", Method::POST, path, json!({"kind": "browser", "name": "pen"})).await;
        assert_eq!(status, 201);
        assert_eq!(world.send_as("bob", Method::POST, path, json!({"kind": "browser", "name": "pen"})).await.0, 403);
        assert_eq!(world.send_as("bob", Method::GET, path, Value::Null).await.0, 403);
        let one = format!("{path}/{}", own["id"].as_str().expect("an id"));
        assert_eq!(world.send_as("bob", Method::DELETE, &one, Value::Null).await.0, 403);
        assert_eq!(world.send_as("ada", Method::DELETE, &one, Value::Null).await.0, 204);
        assert_eq!(world.send_as("ada", Method::DELETE, "/v1/users/ada", Value::Null).await.0, 403, "erasing is the tenant's");
    }

    async fn attributes_and_zone_reach_planning(world: World) {
        let body = json!({"timezone": "Asia/Kolkata", "attributes": {"plan": "pro", "nested": {"a": [1]}, "nul": "\u{0}"}});
        let (status, made) = world.send(Scope::UsersWrite, Method::PUT, "/v1/users/ada", body.clone()).await;
        assert_eq!((status.as_u16(), &made["attributes"]), (200, &body["attributes"]), "{made}");
        let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved");
        let profile = world.beside().await.profiles(&tenant(), &id).await.expect("read").remove(0);
        assert_eq!((profile.zone.as_deref(), profile.attributes.get("plan")), (Some("Asia/Kolkata"), Some(&json!("pro"))));
        let (_, kept) = world.send(Scope::UsersWrite, Method::PUT, "/v1/users/ada", json!({"locale": "en"})).await;
        assert_eq!(kept["attributes"], body["attributes"]);
        let (_, none) = world.send(Scope::UsersWrite, Method::PUT, "/v1/users/ada", json!({"attributes": null})).await;
        assert_eq!(none["attributes"], json!({}));
        let deep = json!({"attributes": {"a": {"b": {"c": {"d": {}}}}}});
        let (status, problem) = world.send(Scope::UsersWrite, Method::PUT, "/v1/users/ada", deep).await;
        assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("/attributes/a/b/c/d")));
    }
}
