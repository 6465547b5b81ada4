//! Heartbeats.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use carillon_domain::{Caller, Principal, Timestamp, ports::Directory as _};
use http::Method;
use serde_json::{Value, json};

use super::{World, name, on_both, tenant};
use crate::Users;

async fn beat(world: &World, body: Value) -> (u16, Value) {
    let (status, answer) = world.send_as("ada", Method::POST, "/v1/activity", body).await;
    (status.as_u16(), answer)
}

async fn active(users: &Users, user: &str) -> Option<Timestamp> {
    let id = users.resolve(&tenant(), &[name(user)]).await.expect("resolved");
    users
        .profiles(&tenant(), &id)
        .await
        .expect("read")
        .remove(0)
        .active_until
}

on_both! {
    async fn a_focused_heartbeat_counts_on_every_node_for_its_life(world: World) {
        let beside = world.beside().await;
        assert_eq!(active(&beside, "ada").await, None, "and is remembered so");
        let (status, answer) = beat(&world, json!({"device": "laptop", "focused": true})).await;
        assert_eq!(status, 200, "{answer}");
        let until = active(&beside, "ada").await.expect("active at once");
        assert_eq!(answer, json!({"active_until": until}));
        world.clock.advance(Duration::from_secs(59));
        assert_eq!(active(&world.users, "ada").await, Some(until));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(active(&beside, "ada").await, None);
    }

    async fn losing_the_focus_counts_at_once(world: World) {
        beat(&world, json!({"device": "laptop", "focused": true})).await;
        beat(&world, json!({"device": "phone", "focused": true})).await;
        let (_, answer) = beat(&world, json!({"device": "laptop", "focused": false})).await;
        assert_eq!(answer, json!({"active_until": null}));
        assert!(active(&world.users, "ada").await.is_some(), "on the phone still");
        beat(&world, json!({"device": "phone", "focused": false})).await;
        assert_eq!(active(&world.users, "ada").await, None);
        beat(&world, json!({"device": "phone", "focused": true})).await;
        assert!(active(&world.users, "ada").await.is_some());
    }

    async fn what_repeats_is_written_every_fifteen_seconds(world: World) {
        beat(&world, json!({"focused": true})).await;
        let first = active(&world.users, "ada").await;
        world.clock.advance(Duration::from_secs(14));
        beat(&world, json!({"focused": true})).await;
        assert_eq!(active(&world.users, "ada").await, first);
        world.clock.advance(Duration::from_secs(1));
        beat(&world, json!({"focused": true})).await;
        assert_eq!(active(&world.users, "ada").await, first.map(|until| until.after(Duration::from_secs(15))));
    }

    async fn a_device_is_known_by_its_id_and_by_its_name(world: World) {
        let path = "/v1/users/ada/devices";
        let token = |name: &str, address: &str| json!({"kind": "app", "name": name, "channel": "fcm", "address": address});
        world.send_as("ada", Method::POST, path, token("pen", "t1")).await;
        world.clock.advance(Duration::from_secs(1));
        let (_, other) = world.send_as("ada", Method::POST, path, token("ink", "t2")).await;
        let until = async || {
            let id = world.users.resolve(&tenant(), &[name("ada")]).await.expect("resolved");
            let profile = world.users.profiles(&tenant(), &id).await.expect("read").remove(0);
            profile.devices.iter().map(|device| device.active_until.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(until().await, [false, false]);
        // The token names the device `pen`.
        beat(&world, json!({"focused": true})).await;
        assert_eq!(until().await, [true, false]);
        beat(&world, json!({"device": other["id"], "focused": true})).await;
        assert_eq!(until().await, [true, true]);
    }

    async fn many_heartbeats_at_once_are_all_kept(world: World) {
        let world = Arc::new(world);
        let beats: Vec<_> = (0..50)
            .map(|n| {
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let user = format!("user-{n}");
                    let (status, _) = world.send_as(&user, Method::POST, "/v1/activity", json!({"focused": true})).await;
                    assert_eq!(status, 200);
                    user
                })
            })
            .collect();
        for one in beats {
            let user = one.await.expect("kept");
            assert!(active(&world.users, &user).await.is_some(), "{user}");
        }
    }

    async fn one_user_fills_no_table_and_what_is_over_goes(world: World) {
        for n in 0..70 {
            beat(&world, json!({"device": format!("d{n}"), "focused": true})).await;
        }
        let caller = world.caller("ada").await;
        let rows = async || {
            let rows = world.users.store.active(&tenant(), &[caller.id], Timestamp::default()).await;
            rows.expect("read").len()
        };
        assert_eq!(rows().await, 64);
        world.clock.advance(Duration::from_secs(60));
        world.users.tidy().await.expect("tidied");
        assert_eq!(rows().await, 0);
    }

    async fn heartbeats_are_of_users_who_exist(world: World) {
        let caller = world.caller("ada").await;
        world.users.erase(&tenant(), &name("ada")).await.expect("begun");
        world.users.beat(&tenant(), &caller, None, true).await.expect("answered");
        let rows = world.users.store.active(&tenant(), &[caller.id], Timestamp::default()).await;
        assert_eq!(rows.expect("read"), []);
    }

    async fn a_socket_calls_the_same_by_name(world: World) {
        let principal = Principal { tenant: tenant(), caller: Caller::User(world.caller("ada").await) };
        let rpc = world.users.rpc();
        let call = async |method: &str, data: Value| rpc.call(&principal, method, Bytes::from(data.to_string())).await;
        assert!(call("carillon.ack", json!({})).await.is_none());
        let answer = call("carillon.activity", json!({"focused": true})).await.expect("known").expect("taken");
        assert_eq!(serde_json::from_slice::<Value>(&answer).expect("JSON")["active_until"], json!(active(&world.users, "ada").await));
        let refused = call("carillon.activity", json!({"device": "a b", "focused": true})).await.expect("known");
        assert_eq!(refused.expect_err("refused").code, 107);
    }

    async fn only_users_have_heartbeats_and_devices_have_names(world: World) {
        let (status, _) = world.send(carillon_domain::Scope::UsersWrite, Method::POST, "/v1/activity", json!({"device": "x", "focused": true})).await;
        assert_eq!(status, 403);
        for bad in [json!({"focused": 1}), json!({"device": "", "focused": true}), json!({"device": "x"})] {
            assert_eq!(beat(&world, bad.clone()).await.0, 422, "{bad}");
        }
    }
}
