//! Page caches are bounded, but SQLite holds what it once took: after a crowd, the pages that brought it. They are given
//! back when a file has become calm.

use std::{
    sync::{Weak, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use sqlx::SqlitePool;

/// How often a file's use is looked at.
const LOOK: Duration = Duration::from_secs(3);

/// So few uses between two looks are nobody at work.
const CALM: u64 = 30;

/// After fewer uses there is nothing to give back that would be worth reading it again.
const WORTH: u64 = 100;

/// Gives back what the connections of `pools` hold, again and again, until they are closed or nobody counts `used` any
/// more.
pub(crate) async fn give_back(used: Weak<AtomicU64>, pools: [SqlitePool; 2]) {
    let mut use_of_file = UseOfFile::default();
    while let Some(now) = used.upgrade().map(|used| used.load(Ordering::Relaxed))
        && !pools.iter().any(SqlitePool::is_closed)
    {
        if use_of_file.is_over(now) {
            for pool in &pools {
                shrink(pool).await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How often a file was used, as the looks saw it.
#[derive(Default)]
struct UseOfFile {
    last: u64,
    given_back: u64,
}

impl UseOfFile {
    /// Whether work has ended that was worth it; `now`: uses so far.
    fn is_over(&mut self, now: u64) -> bool {
        let calm = now - self.last < CALM;
        self.last = now;
        let over = calm && now - self.given_back >= WORTH;
        if over {
            self.given_back = now;
        }
        over
    }
}

/// One connection after the other, and only those that nobody uses: they come out in the order in which they went in.
async fn shrink(pool: &SqlitePool) {
    for _ in 0..pool.num_idle() {
        let Some(mut connection) = pool.try_acquire() else {
            return;
        };
        let shrunk = sqlx::query("PRAGMA shrink_memory")
            .persistent(false)
            .execute(&mut *connection)
            .await;
        if let Err(error) = shrunk {
            tracing::debug!(%error, "a page cache was not given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_behind_a_crowd_and_never_in_the_middle_of_it() {
        let mut of_file = UseOfFile::default();
        let looks = [
            5, 10, 500, 1_500, 1_510, 1_515, 1_520, 1_549, 1_578, 1_607, 1_636, 3_000,
        ];
        let over: Vec<bool> = looks.iter().map(|now| of_file.is_over(*now)).collect();
        let expected = [
            false, false, false, false, true, false, false, false, false, false, true, false,
        ];
        assert_eq!(over, expected);
    }
}
