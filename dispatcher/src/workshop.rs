//! Work that takes a processor for a while: beside what answers requests, and so much at a time.

use std::{sync::Arc, time::Duration};

use carillon_runtime::http::Problem;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::intake::busy;

/// How long one waits for a place.
const PATIENCE: Duration = Duration::from_secs(5);

/// A few places on threads of their own.
#[derive(Debug)]
pub(crate) struct Workshop(Arc<Semaphore>);

impl Workshop {
    /// With so many places.
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Does `work`. Whoever goes away meanwhile does not end it; its place is free when it has ended.
    ///
    /// # Errors
    /// 503 when no place comes free in time, 500 when the work panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(busy("Too much is worked out at once. Try again."));
        };
        let done = spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(|error| Problem::internal(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PLACES: usize = 3;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_is_told_to_come_again_and_a_place_comes_free() {
        let workshop = Arc::new(Workshop::new(PLACES));
        let mut waiting = Vec::new();
        let mut running = Vec::new();
        for _ in 0..PLACES {
            let (go, gone) = mpsc::channel::<()>();
            let workshop = Arc::clone(&workshop);
            waiting.push(go);
            running.push(tokio::spawn(async move {
                workshop.run(move || gone.recv().is_ok()).await
            }));
        }
        while workshop.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let one_more = Arc::clone(&workshop);
        let one_more = tokio::spawn(async move { one_more.run(|| ()).await });
        tokio::task::yield_now().await;
        // Time does not pass by itself while somebody works.
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        let refused = one_more.await.expect("no panic").expect_err("no place");
        assert_eq!(refused.status, http::StatusCode::SERVICE_UNAVAILABLE);
        for go in waiting {
            go.send(()).expect("somebody works");
        }
        for one in running {
            assert!(one.await.expect("no panic").expect("a place"));
        }
        assert!(workshop.run(|| true).await.expect("a place"));
    }
}
