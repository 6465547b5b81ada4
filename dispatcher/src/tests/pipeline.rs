use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_backends::embedded::EmbeddedQueue;
use carillon_domain::{
    TenantId, UserId,
    ports::{Job, Queue, Unavailable},
};
use carillon_runtime::config::{ByteSize, Span};
use carillon_sql::Database;
use carillon_testkit::TestDatabase;
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually};

fn hello(user: &str) -> Value {
    json!({"targets": [{"user": user}], "content": {"title": "hello"}})
}

async fn post(node: &Node, body: Value) -> String {
    let answer = node.key(Method::POST, "/v1/notifications", body).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    answer.body["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn scheduled_notifications_survive_a_restart() {
    let node = Node::sqlite().await;
    let mut later = hello("ada");
    later["send_at"] = json!("2026-01-02T04:04:05Z");
    later["ttl"] = json!(60);
    let id = post(&node, later.clone()).await;
    let late = post(&node, later).await;
    let node = node.crash_and_restart().await;
    assert_eq!(node.show(&id).await["state"], "accepted");
    node.advance(Duration::from_secs(3_601));
    node.until_state(&id, "planned").await;
    node.until_state(&late, "planned").await;
    assert_eq!(node.inbox("ada").await["counts"]["total"], 2);
}

#[tokio::test]
async fn what_a_dead_process_had_leased_is_planned_at_once() {
    let setup = Setup {
        queue: Some(Arc::new(Void::default())),
        ..Setup::default()
    };
    let node = Node::with(setup).await;
    let id = post(&node, hello("ada")).await;
    // Leased, and lost with the queue.
    eventually(async || {
        let due = node.dispatcher.store.next_due().await.expect("reads");
        due.is_some_and(|due| due > node.now())
    })
    .await;
    let node = node.crash_and_restart().await;
    node.until_state(&id, "planned").await;
}

#[tokio::test]
async fn what_the_queue_loses_comes_back_when_its_lease_ends() {
    let queue = Arc::new(Leaky::default());
    let node = Node::with(Setup {
        queue: Some(queue.clone()),
        ..Setup::default()
    })
    .await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(post(&node, hello(&format!("user-{n}"))).await);
    }
    eventually(async || queue.published.load(Ordering::SeqCst) >= 10).await;
    node.advance(Duration::from_secs(31));
    for id in &ids {
        node.until_state(id, "planned").await;
    }
    assert_eq!(node.inbox("user-3").await["counts"]["total"], 1);
}

