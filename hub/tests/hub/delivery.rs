//! What subscribers get when the bus is late, forgetful or confused: everything, once, in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use carillon_runtime::config::Span;
use serde_json::json;

use crate::{
    client::{Sse, Ws, within},
    world::{Server, eventually},
};

#[tokio::test]
async fn what_the_bus_lost_or_mixed_up_is_read_from_the_store() {
    let server = Server::start();
    let token = server.world.token("ada");
    let mut stream = Sse::open(server.address, &token, "").await;
    stream.position().await;
    let (mut ws, _) = Ws::connect(server.address, &token).await;
    let mut envelopes: Vec<_> = (0..10).map(|n| server.world.log("ada", &n.to_string())).collect();
    let (first, last) = (envelopes.remove(0), envelopes.pop().unwrap());
    // Reversed, doubled, and one of them lost.
    envelopes.reverse();
    envelopes.remove(3);
    envelopes.extend(envelopes.clone());
    server.world.bus.send(envelopes);
    server.world.bus.send(vec![last, first.clone(), first]);
    for seq in 1..=10 {
        assert_eq!(stream.next().await.seq(), seq);
        assert_eq!(ws.push().await["pub"]["offset"], seq);
    }
    server.world.ring("ada", "after");
    assert_eq!(stream.next().await.seq(), 11, "and nothing twice");
}

#[tokio::test]
async fn what_the_bus_lost_last_is_found_by_comparison() {
    let server = Server::configured(|config| config.position_check_interval = Span::from_millis(500));
    let token = server.world.token("ada");
    let mut stream = Sse::open(server.address, &token, "").await;
    stream.position().await;
    server.world.log("ada", "nobody is told");
    assert_eq!(stream.next().await.seq(), 1);
}

#[tokio::test]
async fn a_store_that_lags_behind_the_bus_is_waited_for() {
    let server = Server::start();
    let token = server.world.token("ada");
    let mut stream = Sse::open(server.address, &token, "").await;
    stream.position().await;
    server.world.log("ada", "lost");
    let second = server.world.log("ada", "second");
    *server.world.away.lock().unwrap() = true;
    let asked = || server.world.reads.load(Ordering::Relaxed);
    let before = asked();
    server.world.bus.send(vec![second]);
    eventually("the store was asked in vain", || asked() > before).await;
    *server.world.away.lock().unwrap() = false;
    assert_eq!(stream.next().await.seq(), 1);
    assert_eq!(stream.next().await.seq(), 2);
}

