use std::sync::OnceLock;

use carillon_sql::StoreError;
use sqlx::{
    Arguments as _, AssertSqlSafe, SqlSafeStr as _, SqlStr, Sqlite, SqliteConnection, query::Query,
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

/// The largest serves broadcasts: with groups of 64, more than a third of the planner's own time went into hops (`perf`).
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// A statement under way.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

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

    /// Runs it over all rows; `bind` binds the columns of one row. Answers how many rows it changed.
    pub(super) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl for<'q> Fn(Bound<'q>, &'q T) -> Bound<'q>,
    ) -> Result<u64, StoreError> {
        let texts = self.texts.get_or_init(|| SIZES.map(|size| self.text(size)));
        let mut rest = rows;
        let mut changed = 0;
        for (size, text) in SIZES.into_iter().zip(texts) {
            while rest.len() >= size {
                let (group, more) = rest.split_at(size);
                let mut values = SqliteArguments::default();
                values.reserve(size * self.columns, 0);
                let query = sqlx::query_with(text.clone(), values);
                let query = group.iter().fold(query, &bind);
                changed += query.execute(&mut *connection).await?.rows_affected();
                rest = more;
            }
        }
        Ok(changed)
    }

    fn text(&self, rows: usize) -> SqlStr {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        AssertSqlSafe(format!(
            "{}{}{}",
            self.head,
            vec![row.as_str(); rows].join(","),
            self.tail
        ))
        .into_sql_str()
    }
}