#[tokio::test]
async fn a_broadcast_that_is_too_much_for_one_transaction_is_planned_once() {
    let node = Node::with(Setup {
        config: Some(|config| config.planner.batch_bytes = ByteSize::mib(1)),
        ..Setup::default()
    })
    .await;
    let before = post(&node, hello("user-7")).await;
    let targets: Vec<Value> = (0..150)
        .map(|n| json!({"user": format!("user-{n}")}))
        .chain([json!({"topic": "room"})])
        .collect();
    let content = json!({"title": "t", "body": "x".repeat(16_000)});
    let id = node.send(json!({"targets": targets, "content": content})).await;
    let after = node.send(hello("user-7")).await;
    let users: HashSet<UserId> = (0..150)
        .map(|n| {
            node.names.of(
                &TenantId::default(),
                &format!("user-{n}").parse().expect("a user"),
            )
        })
        .collect();
    for user in &users {
        let own = node
            .names
            .of(&TenantId::default(), &"user-7".parse().expect("a user"));
        let expected = if *user == own { 3 } else { 1 };
        assert_eq!(node.heard.changes(*user, expected).await.len(), expected);
    }
    let shown = node.show(&id).await;
    assert_eq!(shown["topics"].as_array().map(Vec::len), Some(1));
    let order: Vec<Value> = node.inbox("user-7").await["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["notification_id"].clone())
        .collect();
    assert_eq!(order, [after, id, before]);
}

#[tokio::test]
async fn what_cannot_be_planned_holds_nobody_up_and_expires() {
    let setup = Setup {
        idle: true,
        ..Setup::default()
    };
    let keep = Arc::new(TestDatabase::sqlite().await);
    let idle = Node::on(keep.clone(), setup).await;
    // Taken in by a node that plans nothing, so that one of them can be damaged first.
    let intake = idle.dispatcher.intake.clone();
    let stop = tokio_util::sync::CancellationToken::new();
    let commits = tokio::spawn({
        let stop = stop.clone();
        async move { intake.run(stop).await }
    });
    let mut ids = Vec::new();
    for n in 0..7 {
        let mut body = hello(&format!("user-{n}"));
        body["ttl"] = json!(3_600);
        ids.push(post(&idle, body).await);
    }
    let Database::Sqlite(sqlite) = &keep.database else {
        panic!("SQLite")
    };
    let mut tx = sqlite.begin_system("a test damages a row").await.expect("begins");
    for (id, column) in [(&ids[3], "content"), (&ids[5], "targets")] {
        let statement = format!("UPDATE notifications SET {column} = '{{' WHERE id = $1");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id)
            .execute(&mut *tx)
            .await
            .expect("updates");
    }
    tx.commit().await.expect("commits");
    stop.cancel();
    commits.await.expect("no panic");

    let node = Node::on(keep, Setup::default()).await;
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| ![3, 5].contains(n)) {
        node.until_state(id, "planned").await;
        assert_eq!(node.inbox(&format!("user-{n}")).await["counts"]["total"], 1);
    }
    let tally = node.dispatcher.store.tally(node.now()).await.expect("counts");
    assert_eq!((tally.accepted, tally.outbox, tally.planned), (2, 2, 5));
    node.advance(Duration::from_secs(3_601));
    eventually(async || {
        node.dispatcher
            .store
            .tally(node.now())
            .await
            .expect("counts")
            .expired
            == 2
    })
    .await;
    assert_eq!(node.dispatcher.store.next_due().await.expect("reads"), None);
}

