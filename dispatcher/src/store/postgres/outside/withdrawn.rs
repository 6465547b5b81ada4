use std::collections::BTreeSet;

use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::super::column::column;
use crate::store::{
    digests,
    outside::{self, Candidate, EMPTIED, Gate},
};

/// Holds the gates of what would be started, as far as they are open, and notes what was withdrawn. What stands behind
/// a closed gate is left alone: whoever closed it may wait for lanes that are held here.
pub(super) async fn mark_withdrawn(
    tx: &mut PgConnection,
    store: &str,
    candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, StoreError> {
    let gates = outside::gates(store, &candidates);
    if gates.is_empty() {
        return Ok(candidates);
    }
    let open: Vec<(i32, i32)> = sqlx::query_as(
        "SELECT g.one, g.two FROM UNNEST($1::int[], $2::int[]) AS g(one, two) \
         WHERE pg_try_advisory_xact_lock_shared(g.one, g.two)",
    )
    .bind(column!(gates, (one, _) => *one))
    .bind(column!(gates, (_, two) => *two))
    .fetch_all(&mut *tx)
    .await?;
    let open: BTreeSet<Gate> = open.into_iter().collect();
    let mut candidates = outside::behind_open(store, candidates, &open);
    let starting: Vec<_> = candidates.iter().filter_map(outside::starts).collect();
    // A statement of its own: it sees what was committed before the gates were held.
    let found: Vec<outside::WithdrawnColumns> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT j.place - 1, CASE WHEN n.state <> 'cancelled' AND {emptied} THEN '{EMPTIED}' ELSE n.state END, CASE WHEN n.answered IS NULL THEN 0::bigint ELSE 1 END, r.state \
         FROM UNNEST($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS j(tenant, id, user_id, place) \
         JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id \
         LEFT JOIN recipients r ON r.tenant = j.tenant AND r.notification = j.id AND r.user_id = j.user_id \
         WHERE n.state = 'cancelled' OR n.answered IS NOT NULL OR r.state = 'acknowledged' OR {emptied}",
        emptied = digests::emptied()
    )))
    .bind(column!(starting, (tenant, _, _) => tenant.as_str()))
    .bind(column!(starting, (_, id, _) => id.to_string()))
    .bind(column!(starting, (_, _, user) => user.map_or_else(String::new, |user| user.to_string())))
    .fetch_all(&mut *tx)
    .await?;
    outside::mark(&mut candidates, found);
    Ok(candidates)
}

/// Closes gates for all who start, until the transaction ends. Before any row is locked.
pub(in crate::store::postgres) async fn close_gates(
    tx: &mut PgConnection,
    gates: &BTreeSet<Gate>,
) -> Result<(), StoreError> {
    for (one, two) in gates {
        sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
            .bind(one)
            .bind(two)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
