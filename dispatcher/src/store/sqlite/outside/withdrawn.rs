use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::super::keys::json_list;
use crate::store::{
    digests,
    outside::{self, Candidate, EMPTIED},
};

/// Notes what was withdrawn of what would be started.
pub(super) async fn mark_withdrawn(
    tx: &mut SqliteConnection,
    mut candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, StoreError> {
    let starting: Vec<_> = candidates.iter().filter_map(outside::starts).collect();
    if starting.is_empty() {
        return Ok(candidates);
    }
    let found: Vec<outside::WithdrawnColumns> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT j.key, CASE WHEN n.state <> 'cancelled' AND {emptied} THEN '{EMPTIED}' ELSE n.state END, n.answered IS NOT NULL, r.state FROM json_each($1) j \
         CROSS JOIN notifications n ON n.tenant = j.value ->> 0 AND n.id = j.value ->> 1 \
         LEFT JOIN recipients r ON r.tenant = n.tenant AND r.notification = n.id AND r.user_id = j.value ->> 2 \
         WHERE n.state = 'cancelled' OR n.answered IS NOT NULL OR r.state = 'acknowledged' OR {emptied}",
        emptied = digests::emptied(),
    )))
    .bind(json_list(starting.into_iter())?)
    .fetch_all(tx)
    .await?;
    outside::mark(&mut candidates, found);
    Ok(candidates)
}
