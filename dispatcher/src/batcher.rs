//! Group commit: what arrives while one commit is under way shares the next one, so that throughput does not pay one
//! sync per request, and a single request waits for no timer.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How much may wait, and how much one commit takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    /// Requests that may wait.
    pub(crate) queue: usize,
    /// Bytes that waiting requests may hold.
    pub(crate) queue_bytes: usize,
    /// Items of one commit.
    pub(crate) items: usize,
    /// Bytes of one commit.
    pub(crate) bytes: usize,
}

/// What a request weighs.
pub(crate) trait Weigh {
    /// Items that it adds to a commit.
    fn items(&self) -> usize;
    /// About how many bytes it holds.
    fn bytes(&self) -> usize;
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError<E> {
    /// Too much waits already; nothing was done.
    #[error("too many requests wait for a commit")]
    Overloaded,
    /// The process ends; nothing was done.
    #[error("the process is shutting down")]
    Stopping,
    /// What the commit said.
    #[error(transparent)]
    Failed(E),
}

/// The way in. The worker runs by [`Self::run`].
pub(crate) struct Batcher<R, A, E> {
    sender: mpsc::Sender<Item<R, A, E>>,
    /// Held by the worker, which may be started anew.
    receiver: Mutex<mpsc::Receiver<Item<R, A, E>>>,
    /// One permit per KiB.
    budget: Arc<Semaphore>,
    budget_kib: u32,
    limits: BatchLimits,
}

struct Item<R, A, E> {
    request: R,
    reply: oneshot::Sender<Result<A, E>>,
    budget: OwnedSemaphorePermit,
}

impl<R: Weigh + Send, A: Send, E: Send> Batcher<R, A, E> {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        let (sender, receiver) = mpsc::channel(limits.queue);
        let budget_kib = u32::try_from(limits.queue_bytes / 1_024)
            .unwrap_or(u32::MAX >> 4)
            .max(1);
        Self {
            sender,
            receiver: Mutex::new(receiver),
            budget: Arc::new(Semaphore::new(budget_kib as usize)),
            budget_kib,
            limits,
        }
    }

    /// Queues a request and waits for its commit. Refuses at once when too much waits.
    pub(crate) async fn submit(&self, request: R) -> Result<A, BatchError<E>> {
        let kib = u32::try_from(request.bytes() / 1_024 + 1)
            .unwrap_or(u32::MAX)
            .min(self.budget_kib);
        let budget = Arc::clone(&self.budget)
            .try_acquire_many_owned(kib)
            .map_err(|_| BatchError::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        self.sender
            .try_send(Item {
                request,
                reply,
                budget,
            })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => BatchError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => BatchError::Stopping,
            })?;
        match answer.await {
            Ok(result) => result.map_err(BatchError::Failed),
            Err(_) => Err(BatchError::Stopping),
        }
    }

    /// Commits batch after batch until `stop`, and then what still waits. `commit` answers one result per request.
    pub(crate) async fn run<F>(&self, stop: CancellationToken, commit: impl Fn(Vec<R>) -> F)
    where
        F: Future<Output = Vec<Result<A, E>>>,
    {
        let mut receiver = self.receiver.lock().await;
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(item) => Some(item),
                None => tokio::select! {
                    biased;
                    item = receiver.recv() => item,
                    // Requests that were let in are still answered while the edge drains.
                    () = idle(&stop) => {
                        receiver.close();
                        receiver.recv().await
                    }
                },
            };
            let Some(first) = first else { return };
            let mut items = first.request.items();
            let mut bytes = first.request.bytes();
            let mut batch = vec![first];
            while let Ok(item) = receiver.try_recv() {
                items += item.request.items();
                bytes += item.request.bytes();
                if items > self.limits.items || bytes > self.limits.bytes {
                    held = Some(item);
                    break;
                }
                batch.push(item);
            }
            let mut requests = Vec::with_capacity(batch.len());
            let mut replies = Vec::with_capacity(batch.len());
            for item in batch {
                requests.push(item.request);
                replies.push((item.reply, item.budget));
            }
            let results = commit(requests).await;
            for ((reply, _budget), result) in replies.into_iter().zip(results) {
                // Whoever went away does not want the answer.
                let _ = reply.send(result);
            }
        }
    }
}

/// How long nothing came since the stop.
const LINGER: Duration = Duration::from_millis(500);

async fn idle(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn items(&self) -> usize {
            1
        }
        fn bytes(&self) -> usize {
            *self
        }
    }

    fn batcher(queue: usize) -> Arc<Batcher<usize, usize, ()>> {
        Arc::new(Batcher::new(BatchLimits {
            queue,
            queue_bytes: 64 * 1_024,
            items: 100,
            bytes: 10_000,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_during_a_commit_shares_the_next_one() {
        let batcher = batcher(100);
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let (batcher, stop) = (Arc::clone(&batcher), stop.clone());
            async move {
                batcher
                    .run(stop, |requests| async move {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        requests.iter().map(|_| Ok(requests.len())).collect()
                    })
                    .await;
            }
        });
        let first = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.submit(1).await.expect("committed") }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let rest: Vec<_> = (0..50)
            .map(|_| {
                let batcher = Arc::clone(&batcher);
                tokio::spawn(async move { batcher.submit(1).await.expect("committed") })
            })
            .collect();
        assert_eq!(first.await.expect("no panic"), 1);
        for task in rest {
            assert_eq!(task.await.expect("no panic"), 50);
        }
        stop.cancel();
        worker.await.expect("no panic");
        assert!(matches!(batcher.submit(1).await, Err(BatchError::Stopping)));
    }

    #[tokio::test]
    async fn what_would_wait_too_long_is_refused_at_once() {
        let few = batcher(2);
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let few = Arc::clone(&few);
                tokio::spawn(async move { few.submit(1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(matches!(few.submit(1).await, Err(BatchError::Overloaded)));
        let heavy = batcher(100);
        let large = tokio::spawn({
            let heavy = Arc::clone(&heavy);
            async move { heavy.submit(63 * 1_024).await }
        });
        tokio::task::yield_now().await;
        assert!(matches!(heavy.submit(2_048).await, Err(BatchError::Overloaded)));
        large.abort();
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
