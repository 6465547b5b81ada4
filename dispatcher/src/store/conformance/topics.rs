use std::sync::Arc;

use bytes::Bytes;
use carillon_domain::{EnvelopeKind, Epoch, Position, PublisherInfo, TopicName, ports::Gap};

use super::fixture::Fixture;
use crate::store::*;

fn append(f: &Fixture, topic: &str, data: &str) -> TopicAppend {
    TopicAppend {
        tenant: f.tenant.clone(),
        topic: topic.parse().expect("a topic"),
        data: Bytes::copy_from_slice(data.as_bytes()),
        publisher: None,
    }
}

async fn history(f: &Fixture, topic: &str) -> Vec<String> {
    let topic: TopicName = topic.parse().expect("a topic");
    let head = f
        .store
        .topic_head(f.now(), &f.tenant, &topic)
        .await
        .expect("reads");
    let from = Position { seq: 0, ..head };
    let since = f
        .store
        .topic_since(&f.tenant, &topic, &from, 10_000)
        .await
        .expect("reads");
    assert_eq!(since.gap, None);
    since
        .items
        .into_iter()
        .zip(1..)
        .map(|(item, seq)| {
            assert_eq!(item.position.expect("kept").seq, seq);
            String::from_utf8(item.data.to_vec()).expect("text")
        })
        .collect()
}

pub(super) async fn publications_are_numbered_in_order(f: Fixture) {
    let mut first = append(&f, "a", "1");
    let publisher = PublisherInfo {
        user: "ada".parse().expect("a user"),
        client: "c1".into(),
    };
    first.publisher = Some(publisher.clone());
    let batch = [
        first,
        append(&f, "b", "\"x\""),
        append(&f, "a", "2"),
        append(&f, "a", "3"),
    ];
    let committed = f.store.publish(f.now(), &batch).await.expect("commits");
    let seqs: Vec<u64> = committed.value.iter().map(|position| position.seq).collect();
    assert_eq!(seqs, [1, 1, 2, 3]);
    let positions: Vec<_> = committed
        .envelopes
        .iter()
        .map(|envelope| envelope.position.clone().expect("kept"))
        .collect();
    assert_eq!(positions, committed.value, "in the order of the request");
    assert_eq!(
        committed.envelopes[0].kind,
        EnvelopeKind::Publication {
            publisher: Some(publisher.clone())
        }
    );
    assert_eq!(history(&f, "a").await, ["1", "2", "3"]);
    let from = Position {
        seq: 0,
        ..committed.value[0].clone()
    };
    let since = f
        .store
        .topic_since(&f.tenant, &"a".parse().expect("a topic"), &from, 2)
        .await
        .expect("reads");
    assert_eq!((since.items.len(), since.more, since.position.seq), (2, true, 2));
    assert_eq!(
        (since.items[0].publisher.as_ref(), since.items[0].at),
        (Some(&publisher), f.now())
    );
}

pub(super) async fn a_topic_keeps_its_epoch_from_the_first_look(f: Fixture) {
    let topic: TopicName = "room".parse().expect("a topic");
    let head = f
        .store
        .topic_head(f.now(), &f.tenant, &topic)
        .await
        .expect("reads");
    assert_eq!(head.seq, 0);
    assert_eq!(
        f.store
            .topic_head(f.now(), &f.tenant, &topic)
            .await
            .expect("reads"),
        head
    );
    let committed = f
        .store
        .publish(f.now(), &[append(&f, "room", "1")])
        .await
        .expect("commits");
    assert_eq!(
        committed.value[0],
        Position {
            seq: 1,
            ..head.clone()
        }
    );
    let foreign = Position {
        epoch: Epoch::random(),
        seq: 0,
    };
    let since = f
        .store
        .topic_since(&f.tenant, &topic, &foreign, 10)
        .await
        .expect("reads");
    assert_eq!(
        (since.gap, since.position),
        (
            Some(Gap::Epoch),
            Position {
                seq: 1,
                ..head.clone()
            }
        )
    );
    let future = Position { seq: 9, ..head };
    let since = f
        .store
        .topic_since(&f.tenant, &topic, &future, 10)
        .await
        .expect("reads");
    assert_eq!(since.gap, Some(Gap::Future));
    let unknown = "nowhere".parse().expect("a topic");
    let since = f
        .store
        .topic_since(&f.tenant, &unknown, &future, 10)
        .await
        .expect("reads");
    assert_eq!(since.gap, Some(Gap::Epoch));
}