#[tokio::test]
async fn two_nodes_on_one_database_plan_each_notification_once() {
    let keep = Arc::new(TestDatabase::postgres("dispatcher").await);
    let one = Node::on(keep, Setup::default()).await;
    let two = one.beside().await;
    let users = ["ada", "bob", "eve"];
    let mut ids = HashSet::new();
    for round in 0..20 {
        let node = if round % 2 == 0 { &one } else { &two };
        let batch: Vec<Value> = (0..15)
            .map(|n| json!({"targets": [{"user": users[n % 3]}, {"user": users[(n + 1) % 3]}], "content": {"title": "t"}}))
            .collect();
        let answer = node
            .key(
                Method::POST,
                "/v1/notifications/batch",
                json!({"notifications": batch}),
            )
            .await;
        assert_eq!(answer.status, 202, "{:?}", answer.body);
        for accepted in answer.body["data"].as_array().expect("a list") {
            assert!(ids.insert(accepted["id"].as_str().expect("an id").to_owned()));
        }
    }
    eventually(async || {
        one.dispatcher
            .store
            .tally(one.now())
            .await
            .expect("counts")
            .planned
            == 300
    })
    .await;
    for user in users {
        assert_eq!(two.inbox(user).await["counts"]["total"], 200);
        let id = one.names.of(&TenantId::default(), &user.parse().expect("a user"));
        let inbox = one.dispatcher.inbox();
        let head = inbox.head(&TenantId::default(), id).await.expect("reads");
        assert_eq!(head.seq, 200);
        let from = carillon_domain::Position { seq: 0, ..head };
        let since = inbox
            .since(&TenantId::default(), id, &from, 1_000)
            .await
            .expect("reads");
        assert_eq!((since.gap, since.items.len()), (None, 200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_node_changes_are_announced_in_their_order() {
    let node = Arc::new(Node::sqlite().await);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                for _ in 0..15 {
                    post(&node, hello("ada")).await;
                    node.user("ada", Method::POST, "/v1/inbox/read-all", None).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.expect("no panic");
    }
    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    eventually(async || node.inbox("ada").await["counts"]["total"] == 60).await;
    let head = node
        .dispatcher
        .inbox()
        .head(&TenantId::default(), ada)
        .await
        .expect("reads")
        .seq;
    let changes = node.heard.changes(ada, usize::try_from(head).expect("few")).await;
    assert!(
        changes.iter().map(|(_, seq)| *seq).eq(1..=head),
        "one after the other"
    );
}

#[tokio::test]
async fn erasing_by_the_port_takes_the_name_from_everything() {
    let node = Node::sqlite().await;
    let id = node
        .send(json!({"targets": [{"user": "ada"}, {"user": "bob"}], "content": {"title": "t"}}))
        .await;
    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    node.dispatcher
        .erase()
        .erase(&TenantId::default(), ada)
        .await
        .expect("erases");
    node.names.forget("ada");
    let shown = node.show(&id).await;
    assert_eq!(shown["targets"], json!([{"erased": true}, {"user": "bob"}]));
    let recipients = shown["recipients"]["data"].as_array().expect("a list");
    let erased = recipients
        .iter()
        .find(|recipient| recipient["state"] == "erased")
        .expect("is counted");
    assert_eq!(
        (&erased["user"], &erased["deliveries"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(node.inbox("bob").await["counts"]["total"], 1);
    assert_eq!(node.inbox("ada").await["counts"]["total"], 0, "another ada");
}

#[tokio::test]
async fn the_janitor_keeps_every_retention() {
    let node = Node::with(Setup {
        config: Some(|config| config.retention.sweep_every = Span::from_millis(20)),
        ..Setup::default()
    })
    .await;
    let id = node.send(hello("ada")).await;
    let ada = node
        .names
        .of(&TenantId::default(), &"ada".parse().expect("a user"));
    node.advance(Duration::from_secs(34 * 86_400));
    eventually(async || {
        node.key(Method::GET, &format!("/v1/notifications/{id}"), Value::Null)
            .await
            .status
            == 404
    })
    .await;
    assert_eq!(node.inbox("ada").await["counts"]["total"], 1);
    node.advance(Duration::from_secs(60 * 86_400));
    eventually(async || node.inbox("ada").await["counts"]["total"] == 0).await;
    assert_eq!(
        node.heard.changes(ada, 2).await[1],
        ("deleted".to_owned(), 2),
        "its devices are told"
    );
}

#[tokio::test]
async fn what_was_let_in_is_answered_while_the_process_ends() {
    let node = Arc::new(
        Node::with(Setup {
            idle: true,
            ..Setup::default()
        })
        .await,
    );
    let first = tokio::spawn({
        let node = Arc::clone(&node);
        async move {
            node.key(Method::POST, "/v1/notifications", hello("ada"))
                .await
                .status
        }
    });
    tokio::task::yield_now().await;
    let stop = carillon_runtime::lifecycle::Stop::new();
    stop.finish();
    let workers: Vec<_> = node
        .dispatcher
        .commit_workers()
        .into_iter()
        .map(|worker| {
            let stop = stop.clone();
            tokio::spawn(async move { worker.run(stop).await.expect("runs") })
        })
        .collect();
    assert_eq!(first.await.expect("no panic"), 202);
    for worker in workers {
        worker.await.expect("no panic");
    }
    let late = node.key(Method::POST, "/v1/notifications", hello("ada")).await;
    assert_eq!(late.status, 503, "nobody would commit it");
}

/// A queue that takes everything and gives nothing.
#[derive(Default)]
struct Void(());

#[async_trait]
impl Queue for Void {
    async fn publish(&self, _: &'static str, _: String, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn pull(&self, _: &'static str, _: usize, _: Duration) -> Result<Vec<Job>, Unavailable> {
        std::future::pending().await
    }
}

/// A queue that loses the first ten jobs, and gives the others twice.
#[derive(Default)]
struct Leaky {
    inner: EmbeddedQueue,
    published: AtomicUsize,
}

#[async_trait]
impl Queue for Leaky {
    async fn publish(&self, subject: &'static str, key: String, payload: Bytes) -> Result<(), Unavailable> {
        if self.published.fetch_add(1, Ordering::SeqCst) < 10 {
            return Ok(());
        }
        self.inner
            .publish(subject, format!("{key}/again"), payload.clone())
            .await?;
        self.inner.publish(subject, key, payload).await
    }

    async fn pull(
        &self,
        subject: &'static str,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Job>, Unavailable> {
        self.inner.pull(subject, limit, wait).await
    }
}
