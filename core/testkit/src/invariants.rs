use std::{collections::HashSet, path::PathBuf, str::FromStr as _};

use carillon_sql::{Database, PostgresTransaction, SqliteRead};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

/// The longest that a lane with due work is put off: an open breaker's, and some.
const LONGEST_PARKING: &str = "360000000";

/// What is never true of the dispatcher's rows, whatever runs and whatever died: each with what finds it. `{now}` is the
/// time in microseconds.
const NEVER: [(&str, &str); 9] = [
    (
        "pending, and nothing will try it",
        "SELECT d.tenant || ' ' || d.id FROM deliveries d WHERE d.channel <> 'in_app' AND d.state = 'pending' \
         AND NOT EXISTS (SELECT 1 FROM delivery_queue q WHERE q.tenant = d.tenant AND q.delivery = d.id)",
    ),
    (
        "pending, and what waits for it is a recall",
        "SELECT d.tenant || ' ' || d.id FROM deliveries d JOIN delivery_queue q \
         ON q.tenant = d.tenant AND q.delivery = d.id \
         WHERE d.channel <> 'in_app' AND d.state = 'pending' AND q.operation = 'recall'",
    ),
    (
        "work in a lane that nobody looks at",
        "SELECT q.tenant || ' ' || q.delivery FROM delivery_queue q WHERE NOT EXISTS (SELECT 1 FROM lanes l \
         WHERE l.tenant = q.tenant AND l.channel = q.channel AND l.lane = q.lane AND l.strand = q.strand)",
    ),
    (
        // The first of a strand alone counts: others may be due earlier.
        "due work in a lane that is put off for too long",
        "SELECT q.tenant || ' ' || q.delivery FROM delivery_queue q JOIN lanes l \
         ON l.tenant = q.tenant AND l.channel = q.channel AND l.lane = q.lane AND l.strand = q.strand \
         WHERE q.strand = '' AND q.due_at < l.due_at AND l.due_at > {now} + {longest}",
    ),
    (
        "ended, with more attempts than are counted",
        "SELECT d.tenant || ' ' || d.id FROM deliveries d WHERE d.channel <> 'in_app' \
         AND d.state IN ('accepted', 'delivered', 'dead') AND d.attempts < \
         (SELECT MAX(a.number) FROM attempts a WHERE a.tenant = d.tenant AND a.delivery = d.id \
         AND a.ended_at IS NOT NULL)",
    ),
    (
        // What an attempt or a digest may still reach is open until that came to its end, and then something is due of it.
        "open, its notification is closed, and nothing will end it",
        "SELECT r.tenant || ' ' || r.notification || ' ' || r.user_id FROM recipients r JOIN notifications n \
         ON n.tenant = r.tenant AND n.id = r.notification WHERE r.state = 'open' AND n.closed_at IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM climbs c WHERE c.tenant = r.tenant AND c.notification = r.notification \
         AND c.user_id = r.user_id) AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = r.tenant \
         AND d.notification = r.notification AND d.user_id = r.user_id AND d.state = 'digested' AND EXISTS \
         (SELECT 1 FROM notifications g WHERE g.tenant = d.tenant AND g.id = d.digest AND (g.state IN ('accepted', 'planned') \
         AND g.closed_at IS NULL OR EXISTS (SELECT 1 FROM recipients s WHERE s.tenant = g.tenant AND s.notification = g.id \
         AND s.user_id = r.user_id AND s.state = 'open'))))",
    ),
    (
        "held, and nothing is due of it",
        "SELECT r.tenant || ' ' || r.notification || ' ' || r.user_id FROM recipients r \
         WHERE r.state = 'open' AND r.phase = 'held' AND NOT EXISTS (SELECT 1 FROM climbs c \
         WHERE c.tenant = r.tenant AND c.notification = r.notification AND c.user_id = r.user_id)",
    ),
    (
        // What was handed out is due again when its lease ends.
        "due for too long, and nobody looks at it",
        "SELECT c.tenant || ' ' || c.notification || ' ' || c.user_id FROM climbs c \
         WHERE c.due_at + {longest} < {now}",
    ),
    (
        "open, and its step is none of its plan",
        "SELECT r.tenant || ' ' || r.notification || ' ' || r.user_id FROM recipients r \
         WHERE r.state = 'open' AND ((r.step IS NULL) <> (r.step_at IS NULL) OR r.step NOT BETWEEN 0 AND 7)",
    ),
];

const WITHDRAWN: &str = "SELECT tenant || ' ' || id FROM deliveries \
    WHERE channel <> 'in_app' AND state IN ('cancelled', 'recalled')";
