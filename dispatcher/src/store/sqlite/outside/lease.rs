use std::sync::OnceLock;

use carillon_domain::{ChannelKind, Timestamp};
use carillon_sql::{StoreError, together};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr, SqliteConnection};

use super::{
    super::{
        SqliteStore,
        keys::{json_list, pairs},
    },
    apply::apply,
    lanes::refresh,
    listeners::listeners,
    withdrawn::mark_withdrawn,
};
use crate::store::Fingerprints;
use crate::store::outside::{
    self, CANDIDATE_JOINS, Candidate, CandidateColumns, Ended, Handed, LanePick, NO_STRAGGLER, STRAGGLER,
    candidate_columns,
};

/// How many picks one statement looks at: few sizes, so that all of them stay prepared.
const SIZES: [usize; 3] = [32, 8, 1];

/// What is due of a lane without order, the longest due first.
const ANY: &str = "SELECT * FROM (SELECT * FROM delivery_queue WHERE tenant = ? AND channel = ? AND lane = ? \
    AND strand = ? AND due_at <= ? ORDER BY due_at LIMIT ?)";
/// The first of a strand, if it is due.
const FIRST: &str = "SELECT * FROM (SELECT * FROM delivery_queue WHERE tenant = ? AND channel = ? AND lane = ? \
    AND strand = ? AND strand <> '' ORDER BY ord, delivery LIMIT 1) WHERE due_at <= ?";

impl SqliteStore {
    pub(super) async fn lease_deliveries(
        &self,
        now: Timestamp,
        picks: &[LanePick],
        until: Timestamp,
        again: Timestamp,
    ) -> Result<Handed, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("the deliverer serves all tenants")
            .await?;
        let (mut candidates, unreadable) = outside::candidates(candidates(&mut tx, now, picks).await?);
        mark_erased(&mut tx, &self.prints, &mut candidates).await?;
        let candidates = mark_withdrawn(&mut tx, candidates).await?;
        let mut effects = outside::hand_out(now, candidates);
        effects.unreadable = unreadable;
        effects.lanes.extend(picks.iter().map(|pick| pick.key.clone()));
        let listeners = listeners(
            &mut tx,
            effects.ended.iter().map(|end| &end.tenant),
            self.limits.event_ttl,
        )
        .await?;
        outside::follow(&mut effects, now, &listeners);
        apply(&mut tx, now, until, &effects).await?;
        let more = refresh(&mut tx, now, &effects.lanes, Some(again)).await?;
        tx.commit().await?;
        Ok(Handed {
            more,
            leased: effects.leased,
            ended: effects.ended,
        })
    }

    pub(super) async fn expire_deliveries(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("the deliverer serves all tenants")
            .await?;
        let statement = format!(
            // Who is being tried is due later than now.
            "SELECT {candidate} FROM (SELECT * FROM delivery_queue WHERE expires_at <= $1 AND due_at <= $1 \
             ORDER BY expires_at LIMIT $2) c {CANDIDATE_JOINS}",
            candidate = candidate_columns(NO_STRAGGLER)
        );
        let rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(now.as_micros())
            .bind(limit as i64)
            .fetch_all(&mut *tx)
            .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (candidates, unreadable) = outside::candidates(rows);
        let mut effects = outside::expire(now, candidates);
        effects.unreadable = unreadable;
        let listeners = listeners(
            &mut tx,
            effects.ended.iter().map(|end| &end.tenant),
            self.limits.event_ttl,
        )
        .await?;
        outside::follow(&mut effects, now, &listeners);
        apply(&mut tx, now, now, &effects).await?;
        refresh(&mut tx, now, &effects.lanes, None).await?;
        tx.commit().await?;
        Ok(effects.ended)
    }

    pub(super) async fn release_deliveries(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
    ) -> Result<u64, StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("leases of a dead process are of all tenants")
            .await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "UPDATE delivery_queue SET due_at = $1 WHERE due_at > $1 AND lease > 0 \
             AND channel IN (SELECT value FROM json_each($2)) AND EXISTS \
             (SELECT 1 FROM attempts a WHERE a.tenant = delivery_queue.tenant \
             AND a.delivery = delivery_queue.delivery \
             AND a.number = delivery_queue.earlier + delivery_queue.lease AND a.outcome IS NULL) \
             RETURNING tenant, delivery",
        )
        .bind(now.as_micros())
        .bind(json_list(channels.iter())?)
        .fetch_all(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE lanes SET due_at = $1 WHERE due_at > $1 AND (tenant, channel, lane, strand) IN \
             (SELECT tenant, channel, lane, strand FROM delivery_queue WHERE due_at <= $1)",
        )
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(rows.len() as u64)
    }
}

