use std::sync::{Mutex, PoisonError};

use crate::{Sqlite, StoreError};

/// What was read last, for as long as nothing is written to the file. Who looks again and again whether something has
/// become due then asks the file once per change, and a store in which nothing happens is left alone.
#[derive(Debug, Default)]
pub struct Remembered<T>(Mutex<Option<(u64, T)>>);

impl<T: Clone> Remembered<T> {
    /// What `read` read last, or reads now. It must depend on nothing but rows: compare with the time outside.
    ///
    /// # Errors
    /// As `read`.
    pub async fn read(
        &self,
        sqlite: &Sqlite,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let before = sqlite.settled();
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, value)) = &*known
                && before == Some(*at)
            {
                return Ok(value.clone());
            }
        }
        let value = read.await?;
        // Somebody may have begun to write meanwhile: then nobody knows which of the two was read.
        if let Some(at) = before
            && sqlite.settled() == before
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, value.clone()));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::SqliteOptions;

    struct World {
        sqlite: Sqlite,
        newest: Remembered<Option<i64>>,
        reads: AtomicU32,
        _folder: tempfile::TempDir,
    }

    impl World {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.sqlite");
            let sqlite = Sqlite::open(&SqliteOptions { path, readers: 2 })
                .await
                .expect("opens");
            let world = Self {
                sqlite,
                newest: Remembered::default(),
                reads: AtomicU32::new(0),
                _folder: folder,
            };
            let mut tx = world.sqlite.begin_system("a test").await.expect("begins");
            sqlx::query("CREATE TABLE notes (id INTEGER PRIMARY KEY)")
                .execute(&mut *tx)
                .await
                .expect("makes a table");
            tx.commit().await.expect("commits");
            world
        }

        async fn newest(&self) -> Option<i64> {
            let read = async {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let mut read = self.sqlite.read_system("a test").await?;
                let (newest,) = sqlx::query_as("SELECT MAX(id) FROM notes")
                    .fetch_one(&mut *read)
                    .await?;
                Ok(newest)
            };
            self.newest.read(&self.sqlite, read).await.expect("reads")
        }

        /// A connection is given back by a task of its own.
        async fn settles(&self) {
            while self.sqlite.settled().is_none() {
                tokio::task::yield_now().await;
            }
        }

        fn reads(&self) -> u32 {
            self.reads.swap(0, Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn the_file_is_asked_once_per_change() {
        let world = World::new().await;
        world.settles().await;
        for _ in 0..5 {
            assert_eq!(world.newest().await, None);
        }
        assert_eq!(world.reads(), 1);
        let mut tx = world.sqlite.begin_system("a test").await.expect("begins");
        sqlx::query("INSERT INTO notes VALUES (7)")
            .execute(&mut *tx)
            .await
            .expect("inserts");
        // While somebody writes nothing is remembered, and nothing that was.
        assert_eq!((world.newest().await, world.newest().await), (None, None));
        assert_eq!(world.reads(), 2);
        tx.commit().await.expect("commits");
        assert_eq!(world.newest().await, Some(7));
        world.settles().await;
        for _ in 0..5 {
            assert_eq!(world.newest().await, Some(7));
        }
        assert!((1..=2).contains(&world.reads()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_is_seen_by_whoever_looks_behind_it() {
        let world = World::new().await;
        for id in 1..=300 {
            let write = async {
                let mut tx = world.sqlite.begin_system("a test").await.expect("begins");
                sqlx::query("INSERT INTO notes VALUES ($1)")
                    .bind(id)
                    .execute(&mut *tx)
                    .await
                    .expect("inserts");
                tx.commit().await.expect("commits");
                assert_eq!(world.newest().await, Some(id));
            };
            let look = async {
                for _ in 0..4 {
                    world.newest().await;
                }
            };
            tokio::join!(write, look);
            assert_eq!(world.newest().await, Some(id));
        }
    }
}
