use bytes::Bytes;
use carillon_domain::{
    EnvelopeKind, Subject, TenantId, TopicName,
    ports::{NewPublication, PublishError},
};
use http::Method;
use serde_json::json;

use super::node::{Node, Setup, eventually};

#[tokio::test]
async fn what_is_published_is_kept_numbered_and_announced() {
    let node = Node::sqlite().await;
    let body = json!({"publications": [{"data": {"text": "a\nb"}}, {"data": [1, 2]}, {"data": null}]});
    let answer = node.key(Method::POST, "/v1/topics/room.1/publish", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let positions: Vec<_> = answer.body["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| p["position"].as_str().expect("kept"))
        .collect();
    assert!(positions[0].ends_with("-1") && positions[2].ends_with("-3"));
    eventually(async || node.heard.all().len() == 3).await;
    let topic: TopicName = "room.1".parse().expect("a topic");
    let bodies: Vec<_> = node
        .heard
        .all()
        .into_iter()
        .map(|envelope| envelope.body)
        .collect();
    assert_eq!(bodies, [r#"{"text":"a\nb"}"#, "[1,2]", "null"]);
    assert!(
        node.heard
            .all()
            .iter()
            .all(|envelope| envelope.subject == Subject::Topic(topic.clone()))
    );
    let topics = node.dispatcher.topics();
    let head = topics
        .head(&TenantId::default(), &topic)
        .await
        .expect("reads")
        .expect("kept");
    assert_eq!(head.to_string(), positions[2]);
    for (path, body, pointer) in [
        ("room", json!({"publications": []}), "/publications"),
        ("room", json!({"publications": [{}]}), "/publications/0/data"),
        (
            "room",
            json!({"publications": [{"data": 1}, {"data": "x".repeat(65_536)}]}),
            "/publications/1/data",
        ),
    ] {
        let answer = node
            .key(Method::POST, &format!("/v1/topics/{path}/publish"), body)
            .await;
        assert_eq!((answer.status.as_u16(), answer.pointers()), (422, vec![pointer]));
    }
    let reserved = node
        .key(
            Method::POST,
            "/v1/topics/carillon:inbox/publish",
            json!({"publications": [{"data": 1}]}),
        )
        .await;
    assert_eq!(reserved.status, 404);
    let pretty = NewPublication {
        topic: topic.clone(),
        data: Bytes::from_static(b"{\n}"),
        publisher: None,
    };
    topics
        .publish(&TenantId::default(), vec![pretty])
        .await
        .expect("publishes");
    eventually(async || {
        node.heard
            .all()
            .last()
            .is_some_and(|envelope| envelope.body == "{}")
    })
    .await;
    let large = NewPublication {
        topic,
        data: Bytes::from(vec![b'1'; 65_537]),
        publisher: None,
    };
    let refused = topics.publish(&TenantId::default(), vec![large]).await;
    assert!(matches!(
        refused,
        Err(PublishError::TooLarge {
            index: 0,
            limit: 65_536
        })
    ));
}

#[tokio::test]
async fn live_only_topics_keep_nothing() {
    let node = Node::with(Setup {
        config: Some(|config| config.topics.live_only_prefixes.push("typing.".into())),
        ..Setup::default()
    })
    .await;
    let body = json!({"publications": [{"data": 1}, {"data": 2}]});
    let answer = node
        .key(Method::POST, "/v1/topics/typing.room/publish", body)
        .await;
    assert_eq!(
        answer.body["data"],
        json!([{"position": null}, {"position": null}])
    );
    let heard = node.heard.all();
    assert_eq!(heard.len(), 2, "on the bus before the answer");
    assert!(heard.iter().all(|envelope| envelope.position.is_none()));
    let topics = node.dispatcher.topics();
    let topic = "typing.room".parse().expect("a topic");
    assert_eq!(
        topics.head(&TenantId::default(), &topic).await.expect("reads"),
        None
    );
    let id = node
        .send(json!({"targets": [{"topic": "typing.room"}], "content": {"title": "t"}}))
        .await;
    let shown = node.show(&id).await;
    assert_eq!(shown["topics"][0]["position"], serde_json::Value::Null);
    assert_eq!(shown["recipients"]["data"], json!([]));
    eventually(async || node.heard.all().len() == 3).await;
    assert!(matches!(
        node.heard.all()[2].kind,
        EnvelopeKind::Publication { .. }
    ));
}
