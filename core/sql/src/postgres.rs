use std::{str::FromStr, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, PgPool, Postgres as Driver, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{StoreError, TenantScope};

/// A transaction. Never keep it over an await on anything but the database.
pub type PostgresTransaction = Transaction<'static, Driver>;

/// How a schema is opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// The service's schema, a plain lower-case identifier.
    pub schema: &'static str,
    /// Connections at the most.
    pub connections: u32,
}

/// One service's PostgreSQL schema.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
    schema: &'static str,
}

impl PostgresOptions {
    /// Whether a URL can be one. Connects nothing, and says nothing of what stands in it: that may be a password.
    pub fn is_url(url: &SecretString) -> bool {
        PgConnectOptions::from_str(url.expose_secret()).is_ok()
    }
}

impl Postgres {
    /// Connects.
    ///
    /// # Errors
    /// When the URL is malformed, the server is away, or it would answer a commit before syncing it
    /// (`synchronous_commit=off`, `fsync=off`).
    pub async fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        let connect = PgConnectOptions::from_str(options.url.expose_secret())?
            .application_name("carillon")
            .options([("search_path", options.schema)])
            .options(crate::plant::postgres_options());
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(Duration::from_secs(10))
            .idle_timeout(Duration::from_secs(300))
            .connect_with(connect)
            .await?;
        let opened = Self {
            pool,
            schema: options.schema,
        };
        opened.refuse_unsafe_settings().await?;
        Ok(opened)
    }

    /// Opens a transaction on `scope`'s rows.
    ///
    /// # Errors
    /// When no connection is free for ten seconds, or the server fails.
    pub async fn begin(&self, scope: TenantScope<'_>) -> Result<PostgresTransaction, StoreError> {
        let _ = scope; // Row-level security will set its variable here.
        Ok(self.pool.begin().await?)
    }

    /// Opens a transaction across tenants; `reason` says why that is right, for the reader.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn begin_system(&self, reason: &'static str) -> Result<PostgresTransaction, StoreError> {
        tracing::trace!(reason, "system transaction");
        Ok(self.pool.begin().await?)
    }

    /// A transaction to read `scope`'s rows with; dropping it ends it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn read(&self, scope: TenantScope<'_>) -> Result<PostgresTransaction, StoreError> {
        self.begin(scope).await
    }

    /// A transaction to read across tenants with; `reason` says why that is right, for the reader.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn read_system(&self, reason: &'static str) -> Result<PostgresTransaction, StoreError> {
        self.begin_system(reason).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A server that answers a commit before it is on disk would make every 202 a lie.
    async fn refuse_unsafe_settings(&self) -> Result<(), StoreError> {
        if crate::plant::is_planted() {
            return Ok(());
        }
        for setting in ["synchronous_commit", "fsync", "full_page_writes"] {
            let (value,): (String,) = sqlx::query_as("SELECT current_setting($1)")
                .bind(setting)
                .fetch_one(&self.pool)
                .await?;
            if value == "off" {
                return Err(StoreError::Unsafe(format!(
                    "PostgreSQL runs with {setting}=off and can lose what was committed: refusing to start"
                )));
            }
        }
        Ok(())
    }

    pub(crate) async fn create_schema(&self) -> Result<(), StoreError> {
        // Two processes that start at once can both find it absent: then one fails on the catalogue's unique key.
        let statement = format!("CREATE SCHEMA IF NOT EXISTS {}", self.schema);
        match sqlx::query(AssertSqlSafe(statement)).execute(&self.pool).await {
            Err(error) if !crate::is_unique_violation(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn migration_pool(&self) -> &PgPool {
        &self.pool
    }
}
