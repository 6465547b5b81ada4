use std::sync::{Arc, OnceLock};

use carillon_domain::{
    DeliveryId, DeviceId, DomainEventId, EntryId, EventId, NotificationId, Timestamp, UserId,
};
use carillon_sql::StoreError;
use sqlx::{
    Arguments as _, AssertSqlSafe, SqlSafeStr as _, SqlStr, SqliteConnection, error::BoxDynError,
    sqlite::SqliteArguments,
};

/// A statement over many rows of bound values. Each statement is a hop to SQLite's thread, so rows go in groups; the
/// groups have few sizes, so that all of them stay prepared.
pub(super) struct Bulk {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    texts: OnceLock<[SqlStr; SIZES.len()]>,
}

/// The largest serves broadcasts: with groups of 64, more than a third of the planner's own time went into hops (`perf`). A
/// hundred is a usual batch of requests, which goes in one group instead of four.
const SIZES: [usize; 6] = [256, 100, 64, 16, 4, 1];

impl Bulk {
    /// `head`, then groups of `columns` placeholders, then `tail`.
    pub(super) const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        Self {
            head,
            columns,
            tail,
            texts: OnceLock::new(),
        }
    }

    /// Runs it over all rows; `bind` binds the columns of one row, in their order. Answers how many rows it changed.
    ///
    /// Behind an error a part of the rows may be written: the transaction has to be rolled back, as whoever drops it does.
    pub(super) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl for<'r> Fn(&'r mut Row, &T) -> &'r mut Row,
    ) -> Result<u64, StoreError> {
        let texts = self.texts.get_or_init(|| SIZES.map(|size| self.text(size)));
        let mut row = Row {
            values: SqliteArguments::default(),
            before: vec![None; self.columns],
            column: 0,
            failed: None,
        };
        let mut rest = rows;
        let mut changed = 0;
        for (size, text) in SIZES.into_iter().zip(texts) {
            while rest.len() >= size {
                let (group, more) = rest.split_at(size);
                row.values.reserve(size * self.columns, 0);
                for item in group {
                    row.column = 0;
                    bind(&mut row, item);
                    debug_assert_eq!(row.column, self.columns, "{}", self.head);
                }
                if let Some(error) = row.failed {
                    return Err(sqlx::Error::Encode(error).into());
                }
                let values = std::mem::take(&mut row.values);
                let query = sqlx::query_with(text.clone(), values);
                changed += query.execute(&mut *connection).await?.rows_affected();
                rest = more;
            }
        }
        Ok(changed)
    }

    fn text(&self, rows: usize) -> SqlStr {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        // By default SQLite copies each page that a statement over several rows changes, so that an error takes back this
        // statement alone. Here it takes back the transaction.
        let head = match self.head.strip_prefix("INSERT INTO ") {
            Some(into) => format!("INSERT OR FAIL INTO {into}"),
            None => self.head.to_owned(),
        };
        AssertSqlSafe(format!(
            "{head}{}{}",
            vec![row.as_str(); rows].join(","),
            self.tail
        ))
        .into_sql_str()
    }
}

/// Takes the values of a row, column by column. A text that is the same as in the row before is kept once: the rows of a
/// broadcast share most of theirs.
pub(super) struct Row {
    values: SqliteArguments,
    before: Vec<Option<Arc<str>>>,
    column: usize,
    failed: Option<BoxDynError>,
}

impl Row {
    pub(super) fn bind(&mut self, value: impl Value) -> &mut Self {
        value.bind_to(self);
        self.column += 1;
        self
    }

    /// The columns behind the last one that was bound hold NULL.
    pub(super) fn nothing_more(&mut self) -> &mut Self {
        for _ in self.column..self.before.len() {
            self.add(None::<i64>);
        }
        self.column = self.before.len();
        self
    }

    fn text(&mut self, text: &str) {
        let value = match self.before.get_mut(self.column) {
            Some(Some(before)) if **before == *text => Arc::clone(before),
            Some(before) => Arc::clone(before.insert(Arc::from(text))),
            None => Arc::from(text),
        };
        self.add(value);
    }

    fn add<'t>(&mut self, value: impl sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>) {
        if let Err(error) = self.values.add(value) {
            self.failed = Some(error);
        }
    }
}

/// What a column may hold.
pub(super) trait Value {
    fn bind_to(self, row: &mut Row);
}

impl Value for &str {
    fn bind_to(self, row: &mut Row) {
        row.text(self);
    }
}

/// Shared by itself: neither compared nor copied.
impl Value for &Arc<str> {
    fn bind_to(self, row: &mut Row) {
        row.add(Arc::clone(self));
    }
}

impl Value for i64 {
    fn bind_to(self, row: &mut Row) {
        row.add(self);
    }
}

impl Value for Timestamp {
    fn bind_to(self, row: &mut Row) {
        row.add(self.as_micros());
    }
}

impl<V: Value> Value for Option<V> {
    fn bind_to(self, row: &mut Row) {
        match self {
            Some(value) => value.bind_to(row),
            None => row.add(None::<i64>),
        }
    }
}

macro_rules! ids {
    ($($id:ident)*) => {
        $(impl Value for $id {
            fn bind_to(self, row: &mut Row) {
                row.text(self.text(&mut [0; $id::LENGTH]));
            }
        })*
    };
}

ids!(NotificationId UserId EntryId DeliveryId DeviceId EventId DomainEventId);