#[tokio::test]
async fn a_reconnect_to_a_feed_that_is_known_reads_nothing() {
    let server = Server::start();
    let token = server.world.token("ada");
    let start = Sse::open(server.address, &token, "").await.position().await;
    let epoch = start.split_once('-').unwrap().0.to_owned();
    for number in 0..3 {
        server.world.ring("ada", &number.to_string());
    }
    let before = server.world.reads.load(Ordering::Relaxed);
    for _ in 0..20 {
        let mut stream = Sse::resume(server.address, &token, "", &format!("{epoch}-3")).await;
        assert_eq!(stream.position().await, format!("{epoch}-3"));
        let subs = json!({"carillon:inbox": {"recover": true, "epoch": epoch, "offset": 3}});
        let (_, connected) = Ws::connect_with(server.address, json!({"token": token, "subs": subs})).await;
        assert_eq!(connected["subs"]["carillon:inbox"]["recovered"], true);
    }
    assert_eq!(server.world.reads.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn the_bus_is_asked_for_what_has_subscribers_and_let_go_of_the_rest() {
    let server = Server::configured(|config| config.feed_linger = Span::from_millis(500));
    let listened = || server.world.bus.listened.lock().unwrap().len();
    let token = server.world.token("ada");
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = Sse::open(server.address, &token, "?topic=room.1&topic=room.2").await;
        stream.position().await;
        streams.push(stream);
    }
    assert_eq!(listened(), 3);
    streams.clear();
    eventually("nothing is listened to", || listened() == 0).await;
    let mut again = Sse::open(server.address, &token, "?topic=room.1").await;
    again.position().await;
    server.world.publish("room.1", "1");
    assert_eq!(again.next().await.data["data"], 1);
}

/// Publishers, an unreliable bus, and readers that come, go and resume, over both transports at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_come_and_go_miss_nothing_and_see_nothing_twice() {
    const MESSAGES: u64 = 3_000;
    let server = Arc::new(Server::start());
    let token = server.world.token("ada");
    let done = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));
    // What the fastest reader has seen: the publisher does not run away from it, so that they meet all along.
    let furthest = Arc::new(AtomicU64::new(0));
    let start = Sse::open(server.address, &token, "").await.position().await;
    let epoch = start.split_once('-').unwrap().0.to_owned();

    let mut readers = Vec::new();
    for reader in 0..8_u64 {
        let (server, token, epoch) = (Arc::clone(&server), token.clone(), epoch.clone());
        let furthest = Arc::clone(&furthest);
        readers.push(tokio::spawn(async move {
            let (mut seen, mut visits) = (0, 0);
            while seen < MESSAGES {
                furthest.fetch_max(seen, Ordering::Relaxed);
                visits += 1;
                // A different patience each time.
                let stay = 1 + (reader * 7 + visits * 13) % 200;
                let until = MESSAGES.min(seen + stay);
                if (reader + visits) % 2 == 0 {
                    let mut stream =
                        Sse::resume(server.address, &token, "", &format!("{epoch}-{seen}")).await;
                    assert_eq!(stream.position().await, format!("{epoch}-{seen}"));
                    while seen < until {
                        let event = stream.next().await;
                        assert_eq!(
                            (event.name.as_str(), event.seq()),
                            ("added", seen + 1),
                            "reader {reader}"
                        );
                        seen += 1;
                    }
                } else {
                    let subs = json!({"carillon:inbox": {"recover": true, "epoch": epoch, "offset": seen}});
                    let connect = json!({"token": token, "subs": subs});
                    let (mut ws, connected) = Ws::connect_with(server.address, connect).await;
                    let inbox = &connected["subs"]["carillon:inbox"];
                    if inbox["recovered"] != true {
                        // More than the recovery's limit behind: announced, and the next visit is a stream's.
                        continue;
                    }
                    for publication in inbox["publications"].as_array().unwrap_or(&Vec::new()) {
                        assert_eq!(publication["offset"], seen + 1, "reader {reader}");
                        seen += 1;
                    }
                    while seen < until {
                        let push = ws.push().await;
                        assert_eq!(push["pub"]["offset"], seen + 1, "reader {reader}: {push}");
                        seen += 1;
                    }
                }
            }
            visits
        }));
    }

    let publisher = {
        let (server, done, published) = (Arc::clone(&server), Arc::clone(&done), Arc::clone(&published));
        let furthest = Arc::clone(&furthest);
        tokio::spawn(async move {
            let mut late = Vec::new();
            for number in 1..=MESSAGES {
                let envelope = server.world.log("ada", &number.to_string());
                match number % 11 {
                    // Lost for good, unless it is the last one.
                    3 if number != MESSAGES => {}
                    // Late.
                    5 | 6 => late.push(envelope),
                    7 => server.world.bus.send(vec![envelope.clone(), envelope]),
                    _ => {
                        late.insert(0, envelope);
                        server.world.bus.send(std::mem::take(&mut late));
                    }
                }
                published.store(number, Ordering::Relaxed);
                if number % 20 == 0 {
                    let seen = || furthest.load(Ordering::Relaxed);
                    eventually("a reader follows", || seen() + 500 > number).await;
                }
            }
            server.world.bus.send(late);
            done.store(true, Ordering::Relaxed);
        })
    };
    tokio::time::timeout(Duration::from_secs(60), publisher)
        .await
        .unwrap()
        .unwrap();
    for reader in readers {
        let visits = tokio::time::timeout(Duration::from_secs(60), reader)
            .await
            .unwrap()
            .unwrap();
        assert!(visits > 10, "{visits}");
    }
    assert!(done.load(Ordering::Relaxed) && published.load(Ordering::Relaxed) == MESSAGES);
}

/// Many subscribers: the fan-out leaves the publisher's thread and goes in strides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_bursts_in_order_while_others_come_and_go() {
    let server = Arc::new(Server::start());
    let token = server.world.token("ada");
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let (mut ws, _) =
            Ws::connect_with(server.address, json!({"token": token, "data": {"inbox": false}})).await;
        ws.command("subscribe", json!({"channel": "live.1"})).await;
        ws.command("subscribe", json!({"channel": "room.1"})).await;
        crowd.push(ws);
    }
    let restless = {
        let (server, token) = (Arc::clone(&server), token.clone());
        tokio::spawn(async move {
            loop {
                let (mut ws, _) = Ws::connect(server.address, &token).await;
                ws.command("subscribe", json!({"channel": "room.1"})).await;
            }
        })
    };
    let mut witness = crowd.pop().unwrap();
    for burst in 0..10 {
        let envelopes = (0..32).flat_map(|n| {
            let number = (burst * 32 + n).to_string();
            [
                server.world.publication("room.1", &number, None),
                server.world.publication("live.1", &number, None),
            ]
        });
        server.world.bus.send(envelopes.collect());
        // The next burst comes when one of them has this one, and others are still busy with it.
        for _ in 0..64 {
            within("a push", witness.push()).await;
        }
    }
    for mut ws in crowd {
        let mut next = [0, 0];
        while next != [320, 320] {
            let push = within("a push", ws.push()).await;
            let which = usize::from(push["channel"] == "live.1");
            assert_eq!(push["pub"]["data"], next[which], "{push}");
            next[which] += 1;
        }
    }
    restless.abort();
}