const PENDING: &str =
    "SELECT tenant || ' ' || id FROM deliveries WHERE channel <> 'in_app' AND state = 'pending'";

/// Looks at a running server's rows from outside: what is never true of them, and what must never come after what.
pub struct StoreChecker {
    place: Place,
    /// What was cancelled or recalled when somebody looked.
    withdrawn: HashSet<String>,
}

impl std::fmt::Debug for StoreChecker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreChecker").finish_non_exhaustive()
    }
}

enum Place {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
    Open(Database),
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    OpenSqlite(Box<SqliteRead>),
    OpenPostgres(PostgresTransaction),
}

impl StoreChecker {
    /// The dispatcher's file in a data folder.
    pub fn sqlite(data: &std::path::Path) -> Self {
        Self::at(Place::Sqlite(data.join("dispatcher.sqlite")))
    }

    /// The dispatcher's schema of a database.
    ///
    /// # Panics
    /// When it is no PostgreSQL URL.
    pub fn postgres(url: &str) -> Self {
        let options = PgConnectOptions::from_str(url).expect("a PostgreSQL URL");
        let options = options.options([("search_path", "carillon_dispatcher")]);
        Self::at(Place::Postgres(Box::new(options)))
    }

    /// The dispatcher's schema where a test has it open.
    pub fn open(database: Database) -> Self {
        Self::at(Place::Open(database))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            withdrawn: HashSet::new(),
        }
    }

    /// What is wrong now, in words; nothing of a store that was never opened.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn violations(&mut self, now: i64) -> Vec<String> {
        let Some(mut store) = self.place.open().await else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (what, query) in NEVER {
            let query = query
                .replace("{now}", &now.to_string())
                .replace("{longest}", LONGEST_PARKING);
            for row in store.all(query).await {
                found.push(format!("{what}: {row}"));
            }
        }
        // In this order: what is withdrawn in between was pending before, rightly.
        for row in store.all(PENDING.to_owned()).await {
            if self.withdrawn.contains(&row) {
                found.push(format!("withdrawn, and pending again: {row}"));
            }
        }
        self.withdrawn.extend(store.all(WITHDRAWN.to_owned()).await);
        found
    }

    /// What a query answers: one text per row.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn texts(&self, query: String) -> Vec<String> {
        let mut store = self.place.open().await.expect("a store");
        store.all(query).await
    }

    /// Breaks something, so that a test sees that it would be found.
    ///
    /// # Panics
    /// When the store does not take the statement.
    pub async fn spoil(&self, statement: &'static str) {
        let done = match self.place.open().await.expect("a store") {
            Connection::Sqlite(mut store) => sqlx::query(statement).execute(&mut store).await.map(drop),
            Connection::Postgres(mut store) => sqlx::query(statement).execute(&mut store).await.map(drop),
            Connection::OpenSqlite(_) | Connection::OpenPostgres(_) => {
                panic!("a test that has it open breaks it itself")
            }
        };
        done.expect("the store takes it");
    }
}

impl Place {
    async fn open(&self) -> Option<Connection> {
        match self {
            Self::Sqlite(path) if !path.exists() => None,
            Self::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .busy_timeout(std::time::Duration::from_secs(10));
                let store = SqliteConnection::connect_with(&options).await;
                Some(Connection::Sqlite(store.expect("the file opens")))
            }
            Self::Postgres(options) => {
                let store = PgConnection::connect_with(options).await;
                Some(Connection::Postgres(store.expect("the server answers")))
            }
            Self::Open(Database::Sqlite(sqlite)) => {
                let read = sqlite.read_system("a test looks at all rows").await;
                Some(Connection::OpenSqlite(Box::new(read.expect("the file answers"))))
            }
            Self::Open(Database::Postgres(postgres)) => {
                let read = postgres.read_system("a test looks at all rows").await;
                Some(Connection::OpenPostgres(read.expect("the server answers")))
            }
        }
    }
}

impl Connection {
    async fn all(&mut self, query: String) -> Vec<String> {
        let query = AssertSqlSafe(query);
        let rows = match self {
            Self::Sqlite(store) => sqlx::query_scalar(query).fetch_all(store).await,
            Self::Postgres(store) => sqlx::query_scalar(query).fetch_all(store).await,
            Self::OpenSqlite(read) => sqlx::query_scalar(query).fetch_all(&mut ***read).await,
            Self::OpenPostgres(read) => sqlx::query_scalar(query).fetch_all(&mut **read).await,
        };
        rows.expect("the store answers")
    }
}