pub(super) async fn histories_are_bounded(f: Fixture) {
    let batch: Vec<_> = (1..=46).map(|n| append(&f, "room", &n.to_string())).collect();
    let committed = f.store.publish(f.now(), &batch).await.expect("commits");
    let topic = "room".parse().expect("a topic");
    let at = |seq| Position {
        seq,
        ..committed.value[0].clone()
    };
    let since = f
        .store
        .topic_since(&f.tenant, &topic, &at(5), 100)
        .await
        .expect("reads");
    assert_eq!((since.gap, since.position), (Some(Gap::Trimmed), at(46)));
    let since = f
        .store
        .topic_since(&f.tenant, &topic, &at(6), 100)
        .await
        .expect("reads");
    assert_eq!((since.gap, since.items.len()), (None, 40));
}

pub(super) async fn many_publishers_leave_no_hole(f: Fixture) {
    let store = f
        .reopen(StoreLimits {
            topic_count: 10_000,
            ..super::fixture::LIMITS
        })
        .await;
    let f = Arc::new(f);
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let (f, store) = (Arc::clone(&f), Arc::clone(&store));
            tokio::spawn(async move {
                for n in 0..25 {
                    let mut batch = vec![
                        append(&f, "a", &format!("\"{publisher}/{n}\"")),
                        append(&f, "b", "1"),
                    ];
                    if publisher % 2 == 0 {
                        batch.reverse();
                    }
                    store.publish(f.now(), &batch).await.expect("commits");
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
    let all = history(&f, "a").await;
    assert_eq!(all.len(), 100);
    for publisher in 0..4 {
        let own: Vec<_> = all
            .iter()
            .filter(|data| data.starts_with(&format!("\"{publisher}/")))
            .collect();
        let expected: Vec<_> = (0..25).map(|n| format!("\"{publisher}/{n}\"")).collect();
        assert!(own.into_iter().eq(expected.iter()), "each one's order stays");
    }
    assert_eq!(history(&f, "b").await.len(), 100);
}

pub(super) async fn a_topic_target_stands_in_the_history(f: Fixture) {
    let sent = f.notification(&["#room", "#live.room", "ada"]);
    f.accept(std::slice::from_ref(&sent)).await;
    let committed = f.plan().await;
    let publications: Vec<_> = committed
        .envelopes
        .iter()
        .filter(|envelope| matches!(envelope.kind, EnvelopeKind::Publication { .. }))
        .collect();
    assert_eq!(publications.len(), 2);
    assert_eq!(
        publications
            .iter()
            .filter(|envelope| envelope.position.is_some())
            .count(),
        1
    );
    let data: serde_json::Value = serde_json::from_str(&history(&f, "room").await[0]).expect("JSON");
    assert_eq!(data["type"], "notification");
    assert_eq!(data["notification"]["id"], sent.id.to_string());
    assert_eq!(data["notification"]["content"]["title"], "hello");
    let row = f
        .store
        .notification(&f.tenant, sent.id)
        .await
        .expect("reads")
        .expect("is there");
    let published: Vec<PublishedTo> = serde_json::from_str(&row.topics.expect("published")).expect("JSON");
    assert_eq!(published.len(), 2);
    assert_eq!(
        published[0].position.as_ref().map(|position| position.seq),
        Some(1)
    );
    assert_eq!(published[1].position, None);
    assert_eq!(
        f.store
            .recipients(&f.tenant, sent.id, None, 10)
            .await
            .expect("reads")
            .len(),
        1
    );
    f.store
        .cancel(f.now(), &f.tenant, sent.id, &[])
        .await
        .expect("commits");
    let row = f
        .store
        .notification(&f.tenant, sent.id)
        .await
        .expect("reads")
        .expect("is there");
    assert!(row.topics.is_some(), "where it was published stays known");
}
