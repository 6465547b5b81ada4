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
