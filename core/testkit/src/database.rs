use std::{path::Path, str::FromStr as _};

use carillon_sql::{Database, Postgres, PostgresOptions, Sqlite, SqliteOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

/// A database for one test: a SQLite file in a folder of its own, or a PostgreSQL database of its own on the server
/// that `CARILLON_TEST_POSTGRES` names. Not migrated.
pub struct TestDatabase {
    /// The database.
    pub database: Database,
    _folder: Option<tempfile::TempDir>,
}

impl From<Database> for TestDatabase {
    /// A database that the test opened itself.
    fn from(database: Database) -> Self {
        Self {
            database,
            _folder: None,
        }
    }
}

impl TestDatabase {
    /// A SQLite file.
    pub async fn sqlite() -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder")).await
    }

    /// A SQLite file in memory, where the system has a folder for it: for those who commit very often.
    pub async fn sqlite_in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Self::in_folder(folder.expect("a temporary folder")).await
    }

    async fn in_folder(folder: tempfile::TempDir) -> Self {
        let options = SqliteOptions {
            path: folder.path().join("test.sqlite"),
            readers: 4,
        };
        let sqlite = Sqlite::open(&options).await.expect("SQLite opens");
        Self {
            database: Database::Sqlite(sqlite),
            _folder: Some(folder),
        }
    }

    /// A PostgreSQL database.
    ///
    /// # Panics
    /// When `CARILLON_TEST_POSTGRES` is not set: a test that needs a server never passes without one.
    pub async fn postgres(schema: &'static str) -> Self {
        let url = create_postgres_database().await;
        let options = PostgresOptions {
            url: url.into(),
            schema,
            connections: 8,
        };
        let postgres = Postgres::open(&options).await.expect("the new database answers");
        Self {
            database: Database::Postgres(postgres),
            _folder: None,
        }
    }
}

/// Makes an empty database on the server that `CARILLON_TEST_POSTGRES` names, and answers its URL.
///
/// # Panics
/// When `CARILLON_TEST_POSTGRES` is not set: a test that needs a server never passes without one.
pub async fn create_postgres_database() -> String {
    let server = std::env::var("CARILLON_TEST_POSTGRES").expect(
        "CARILLON_TEST_POSTGRES names a PostgreSQL server for tests; `make test` starts one and sets it",
    );
    let name = format!("carillon_test_{}", Uuid::new_v4().as_simple());
    let connect = PgConnectOptions::from_str(&server).expect("a PostgreSQL URL");
    let mut admin = PgConnection::connect_with(&connect)
        .await
        .expect("the PostgreSQL server answers");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut admin)
        .await
        .expect("the role may create databases");
    admin.close().await.expect("the connection closes");
    let mut url = url::Url::parse(&server).expect("a PostgreSQL URL");
    url.set_path(&name);
    url.into()
}
