use carillon_domain::ports::Unavailable;

/// What a store's method answers when the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's own words.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A row holds what no code of ours writes.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
    /// The library or the server is too old or set up unsafely.
    #[error("{0}")]
    Unsafe(String),
}

impl StoreError {
    /// Whether nobody answered where the database should be, or broke off: the same may succeed later.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Database(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed)
        )
    }
}

impl StoreError {
    /// Whether the database broke the transaction off for the sake of another one (PostgreSQL: a deadlock, or what could
    /// not be serialized): nothing of it stays, and the same may succeed at once.
    pub fn is_broken_off(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("40001" | "40P01"))
            }
            _ => false,
        }
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Self::new("a database operation", error)
    }
}

/// Whether a statement failed on a unique key; `constraint` is part of the key's name (PostgreSQL) or of its list of
/// columns (SQLite).
pub fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_unique_violation())
}
