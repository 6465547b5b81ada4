//! What a store needs: pools, scoped transactions and migrations on SQLite and PostgreSQL.
//!
//! **Invariant**: a transaction opens only by `begin(TenantScope)` or `begin_system(reason)`; a query outside one
//! does not compile, since the pools are private. Row-level security can come later without touching a method.

mod database;
mod error;
mod giving_back;
mod migrate;
mod plant;
mod postgres;
mod remembered;
mod scope;
mod sqlite;
mod together;

pub use database::Database;
pub use error::{StoreError, is_unique_violation};
pub use migrate::{MigrationText, migrate};
pub use postgres::{Postgres, PostgresOptions, PostgresTransaction};
pub use remembered::Remembered;
pub use scope::TenantScope;
pub use sqlite::{MINIMUM_SQLITE, Sqlite, SqliteOptions, SqliteRead, SqliteTransaction};
pub use together::together;
