use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::{Database, StoreError};

/// One step of a schema, compiled in with `include_str!`. Versions count up from 1; a step that was released never
/// changes.
#[derive(Debug, Clone, Copy)]
pub struct MigrationText {
    /// 1, 2, 3, ...
    pub version: i64,
    /// A few words.
    pub description: &'static str,
    /// The statements for SQLite.
    pub sqlite: &'static str,
    /// The statements for PostgreSQL, run with the service's schema first in the search path.
    pub postgres: &'static str,
}

/// Brings a service's schema up to date. Safe to run by several processes at once: each step runs once.
///
/// # Errors
/// When a step fails, or one that already ran was changed since.
pub async fn migrate(database: &Database, steps: &[MigrationText]) -> Result<(), StoreError> {
    let migration = |step: &MigrationText, sql: &'static str| {
        Migration::new(
            step.version,
            Cow::Borrowed(step.description),
            MigrationType::Simple,
            AssertSqlSafe(sql).into_sql_str(),
            false,
        )
    };
    let run = |error| StoreError::Database(sqlx::Error::Migrate(Box::new(error)));
    match database {
        Database::Sqlite(sqlite) => {
            let steps = steps.iter().map(|step| migration(step, step.sqlite)).collect();
            Migrator::with_migrations(steps)
                .run(sqlite.migration_pool())
                .await
                .map_err(run)
        }
        Database::Postgres(postgres) => {
            postgres.create_schema().await?;
            let steps = steps.iter().map(|step| migration(step, step.postgres)).collect();
            Migrator::with_migrations(steps)
                .run(postgres.migration_pool())
                .await
                .map_err(run)
        }
    }
}
