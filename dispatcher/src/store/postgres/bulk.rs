use std::sync::OnceLock;

use carillon_sql::StoreError;
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, SqlSafeStr as _, SqlStr, postgres::PgArguments, query::Query,
};

/// A statement over many rows of bound values. Each statement is a round trip, so rows go in groups; the groups have few
/// sizes, so that all of them stay prepared.
pub(super) struct Bulk {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    texts: OnceLock<[SqlStr; SIZES.len()]>,
}

const SIZES: [usize; 4] = [256, 32, 4, 1];

/// A statement under way.
pub(super) type Bound<'q> = Query<'q, Postgres, PgArguments>;

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
        connection: &mut PgConnection,
        rows: &[T],
        bind: impl for<'q> Fn(Bound<'q>, &'q T) -> Bound<'q>,
    ) -> Result<u64, StoreError> {
        let texts = self.texts.get_or_init(|| SIZES.map(|size| self.text(size)));
        let mut rest = rows;
        let mut changed = 0;
        for (size, text) in SIZES.into_iter().zip(texts) {
            while rest.len() >= size {
                let (group, more) = rest.split_at(size);
                let query = group
                    .iter()
                    .fold(sqlx::query(text.clone()), |query, row| bind(query, row));
                changed += query.execute(&mut *connection).await?.rows_affected();
                rest = more;
            }
        }
        Ok(changed)
    }

    fn text(&self, rows: usize) -> SqlStr {
        let row = |row: usize| {
            let places: Vec<String> = (1..=self.columns)
                .map(|column| format!("${}", row * self.columns + column))
                .collect();
            format!("({})", places.join(","))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        AssertSqlSafe(format!("{}{}{}", self.head, rows.join(","), self.tail)).into_sql_str()
    }
}
