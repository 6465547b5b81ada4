//! Coming back over WebSocket.

use serde_json::json;

use crate::{client::Ws, world::Server};

#[tokio::test]
async fn the_mailbox_recovers_by_epoch_and_offset() {
    let server = Server::start();
    let token = server.world.token("ada");
    let (_, connected) = Ws::connect(server.address, &token).await;
    let epoch = connected["subs"]["carillon:inbox"]["epoch"].clone();
    for number in 0..100 {
        server.world.log("ada", &number.to_string());
    }
    let subs = |offset: u64| json!({"carillon:inbox": {"recover": true, "epoch": epoch, "offset": offset}});
    let (mut ws, connected) =
        Ws::connect_with(server.address, json!({"token": token, "subs": subs(10)})).await;
    let inbox = &connected["subs"]["carillon:inbox"];
    assert_eq!(
        (&inbox["recovered"], &inbox["was_recovering"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(inbox["offset"], 10, "the publications move it on");
    let mut next = 11;
    for publication in inbox["publications"].as_array().unwrap() {
        assert_eq!(publication["offset"], next);
        next += 1;
    }
    // What did not fit the reply follows.
    while next <= 100 {
        assert_eq!(ws.push().await["pub"]["offset"], next);
        next += 1;
    }
    server.world.ring("ada", "live");
    assert_eq!(ws.push().await["pub"]["offset"], 101);

    let (_, connected) = Ws::connect_with(server.address, json!({"token": token, "subs": subs(101)})).await;
    let inbox = &connected["subs"]["carillon:inbox"];
    assert_eq!(
        (&inbox["recovered"], inbox.get("publications")),
        (&json!(true), None)
    );
}

#[tokio::test]
async fn what_is_recovered_of_large_publications_follows_as_fast_as_it_is_read() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = server.world.publish("room.1", "0").unwrap();
    for number in 1..=200 {
        server.world.publication(
            "room.1",
            &json!({"n": number, "x": "y".repeat(20_000)}).to_string(),
            None,
        );
    }
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    let subscribe = json!({"channel": "room.1", "recover": true, "epoch": start.epoch.as_str(), "offset": 1});
    let reply = ws.command("subscribe", subscribe).await;
    let subscribed = &reply["subscribe"];
    assert_eq!(subscribed["recovered"], true);
    let first = subscribed["publications"].as_array().unwrap().len();
    assert!((1..5).contains(&first), "{first} within the reply");
    for number in first + 1..=200 {
        assert_eq!(ws.push().await["pub"]["data"]["n"], number);
    }
    server.world.publish("room.1", "\"live\"");
    assert_eq!(ws.push().await["pub"]["data"], "live");
}

#[tokio::test]
async fn who_is_too_far_behind_or_elsewhere_is_told_so() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = server.world.publish("room.1", "0").unwrap();
    for number in 1..=400 {
        server.world.publish("room.1", &number.to_string());
    }
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    let mut subscribe = async |epoch: &str, offset: u64, flag: u64| {
        let subscribe =
            json!({"channel": "room.1", "recover": true, "epoch": epoch, "offset": offset, "flag": flag});
        let reply = ws.command("subscribe", subscribe).await;
        ws.command("unsubscribe", json!({"channel": "room.1"})).await;
        reply
    };
    let epoch = start.epoch.as_str();
    for (epoch, offset) in [(epoch, 100), (epoch, 500), ("other", 1), ("_", 0)] {
        let reply = subscribe(epoch, offset, 1).await;
        let subscribed = &reply["subscribe"];
        assert_eq!(subscribed.get("recovered"), None, "{epoch} {offset}: {reply}");
        assert_eq!(
            (&subscribed["was_recovering"], &subscribed["offset"]),
            (&json!(true), &json!(401)),
            "{reply}"
        );
        assert_eq!(
            subscribe(epoch, offset, 2).await["error"]["code"],
            112,
            "rather refused"
        );
    }
    let reply = subscribe(epoch, 101, 1).await;
    assert_eq!(reply["subscribe"]["recovered"], true, "300 and no more");
    let reply = subscribe("", 400, 1).await;
    assert_eq!(reply["subscribe"]["publications"][0]["data"], 400, "any epoch");
}

#[tokio::test]
async fn a_device_gets_again_over_websocket_what_it_has_not_confirmed() {
    let server = Server::start();
    let token = server.world.token("ada");
    let positions: Vec<_> = (0..4)
        .map(|n| server.world.ring("ada", &n.to_string()).to_string())
        .collect();
    server.world.confirm("ada", "phone", &positions[1]);
    let epoch = positions[0].split_once('-').unwrap().0;
    let subs = json!({"carillon:inbox": {"recover": true, "epoch": epoch, "offset": 4}});
    let connect = json!({"token": token, "data": {"device": "phone"}, "subs": subs});
    let (_, connected) = Ws::connect_with(server.address, connect).await;
    let inbox = &connected["subs"]["carillon:inbox"];
    assert_eq!(
        (&inbox["offset"], &inbox["publications"][0]["offset"]),
        (&json!(2), &json!(3))
    );
}

#[tokio::test]
async fn a_lost_place_makes_the_client_subscribe_or_connect_again() {
    let server = Server::start();
    let token = server.world.token("ada");
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    let (mut other, _) =
        Ws::connect_with(server.address, json!({"token": token, "data": {"inbox": false}})).await;
    other
        .command("subscribe", json!({"channel": "carillon:inbox"}))
        .await;
    server.world.renumber("ada");
    server.world.ring("ada", "new life");
    assert_eq!(
        ws.closed().await,
        (Some(3010), "insufficient state".into()),
        "a server-side subscription"
    );
    let push = other.push().await;
    assert_eq!(push["unsubscribe"]["code"], 2500, "a client's own: {push}");
    let again = other
        .command("subscribe", json!({"channel": "carillon:inbox"}))
        .await;
    assert_eq!(again["subscribe"]["offset"], 1);
}

#[tokio::test]
async fn one_reading_serves_all_who_come_back_to_one_place() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = server.world.publish("room.1", "0").unwrap();
    for number in 1..=10 {
        server.world.publish("room.1", &number.to_string());
    }
    let reads = || server.world.reads.swap(0, std::sync::atomic::Ordering::Relaxed);
    let behind = |offset: u64| json!({"channel": "room.1", "recover": true, "epoch": start.epoch.as_str(), "offset": offset});
    let data = |reply: &serde_json::Value| -> Vec<u64> {
        let publications = reply["subscribe"]["publications"].as_array().unwrap();
        publications
            .iter()
            .map(|one| one["data"].as_u64().unwrap())
            .collect()
    };
    let mut clients = Vec::new();
    for number in 0..5 {
        let (mut ws, _) = Ws::connect(server.address, &token).await;
        reads();
        let reply = ws.command("subscribe", behind(3)).await;
        assert_eq!(reply["subscribe"]["recovered"], true);
        assert_eq!(data(&reply), (3..=10).collect::<Vec<_>>());
        assert_eq!(reads(), usize::from(number == 0), "client {number}");
        clients.push(ws);
    }
    // What comes afterwards comes once to each, and a reading that ends before it serves nobody any more.
    server.world.publish("room.1", "11");
    for ws in &mut clients {
        assert_eq!(ws.push().await["pub"]["data"], 11);
    }
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    reads();
    let reply = ws.command("subscribe", behind(3)).await;
    assert_eq!(data(&reply), (3..=11).collect::<Vec<_>>());
    assert_eq!(reads(), 1);
    // Another place is another reading.
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    reads();
    assert_eq!(data(&ws.command("subscribe", behind(9)).await), [9, 10, 11]);
    assert_eq!(reads(), 1);
}
