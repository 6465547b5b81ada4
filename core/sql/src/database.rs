use crate::{Postgres, Sqlite};

/// One service's database, open and migrated by its owner. Each owner keeps one store trait and picks its own
/// `sqlite.rs` or `postgres.rs` by this.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file of its own.
    Sqlite(Sqlite),
    /// A schema of its own.
    Postgres(Postgres),
}

impl Database {
    /// Closes all connections; SQLite's last one checkpoints.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}
