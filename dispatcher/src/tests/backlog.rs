use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_backends::embedded::EmbeddedQueue;
use carillon_domain::ports::{Job, Queue, Unavailable};
use carillon_runtime::config::Span;
use carillon_testkit::{FixedClock, TestDatabase};
use http::Method;
use serde_json::{Value, json};

use super::node::{Node, Setup, eventually};

const WAITING: usize = 300;

/// A queue whose planner takes a second of the node's clock for what it pulls at a time.
#[derive(Default)]
struct Slow {
    inner: EmbeddedQueue,
    clock: OnceLock<Arc<FixedClock>>,
    published: AtomicUsize,
}

#[async_trait]
impl Queue for Slow {
    async fn publish(&self, subject: &'static str, key: String, payload: Bytes) -> Result<(), Unavailable> {
        self.published.fetch_add(1, Ordering::SeqCst);
        self.inner.publish(subject, key, payload).await
    }

    async fn pull(
        &self,
        subject: &'static str,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Job>, Unavailable> {
        // Whoever hands out is quicker.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let jobs = self.inner.pull(subject, limit, wait).await?;
        if let Some(clock) = self.clock.get().filter(|_| !jobs.is_empty()) {
            clock.advance(Duration::from_secs(1));
        }
        Ok(jobs)
    }
}

async fn a_backlog_of_many_leases_is_handed_out_once(keep: TestDatabase) {
    let queue = Arc::new(Slow::default());
    let node = Node::on(
        Arc::new(keep),
        Setup {
            queue: Some(queue.clone()),
            config: Some(|config| {
                config.planner.batch = 10;
                config.planner.lease = Span::from_secs(5);
            }),
            ..Setup::default()
        },
    )
    .await;
    assert!(queue.clock.set(node.clock.clone()).is_ok());
    let all: Vec<Value> = (0..WAITING)
        .map(|n| json!({"targets": [{"user": format!("user-{}", n % 8)}], "content": {"title": "t"}}))
        .collect();
    let body = json!({"notifications": all});
    let answer = node.key(Method::POST, "/v1/notifications/batch", body).await;
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    eventually(async || {
        let tally = node.dispatcher.store.tally(node.now()).await.expect("counts");
        tally.planned == WAITING as u64
    })
    .await;
    let published = queue.published.load(Ordering::SeqCst);
    assert!(published <= WAITING + 20, "{published} times");
}

#[tokio::test]
async fn a_backlog_of_many_leases_is_handed_out_once_on_sqlite() {
    a_backlog_of_many_leases_is_handed_out_once(TestDatabase::sqlite().await).await;
}

#[tokio::test]
async fn a_backlog_of_many_leases_is_handed_out_once_on_postgres() {
    a_backlog_of_many_leases_is_handed_out_once(TestDatabase::postgres("dispatcher").await).await;
}
