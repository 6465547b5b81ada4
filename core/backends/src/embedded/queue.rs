use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use carillon_domain::ports::{Job, JobHandle, Queue, Unavailable};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// How much work one subject holds before publishers wait. What waits stays in the store's outbox.
const CAPACITY: usize = 16_384;

/// The queue of a single process. It is a transport: what it held is published again from the outbox after a restart.
#[derive(Clone, Default)]
pub struct EmbeddedQueue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    lanes: Mutex<HashMap<&'static str, Lane>>,
    /// Work came, or room did. Wakes everybody; each looks for himself.
    changed: Notify,
}

#[derive(Default)]
struct Lane {
    ready: VecDeque<Item>,
    /// Work that waits for its time; the number keeps equal times apart.
    delayed: BTreeMap<(Instant, u64), Item>,
    /// The keys of all work that is ready, delayed or handed out.
    held: HashSet<String>,
    next_number: u64,
}

struct Item {
    key: String,
    payload: Bytes,
    redelivered: u32,
}

impl Lane {
    fn delay(&mut self, until: Instant, item: Item) {
        self.next_number += 1;
        self.delayed.insert((until, self.next_number), item);
    }

    /// Moves what is due to the ready ones; answers when the next one will be.
    fn release(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            self.ready.push_back(entry.remove());
        }
        None
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn publish(&self, subject: &'static str, key: String, payload: Bytes) -> Result<(), Unavailable> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut lanes = self.shared.lanes.lock();
                let lane = lanes.entry(subject).or_default();
                if lane.held.contains(&key) {
                    return Ok(());
                }
                if lane.held.len() < CAPACITY {
                    lane.held.insert(key.clone());
                    lane.ready.push_back(Item {
                        key,
                        payload,
                        redelivered: 0,
                    });
                    drop(lanes);
                    self.shared.changed.notify_waiters();
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    async fn pull(
        &self,
        subject: &'static str,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Job>, Unavailable> {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = {
                let mut lanes = self.shared.lanes.lock();
                let lane = lanes.entry(subject).or_default();
                let next = lane.release(Instant::now());
                if !lane.ready.is_empty() {
                    let count = limit.max(1).min(lane.ready.len());
                    return Ok(lane
                        .ready
                        .drain(..count)
                        .map(|item| self.hand_out(subject, item))
                        .collect());
                }
                next
            };
            let until = next.map_or(deadline, |next| next.min(deadline));
            if tokio::time::timeout_at(until, changed).await.is_err() && until == deadline {
                return Ok(Vec::new());
            }
        }
    }
}

impl EmbeddedQueue {
    fn hand_out(&self, subject: &'static str, item: Item) -> Job {
        Job {
            payload: item.payload.clone(),
            redelivered: item.redelivered,
            handle: Box::new(Handle {
                shared: self.shared.clone(),
                subject,
                item: Some(item),
            }),
        }
    }
}

struct Handle {
    shared: Arc<Shared>,
    subject: &'static str,
    item: Option<Item>,
}

#[async_trait]
impl JobHandle for Handle {
    async fn ack(mut self: Box<Self>) -> Result<(), Unavailable> {
        if let Some(item) = self.item.take() {
            let mut lanes = self.shared.lanes.lock();
            lanes.entry(self.subject).or_default().held.remove(&item.key);
            drop(lanes);
            self.shared.changed.notify_waiters();
        }
        Ok(())
    }

    async fn retry_in(mut self: Box<Self>, delay: Duration) -> Result<(), Unavailable> {
        self.give_back(delay);
        Ok(())
    }
}

impl Handle {
    fn give_back(&mut self, delay: Duration) {
        if let Some(mut item) = self.item.take() {
            item.redelivered += 1;
            let mut lanes = self.shared.lanes.lock();
            lanes
                .entry(self.subject)
                .or_default()
                .delay(Instant::now() + delay, item);
            drop(lanes);
            self.shared.changed.notify_waiters();
        }
    }
}

impl Drop for Handle {
    /// Dropped unanswered: the worker failed. A short wait keeps a worker that always fails from spinning.
    fn drop(&mut self) {
        self.give_back(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "work";

    async fn payloads(queue: &EmbeddedQueue, wait: Duration) -> Vec<Job> {
        queue.pull(SUBJECT, 10, wait).await.expect("embedded")
    }

    #[tokio::test(start_paused = true)]
    async fn work_comes_once_unless_it_is_given_back() {
        let queue = EmbeddedQueue::default();
        for _ in 0..2 {
            queue
                .publish(SUBJECT, "a".into(), Bytes::from_static(b"1"))
                .await
                .expect("embedded");
        }
        let mut jobs = payloads(&queue, Duration::ZERO).await;
        assert_eq!(jobs.len(), 1, "the same key is held once");
        jobs.remove(0)
            .handle
            .retry_in(Duration::from_secs(5))
            .await
            .expect("embedded");
        let mut jobs = payloads(&queue, Duration::from_secs(60)).await;
        assert_eq!(jobs[0].redelivered, 1);
        drop(jobs.remove(0));
        let mut jobs = payloads(&queue, Duration::from_secs(60)).await;
        assert_eq!(jobs[0].redelivered, 2, "dropping a job gives it back");
        jobs.remove(0).handle.ack().await.expect("embedded");
        assert!(payloads(&queue, Duration::from_secs(60)).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_puller_wakes_for_new_work() {
        let queue = EmbeddedQueue::default();
        let other = queue.clone();
        let puller = tokio::spawn(async move { payloads(&other, Duration::from_secs(60)).await.len() });
        tokio::task::yield_now().await;
        queue
            .publish(SUBJECT, "a".into(), Bytes::new())
            .await
            .expect("embedded");
        assert_eq!(puller.await.expect("no panic"), 1);
    }
}
