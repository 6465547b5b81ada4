//! The floor of what is made durable: a bare loop that copies the rows of another store into one with the same tables and
//! indexes, on the same disk, in the same commits, and does nothing else.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// An own store beside the one that is copied, which is attached as `source`.
pub(crate) struct Replay {
    database: SqliteConnection,
    _folder: tempfile::TempDir,
}

impl Replay {
    /// Makes the same tables and indexes, without rows; the server may go on with its own.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn of(source: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // As Carillon opens its stores.
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("floor.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30))
            .pragma("cache_size", "-4096")
            .pragma("temp_store", "memory")
            .pragma("secure_delete", "ON")
            .pragma("journal_size_limit", "67108864");
        let mut database = SqliteConnection::connect_with(&options).await?;
        sqlx::query("ATTACH $1 AS source")
            .bind(source.to_str())
            .execute(&mut database)
            .await?;
        let made: Vec<(String,)> = sqlx::query_as(
            "SELECT sql FROM source.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'index'",
        )
        .fetch_all(&mut database)
        .await?;
        for (statement,) in made {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut database)
                .await?;
        }
        Ok(Self {
            database,
            _folder: folder,
        })
    }

    /// Runs all statements in one commit. Each gets the same values.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn commit(&mut self, statements: &[&'static str], values: &[&str]) -> Result<Duration> {
        let begin = Instant::now();
        let mut transaction = self.database.begin_with("BEGIN IMMEDIATE").await?;
        for statement in statements {
            let mut query = sqlx::query(*statement);
            for value in values {
                query = query.bind(*value);
            }
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(begin.elapsed())
    }

    /// What a statement over `source` answers: one text per row.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn texts(&mut self, statement: &'static str, value: &str) -> Result<Vec<String>> {
        let rows: Vec<(String,)> = sqlx::query_as(statement)
            .bind(value)
            .fetch_all(&mut self.database)
            .await?;
        Ok(rows.into_iter().map(|(text,)| text).collect())
    }
}
