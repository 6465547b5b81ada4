use std::collections::BTreeSet;

use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::super::column::column;
use crate::store::{
    digests,
    outside::{self, Candidate, EMPTIED, Gate, LiveMember, gate},
};

/// Place, the notification's state or [`EMPTIED`], whether one answer ended it, the recipient's state, a member of a
/// digest that is not over.
type Found = (i64, String, i64, Option<String>, Option<String>);

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
    let open = hold_gates(tx, &gates).await?;
    let mut candidates = outside::behind_open(store, candidates, &open);
    let starting: Vec<_> = candidates.iter().filter_map(outside::starts).collect();
    // A statement of its own: it sees what was committed before the gates were held.
    let found: Vec<Found> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT f.place, CASE WHEN f.digest IS NOT NULL AND f.member IS NULL AND f.state <> 'cancelled' \
         THEN '{EMPTIED}' ELSE f.state END, f.answered, f.recipient, f.member FROM (\
         SELECT j.place - 1 AS place, n.state, n.digest, r.state AS recipient, \
         CASE WHEN n.answered IS NULL THEN 0::bigint ELSE 1 END AS answered, {member} AS member \
         FROM UNNEST($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS j(tenant, id, user_id, place) \
         JOIN notifications n ON n.tenant = j.tenant AND n.id = j.id \
         LEFT JOIN recipients r ON r.tenant = j.tenant AND r.notification = j.id AND r.user_id = j.user_id \
         WHERE n.state = 'cancelled' OR n.answered IS NOT NULL OR r.state = 'acknowledged' OR n.digest IS NOT NULL) f",
        member = digests::live_member()
    )))
    .bind(column!(starting, (tenant, _, _) => tenant.as_str()))
    .bind(column!(starting, (_, id, _) => id.to_string()))
    .bind(column!(starting, (_, _, user) => user.map_or_else(String::new, |user| user.to_string())))
    .fetch_all(&mut *tx)
    .await?;
    let (mut members, mut withdrawn) = (Vec::new(), Vec::new());
    for (place, state, answered, recipient, member) in found {
        members.extend(member.map(|member| (place, member)));
        withdrawn.push((place, state, answered, recipient));
    }
    outside::mark(&mut candidates, withdrawn);
    let unsure = unsure(tx, store, outside::live_members(&candidates, members)).await?;
    Ok(outside::without(candidates, &unsure))
}

/// Takes gates shared, without waiting; answers those that were open.
async fn hold_gates(tx: &mut PgConnection, gates: &BTreeSet<Gate>) -> Result<BTreeSet<Gate>, StoreError> {
    let open: Vec<Gate> = sqlx::query_as(
        "SELECT g.one, g.two FROM UNNEST($1::int[], $2::int[]) AS g(one, two) \
         WHERE pg_try_advisory_xact_lock_shared(g.one, g.two)",
    )
    .bind(column!(gates, (one, _) => *one))
    .bind(column!(gates, (_, two) => *two))
    .fetch_all(tx)
    .await?;
    Ok(open.into_iter().collect())
}

/// Places of digests that may be empty before the transaction ends. Each holds the gate of one member from here on, so that
/// whoever withdraws that one waits; one that is withdrawn by then keeps nothing open. They are looked at anew at the next
/// turn.
async fn unsure(
    tx: &mut PgConnection,
    store: &str,
    members: Vec<LiveMember>,
) -> Result<BTreeSet<usize>, StoreError> {
    if members.is_empty() {
        return Ok(BTreeSet::new());
    }
    let of = |member: &LiveMember| gate(store, &member.tenant, member.id);
    let open = hold_gates(tx, &members.iter().map(of).collect()).await?;
    let over: Vec<(i64,)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT j.place FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[]) AS j(tenant, id, user_id, place) \
         LEFT JOIN notifications m ON m.tenant = j.tenant AND m.id = j.id \
         LEFT JOIN recipients r ON r.tenant = j.tenant AND r.notification = j.id AND r.user_id = j.user_id \
         WHERE m.id IS NULL OR r.user_id IS NULL OR {}",
        digests::OVER
    )))
    .bind(column!(members, member => member.tenant.as_str()))
    .bind(column!(members, member => member.id.to_string()))
    .bind(column!(members, member => member.user.map_or_else(String::new, |user| user.to_string())))
    .bind(column!(members, member => member.place as i64))
    .fetch_all(tx)
    .await?;
    let over = over
        .into_iter()
        .filter_map(|(place,)| usize::try_from(place).ok());
    let shut = members.iter().filter(|member| !open.contains(&of(member)));
    Ok(over.chain(shut.map(|member| member.place)).collect())
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
