//! Topics: live, remembered, granted.

use serde_json::{Value, json};

use crate::harness::{Api, shared, user_name};

/// A listener who may hear everything that begins with `room.`.
async fn listener(api: &Api) -> Api {
    api.user_with(
        json!({"user": user_name("ada"), "topics": {"subscribe": ["room.*"], "publish": ["room.*"]}}),
    )
    .await
}

async fn publish(api: &Api, topic: &str, data: &[Value]) -> Vec<Value> {
    let publications: Vec<_> = data.iter().map(|data| json!({"data": data})).collect();
    let answer = api
        .post(
            &format!("/v1/topics/{topic}/publish"),
            &json!({"publications": publications}),
        )
        .await
        .expect(200);
    let positions = answer["data"].as_array().expect("positions");
    assert_eq!(positions.len(), data.len());
    positions.iter().map(|item| item["position"].clone()).collect()
}

#[tokio::test]
async fn a_publication_reaches_streams_and_sockets() {
    let api = shared().await.api().await;
    let topic = user_name("room.");
    let ada = listener(&api).await;
    let mut stream = ada.stream(&format!("?topic={topic}")).await;
    let mut socket = ada.connect(json!({})).await;
    let subscribed = socket.command("subscribe", json!({"channel": topic})).await;
    assert_eq!(subscribed["subscribe"]["recoverable"], true, "{subscribed}");

    let positions = publish(&api, &topic, &[json!({"n": 1}), json!("two"), json!(null)]).await;
    for (number, data) in [json!({"n": 1}), json!("two"), json!(null)].iter().enumerate() {
        let event = stream.next_named("publication").await;
        assert_eq!(event.id, None, "only mailbox events carry an id");
        assert_eq!(event.data["topic"], topic);
        assert_eq!(event.data["data"], *data);
        assert_eq!(event.data["seq"], number as u64 + 1);
        let position = format!(
            "{}-{}",
            event.data["epoch"].as_str().expect("an epoch"),
            event.data["seq"]
        );
        assert_eq!(positions[number], position);
        let publication = socket.publication(&topic).await;
        assert_eq!(publication["data"], *data);
        assert_eq!(publication["offset"], number as u64 + 1);
    }
}

#[tokio::test]
async fn a_client_publishes_to_a_topic_that_it_may() {
    let api = shared().await.api().await;
    let topic = user_name("room.");
    let (ada, bob) = (listener(&api).await, listener(&api).await);
    let mut hers = ada.connect(json!({})).await;
    let mut his = bob.connect(json!({})).await;
    his.command("subscribe", json!({"channel": topic})).await;
    let published = hers
        .command("publish", json!({"channel": topic, "data": {"hello": "bob"}}))
        .await;
    assert!(published.get("error").is_none(), "{published}");
    let publication = his.publication(&topic).await;
    assert_eq!(publication["data"], json!({"hello": "bob"}));
    assert!(publication["info"]["user"].is_string(), "{publication}");

    let refused = hers
        .command("publish", json!({"channel": user_name("hall."), "data": 1}))
        .await;
    assert_eq!(refused["error"]["code"], 103, "{refused}");
}

#[tokio::test]
async fn nothing_is_granted_by_default() {
    let api = shared().await.api().await;
    let ada = api.user(&user_name("ada")).await;
    ada.get("/v1/stream?topic=room.1").await.problem(403, "forbidden");
    let mut socket = ada.connect(json!({})).await;
    assert_eq!(
        socket.command("subscribe", json!({"channel": "room.1"})).await["error"]["code"],
        103
    );
    assert_eq!(
        socket
            .command("publish", json!({"channel": "room.1", "data": 1}))
            .await["error"]["code"],
        103
    );
}

#[tokio::test]
async fn a_stream_that_comes_back_covers_its_topics_or_hears_of_a_gap() {
    let api = shared().await.api().await;
    let topic = user_name("room.");
    let ada = listener(&api).await;
    let first = ada.stream(&format!("?topic={topic}")).await;
    let mailbox = first.position.clone();
    drop(first);
    let positions = publish(&api, &topic, &[json!(1), json!(2), json!(3)]).await;
    let seen = positions[0].as_str().expect("a position");

    let mut covered = ada.stream_from(&mailbox, &format!("?topic={topic}@{seen}")).await;
    assert_eq!(covered.next().await.data["data"], 2);
    assert_eq!(covered.next().await.data["data"], 3);

    let mut uncovered = ada.stream_from(&mailbox, &format!("?topic={topic}")).await;
    let gap = uncovered.next().await;
    assert_eq!((gap.event.as_str(), &gap.data["topic"]), ("gap", &json!(topic)));
    assert_eq!(gap.id, None);
    assert_eq!(gap.data["position"], positions[2]);
    publish(&api, &topic, &[json!(4)]).await;
    assert_eq!(uncovered.next_named("publication").await.data["data"], 4);
}