async fn candidates(
    tx: &mut SqliteConnection,
    now: Timestamp,
    picks: &[LanePick],
) -> Result<Vec<CandidateColumns>, StoreError> {
    let (strands, lanes): (Vec<_>, Vec<_>) = picks.iter().partition(|pick| !pick.key.strand.is_empty());
    let mut found = Vec::new();
    select(tx, &ANY_TEXTS, ANY, true, now, &lanes, &mut found).await?;
    select(tx, &FIRST_TEXTS, FIRST, false, now, &strands, &mut found).await?;
    Ok(found)
}

type Texts = OnceLock<[SqlStr; SIZES.len()]>;
static ANY_TEXTS: Texts = OnceLock::new();
static FIRST_TEXTS: Texts = OnceLock::new();

async fn select(
    tx: &mut SqliteConnection,
    texts: &'static Texts,
    one: &str,
    limited: bool,
    now: Timestamp,
    picks: &[&LanePick],
    found: &mut Vec<CandidateColumns>,
) -> Result<(), StoreError> {
    let texts = texts.get_or_init(|| {
        SIZES.map(|size| {
            let all = vec![one; size].join(" UNION ALL ");
            let candidate = candidate_columns(STRAGGLER);
            AssertSqlSafe(format!(
                "SELECT json_group_array(json_array({candidate})) FROM ({all}) c {CANDIDATE_JOINS}"
            ))
            .into_sql_str()
        })
    });
    let mut rest = picks;
    for (size, text) in SIZES.into_iter().zip(texts) {
        while rest.len() >= size {
            let (group, more) = rest.split_at(size);
            let mut query = sqlx::query_as(text.clone());
            for pick in group {
                query = query
                    .bind(pick.key.tenant.as_str())
                    .bind(pick.key.channel.as_str())
                    .bind(&*pick.key.lane)
                    .bind(&*pick.key.strand)
                    .bind(now.as_micros());
                if limited {
                    query = query.bind(i64::from(pick.limit));
                }
            }
            found.append(&mut together(query.fetch_one(&mut *tx).await?)?);
            rest = more;
        }
    }
    Ok(())
}

/// A JSON list of queue keys.
pub(super) fn queue_keys<'a>(
    keys: impl Iterator<Item = &'a outside::QueueKey>,
) -> Result<String, StoreError> {
    pairs(keys.map(|(tenant, id)| (tenant, *id)))
}

/// Finds suppressed addresses of which only fingerprints are left.
async fn mark_erased(
    tx: &mut SqliteConnection,
    prints: &Fingerprints,
    candidates: &mut [Candidate],
) -> Result<(), StoreError> {
    let asked = prints.of_candidates(candidates);
    if asked.is_empty() {
        return Ok(());
    }
    let found: Vec<(String,)> = sqlx::query_as(
        "SELECT s.address FROM json_each($1) j CROSS JOIN suppressions s \
         ON s.tenant = j.value ->> 0 AND s.channel = j.value ->> 1 AND s.address = j.value ->> 2",
    )
    .bind(json_list(asked.into_iter())?)
    .fetch_all(tx)
    .await?;
    prints.mark(candidates, &found.into_iter().map(|(print,)| print).collect());
    Ok(())
}
