use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Sqlite as Driver, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use crate::{StoreError, TenantScope, giving_back::give_back};

/// The first SQLite without the WAL-reset bug, by which two connections that write and checkpoint at once silently
/// lose data (fixed upstream in 3.51.3, 2026-03-13).
pub const MINIMUM_SQLITE: i32 = 3_051_003;

/// Each reader's page cache, as the pragma takes it: 256 KiB, which holds what a look touches. Readers take turns, so that
/// in the end each of them holds the same pages, and whatever is written empties their caches. What they miss is in the
/// system's.
const READERS_CACHE: &str = "-256";

/// A write transaction. It holds the file's only writer from `BEGIN IMMEDIATE` to its end: never keep it over an
/// await on anything but the database.
pub type SqliteTransaction = Transaction<'static, Driver>;

/// A connection to read with.
pub type SqliteRead = PoolConnection<Driver>;

/// How a file is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; made when absent, with mode 0600.
    pub path: PathBuf,
    /// Connections that read.
    pub readers: u32,
}

/// One service's SQLite file: one connection that writes, a few that read (WAL lets them go on meanwhile).
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Transactions that have begun.
    begun: Arc<AtomicU64>,
    /// Transactions and readings.
    used: Arc<AtomicU64>,
}

impl Sqlite {
    /// Opens, and makes when absent, a file in WAL mode with `synchronous=FULL`.
    ///
    /// # Errors
    /// When the library is older than [`MINIMUM_SQLITE`], or the file cannot be opened.
    pub async fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let version = sqlite_version();
        if version < MINIMUM_SQLITE {
            return Err(StoreError::Unsafe(format!(
                "SQLite {version} is older than {MINIMUM_SQLITE} and can lose data: refusing to start"
            )));
        }
        create_private(&options.path)?;
        let connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(crate::plant::sqlite_synchronous())
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(256)
            .pragma("cache_size", "-4096")
            .pragma("temp_store", "memory")
            // What was erased is overwritten, not only unlinked. FAST would leave it in pages that became free, which is
            // where long texts stand. In WAL mode the zeros cost no sync of their own: accepting, planning and sweeping
            // 20,000 rows took the same time with OFF, FAST and ON.
            .pragma("secure_delete", "ON")
            // Keeps the log from growing for good after one long reader.
            .pragma("journal_size_limit", "67108864");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .test_before_acquire(false)
            .connect_with(connect.clone())
            .await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .acquire_timeout(Duration::from_secs(10))
            .idle_timeout(Duration::from_secs(60))
            .test_before_acquire(false)
            .connect_with(
                connect
                    .read_only(true)
                    .create_if_missing(false)
                    .pragma("cache_size", READERS_CACHE),
            )
            .await?;
        let used = Arc::new(AtomicU64::new(0));
        tokio::spawn(give_back(
            Arc::downgrade(&used),
            [readers.clone(), writer.clone()],
        ));
        Ok(Self {
            writer,
            readers,
            begun: Arc::default(),
            used,
        })
    }

    /// Opens a write transaction on `scope`'s rows.
    ///
    /// # Errors
    /// When the writer stays busy for ten seconds, or the file fails.
    pub async fn begin(&self, scope: TenantScope<'_>) -> Result<SqliteTransaction, StoreError> {
        let _ = scope; // SQLite has no row-level security; the type is the guard.
        self.begin_writing().await
    }

    /// Opens a write transaction across tenants; `reason` says why that is right, for the reader.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn begin_system(&self, reason: &'static str) -> Result<SqliteTransaction, StoreError> {
        tracing::trace!(reason, "system transaction");
        self.begin_writing().await
    }

    async fn begin_writing(&self) -> Result<SqliteTransaction, StoreError> {
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        // While the writer is taken, and before anything is written: see `settled`.
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.used.fetch_add(1, Ordering::Relaxed);
        Ok(tx)
    }

    /// A number that stays the same as long as nothing is written to the file; `None` while somebody may be writing. The
    /// number is looked at before the writer: whoever takes the writer later counts later, and whoever gave it back has
    /// committed.
    pub(crate) fn settled(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::SeqCst);
        (self.writer.num_idle() == 1).then_some(begun)
    }

    /// A connection to read `scope`'s rows with.
    ///
    /// # Errors
    /// When all readers stay busy for ten seconds, or the file fails.
    pub async fn read(&self, scope: TenantScope<'_>) -> Result<SqliteRead, StoreError> {
        let _ = scope; // As in `begin`.
        self.used.fetch_add(1, Ordering::Relaxed);
        Ok(self.readers.acquire().await?)
    }

    /// A connection to read across tenants with; `reason` says why that is right, for the reader.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_system(&self, reason: &'static str) -> Result<SqliteRead, StoreError> {
        tracing::trace!(reason, "system read");
        self.used.fetch_add(1, Ordering::Relaxed);
        Ok(self.readers.acquire().await?)
    }

    /// Closes all connections; the last one checkpoints.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    pub(crate) fn migration_pool(&self) -> &SqlitePool {
        &self.writer
    }
}

/// Makes the file with mode 0600 before SQLite would make it with the umask's; `-wal` and `-shm` inherit the mode.
fn create_private(path: &std::path::Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| StoreError::Unsafe(format!("cannot open {}: {error}", path.display())))
}

/// As `sqlite3_libversion_number()`: 3051003 is 3.51.3. The bundled library and its header are one version.
const fn sqlite_version() -> i32 {
    libsqlite3_sys::SQLITE_VERSION_NUMBER
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "a long secret of ada";
    const SHORT: &str = "a short secret of ada";

    /// Which of the secrets the file still holds, once everything is in it.
    async fn held(sqlite: &Sqlite, path: &std::path::Path) -> (bool, bool) {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(sqlite.migration_pool())
            .await
            .expect("checkpoints");
        let file = std::fs::read(path).expect("reads");
        let holds = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
        (holds(LONG), holds(SHORT))
    }

    #[tokio::test]
    async fn what_is_deleted_leaves_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sqlite");
        let sqlite = Sqlite::open(&SqliteOptions {
            path: path.clone(),
            readers: 1,
        })
        .await
        .expect("opens");
        let mut tx = sqlite.begin_system("a test").await.expect("begins");
        sqlx::query("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
            .execute(&mut *tx)
            .await
            .expect("makes a table");
        // Longer than a page, so that it stands in pages of its own, which become free.
        for text in [LONG.repeat(1_000), SHORT.to_owned(), "of bob".to_owned()] {
            sqlx::query("INSERT INTO notes (text) VALUES ($1)")
                .bind(text)
                .execute(&mut *tx)
                .await
                .expect("inserts");
        }
        tx.commit().await.expect("commits");
        assert_eq!(held(&sqlite, &path).await, (true, true));
        let mut tx = sqlite.begin_system("a test").await.expect("begins");
        for statement in [
            "UPDATE notes SET text = '' WHERE id = 1",
            "DELETE FROM notes WHERE id = 2",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.expect("removes");
        }
        tx.commit().await.expect("commits");
        assert_eq!(held(&sqlite, &path).await, (false, false));
        sqlite.close().await;
    }
}