#[tokio::test]
async fn a_socket_recovers_a_topic_by_epoch_and_offset() {
    let api = shared().await.api().await;
    let topic = user_name("room.");
    let ada = listener(&api).await;
    let positions = publish(&api, &topic, &[json!(1), json!(2), json!(3)]).await;
    let epoch = positions[0]
        .as_str()
        .expect("a position")
        .rsplit_once('-')
        .expect("a position")
        .0;
    let mut socket = ada.connect(json!({})).await;
    let reply = socket
        .command(
            "subscribe",
            json!({"channel": topic, "recover": true, "epoch": epoch, "offset": 1}),
        )
        .await;
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    let data: Vec<_> = reply["subscribe"]["publications"]
        .as_array()
        .expect("publications")
        .iter()
        .map(|publication| publication["data"].clone())
        .collect();
    assert_eq!(data, [2, 3]);
    let unsubscribed = socket.command("unsubscribe", json!({"channel": topic})).await;
    assert!(unsubscribed.get("error").is_none(), "{unsubscribed}");
    let reply = socket
        .command(
            "subscribe",
            json!({"channel": topic, "recover": true, "epoch": "other", "offset": 1}),
        )
        .await;
    assert_ne!(reply["subscribe"]["recovered"], true, "{reply}");
}

#[tokio::test]
async fn a_live_only_topic_has_no_history_and_no_seq() {
    let api = shared().await.api().await;
    let topic = user_name("live.");
    let ada = api
        .user_with(json!({"user": user_name("ada"), "topics": {"subscribe": ["live.*"]}}))
        .await;
    let mut stream = ada.stream(&format!("?topic={topic}")).await;
    let mut socket = ada.connect(json!({})).await;
    let subscribed = socket.command("subscribe", json!({"channel": topic})).await;
    assert_ne!(subscribed["subscribe"]["recoverable"], true, "{subscribed}");
    assert_eq!(publish(&api, &topic, &[json!("typing")]).await, [Value::Null]);
    let event = stream.next_named("publication").await;
    assert_eq!(event.data["data"], "typing");
    assert!(
        event.data.get("seq").is_none() && event.data.get("epoch").is_none(),
        "{event:?}"
    );
    let publication = socket.publication(&topic).await;
    assert!(publication.get("offset").is_none(), "{publication}");
}

#[tokio::test]
async fn a_topic_target_publishes_the_notification_and_makes_no_entries_for_listeners() {
    let api = shared().await.api().await;
    let topic = user_name("room.");
    let ada = listener(&api).await;
    let mut stream = ada.stream(&format!("?topic={topic}")).await;
    let id = api
        .notify(json!({"targets": [{"topic": topic}], "category": "chat", "content": {"title": "All hands"}}))
        .await;
    let event = stream.next_named("publication").await;
    assert_eq!(event.data["data"]["type"], "notification");
    let notification = &event.data["data"]["notification"];
    assert_eq!(notification["id"], id);
    assert_eq!(notification["category"], "chat");
    assert_eq!(notification["content"]["title"], "All hands");
    let shown = api.notification(&id).await;
    assert_eq!(shown["state"], "planned");
    assert_eq!(shown["topics"][0]["topic"], topic);
    assert!(shown["topics"][0]["position"].is_string(), "{shown}");
    assert!(
        shown["topics"][0]["note"]
            .as_str()
            .expect("a note")
            .contains("stored subscribers"),
        "{shown}"
    );
    assert_eq!(shown["recipients"]["data"], json!([]));
    assert_eq!(ada.inbox().await["data"], json!([]));
}

#[tokio::test]
async fn publications_are_bounded_and_named_when_they_do_not_fit() {
    let api = shared().await.api().await;
    let topic = user_name("room.");
    let path = format!("/v1/topics/{topic}/publish");
    api.post(&path, &json!({"publications": []}))
        .await
        .problem(422, "invalid_request");
    let many: Vec<_> = (0..1_001).map(|_| json!({"data": 1})).collect();
    api.post(&path, &json!({"publications": many}))
        .await
        .problem(422, "invalid_request");
    let large = "x".repeat(70 * 1024);
    let answer = api
        .post(&path, &json!({"publications": [{"data": 1}, {"data": large}]}))
        .await;
    answer.problem(422, "invalid_request");
    assert_eq!(answer.pointers(), ["/publications/1/data"]);
    let reserved = api
        .post(
            "/v1/topics/carillon:inbox/publish",
            &json!({"publications": [{"data": 1}]}),
        )
        .await;
    assert!((400..500).contains(&reserved.status.as_u16()), "{reserved:?}");
}

#[tokio::test]
async fn a_stream_takes_at_most_sixty_four_topics() {
    let api = shared().await.api().await;
    let ada = listener(&api).await;
    let query = |count: usize| {
        let topics: Vec<_> = (0..count).map(|number| format!("topic=room.{number}")).collect();
        format!("/v1/stream?{}", topics.join("&"))
    };
    let answer = ada.get(&query(65)).await;
    assert!(matches!(answer.status.as_u16(), 400 | 422), "{answer:?}");
    ada.stream(&query(64)["/v1/stream".len()..]).await;
}

#[tokio::test]
async fn history_survives_a_restart() {
    let mut server = crate::harness::Start::default().serve().await;
    let api = server.api().await;
    let ada = listener(&api).await;
    let positions = publish(&api, "room.1", &[json!(1), json!(2)]).await;
    server.start_again().await;
    let mailbox = ada.inbox().await["position"]
        .as_str()
        .expect("a position")
        .to_owned();
    let seen = positions[0].as_str().expect("a position");
    let mut stream = ada.stream_from(&mailbox, &format!("?topic=room.1@{seen}")).await;
    let event = stream.next().await;
    assert_eq!(
        (event.event.as_str(), &event.data["data"], &event.data["seq"]),
        ("publication", &json!(2), &json!(2))
    );
}
