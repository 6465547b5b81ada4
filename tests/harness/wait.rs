use std::{future::Future, time::Duration};

/// How long anything may take on a busy machine before a test calls it missing. Nothing waits for it to pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The future's answer, or a failure that names `what` did not happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Asks again until `probe` answers something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    within(what, async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
