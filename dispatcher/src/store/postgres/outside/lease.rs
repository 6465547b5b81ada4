use std::collections::BTreeSet;

use carillon_domain::{ChannelKind, Timestamp};
use carillon_sql::StoreError;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    super::{PostgresStore, column::column},
    apply::apply,
    lanes::{hold_with, lock_changes, not_held, refresh},
    listeners::listeners,
    withdrawn::mark_withdrawn,
};
use crate::store::Fingerprints;
use crate::store::outside::{
    self, CANDIDATE_JOINS, Candidate, CandidateColumns, Effects, Ended, Handed, LaneKey, LanePick,
    NO_STRAGGLER, STRAGGLER, Unreadable, candidate_columns,
};

impl PostgresStore {
    pub(super) async fn lease_deliveries(
        &self,
        now: Timestamp,
        picks: &[LanePick],
        until: Timestamp,
        again: Timestamp,
    ) -> Result<Handed, StoreError> {
        let mut lanes: BTreeSet<LaneKey> = picks.iter().map(|pick| pick.key.clone()).collect();
        let (mut told, mut make) = (BTreeSet::new(), false);
        loop {
            let mut tx = self
                .postgres
                .begin_system("the deliverer serves all tenants")
                .await?;
            if !hold_with(&mut tx, now, &lanes, &told, make).await? {
                make = true;
                tx.rollback().await?;
                continue;
            }
            let (mut candidates, unreadable) = candidates(&mut tx, now, picks).await?;
            mark_erased(&mut tx, &self.prints, &mut candidates).await?;
            let candidates = mark_withdrawn(&mut tx, &self.epoch, candidates).await?;
            let mut effects = outside::hand_out(now, candidates);
            effects.unreadable = unreadable;
            self.tell(&mut tx, now, &mut effects).await?;
            let late = not_held(&effects, &lanes.union(&told).cloned().collect());
            if !late.is_empty() {
                told.extend(late);
                tx.rollback().await?;
                continue;
            }
            lock_changes(&mut tx, &effects).await?;
            apply(&mut tx, now, until, &effects).await?;
            lanes.append(&mut effects.lanes);
            let more = refresh(&mut tx, now, &lanes, Some(again)).await?;
            tx.commit().await?;
            return Ok(Handed {
                more,
                leased: effects.leased,
                ended: effects.ended,
            });
        }
    }

    /// Tells those who asked for it of what ended.
    pub(super) async fn tell(
        &self,
        tx: &mut PgConnection,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<(), StoreError> {
        let tenants = effects.ended.iter().map(|end| &end.tenant);
        let listeners = listeners(tx, tenants, self.limits.event_ttl).await?;
        outside::follow(effects, now, &listeners);
        Ok(())
    }

    pub(super) async fn expire_deliveries(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Ended>, StoreError> {
        let (mut told, mut make) = (BTreeSet::new(), false);
        loop {
            let mut tx = self
                .postgres
                .begin_system("the deliverer serves all tenants")
                .await?;
            // Lanes are locked before their work is, so the look comes twice; who is being tried is due later than now.
            let rows: Vec<outside::LaneColumns> = sqlx::query_as(
                "SELECT DISTINCT c.tenant, c.channel, c.lane, c.strand, 0::bigint FROM \
                 (SELECT * FROM delivery_queue WHERE expires_at <= $1 AND due_at <= $1 ORDER BY expires_at LIMIT $2) c",
            )
            .bind(now.as_micros())
            .bind(limit as i64)
            .fetch_all(&mut *tx)
            .await?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            let lanes: BTreeSet<LaneKey> = outside::due_lanes(rows)
                .into_iter()
                .map(|lane| lane.key)
                .collect();
            if !hold_with(&mut tx, now, &lanes, &told, make).await? {
                make = true;
                tx.rollback().await?;
                continue;
            }
            let (candidates, unreadable) = late(&mut tx, now, limit, &lanes).await?;
            let mut effects = outside::expire(now, candidates);
            effects.unreadable = unreadable;
            self.tell(&mut tx, now, &mut effects).await?;
            let late = not_held(&effects, &lanes);
            if told.is_empty() && !late.is_empty() {
                told = late;
                tx.rollback().await?;
                continue;
            }
            lock_changes(&mut tx, &effects).await?;
            apply(&mut tx, now, now, &effects).await?;
            refresh(&mut tx, now, &lanes, None).await?;
            tx.commit().await?;
            return Ok(effects.ended);
        }
    }

    pub(super) async fn release_deliveries(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
    ) -> Result<u64, StoreError> {
        let mut tx = self
            .postgres
            .begin_system("leases of a dead process are of all tenants")
            .await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "UPDATE delivery_queue SET due_at = $1 WHERE due_at > $1 AND lease > 0 AND channel = ANY($2) AND EXISTS \
             (SELECT 1 FROM attempts a WHERE a.tenant = delivery_queue.tenant \
             AND a.delivery = delivery_queue.delivery \
             AND a.number = delivery_queue.earlier + delivery_queue.lease AND a.outcome IS NULL) \
             RETURNING tenant, delivery",
        )
        .bind(now.as_micros())
        .bind(column!(channels, channel => channel.as_str()))
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

/// What is due of a lane without order, the longest due first, and the first of a strand if it is due; such rows are
/// locked. Their lanes are locked already.
async fn candidates(
    tx: &mut PgConnection,
    now: Timestamp,
    picks: &[LanePick],
) -> Result<(Vec<Candidate>, Vec<Unreadable>), StoreError> {
    let (strands, lanes): (Vec<&LanePick>, Vec<&LanePick>) =
        picks.iter().partition(|pick| !pick.key.strand.is_empty());
    let candidate = candidate_columns(STRAGGLER);
    let any = format!(
        "SELECT {candidate} FROM UNNEST($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) \
         AS p(tenant, channel, lane, strand, most) CROSS JOIN LATERAL (SELECT q.* FROM delivery_queue q \
         WHERE q.tenant = p.tenant AND q.channel = p.channel AND q.lane = p.lane AND q.strand = p.strand \
         AND q.due_at <= $1 ORDER BY q.due_at LIMIT p.most FOR UPDATE OF q SKIP LOCKED) c {CANDIDATE_JOINS}"
    );
    let first = format!(
        "SELECT {candidate} FROM UNNEST($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) \
         AS p(tenant, channel, lane, strand, most) CROSS JOIN LATERAL (SELECT q.* FROM delivery_queue q \
         WHERE q.tenant = p.tenant AND q.channel = p.channel AND q.lane = p.lane AND q.strand = p.strand \
         AND q.strand <> '' ORDER BY q.ord, q.delivery LIMIT 1 FOR UPDATE OF q) c {CANDIDATE_JOINS} \
         WHERE c.due_at <= $1"
    );
    let mut found = Vec::new();
    for (statement, picks) in [(any, lanes), (first, strands)] {
        if picks.is_empty() {
            continue;
        }
        let mut rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(now.as_micros())
            .bind(column!(picks, pick => pick.key.tenant.as_str()))
            .bind(column!(picks, pick => pick.key.channel.as_str()))
            .bind(column!(picks, pick => &*pick.key.lane))
            .bind(column!(picks, pick => &*pick.key.strand))
            .bind(column!(picks, pick => i64::from(pick.limit)))
            .fetch_all(&mut *tx)
            .await?;
        found.append(&mut rows);
    }
    Ok(outside::candidates(found))
}

/// Finds suppressed addresses of which only fingerprints are left.
async fn mark_erased(
    tx: &mut PgConnection,
    prints: &Fingerprints,
    candidates: &mut [Candidate],
) -> Result<(), StoreError> {
    let asked = prints.of_candidates(candidates);
    if asked.is_empty() {
        return Ok(());
    }
    let found: Vec<(String,)> = sqlx::query_as(
        "SELECT s.address FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j(tenant, channel, print) \
         JOIN suppressions s ON s.tenant = j.tenant AND s.channel = j.channel AND s.address = j.print",
    )
    .bind(column!(asked, (tenant, _, _) => tenant.as_str()))
    .bind(column!(asked, (_, channel, _) => channel.as_str()))
    .bind(column!(asked, (_, _, print) => print.as_str()))
    .fetch_all(tx)
    .await?;
    prints.mark(candidates, &found.into_iter().map(|(print,)| print).collect());
    Ok(())
}

/// Work of these lanes whose time to live is over and that nobody tries; such rows are locked.
async fn late(
    tx: &mut PgConnection,
    now: Timestamp,
    limit: usize,
    lanes: &BTreeSet<LaneKey>,
) -> Result<(Vec<Candidate>, Vec<Unreadable>), StoreError> {
    let statement = format!(
        "SELECT {candidate} FROM (SELECT q.* FROM delivery_queue q JOIN UNNEST($3::text[], $4::text[], \
             $5::text[], $6::text[]) AS l(tenant, channel, lane, strand) ON l.tenant = q.tenant \
             AND l.channel = q.channel AND l.lane = q.lane AND l.strand = q.strand \
             WHERE q.expires_at <= $1 AND q.due_at <= $1 ORDER BY q.expires_at LIMIT $2 \
             FOR UPDATE OF q SKIP LOCKED) c {CANDIDATE_JOINS}",
        candidate = candidate_columns(NO_STRAGGLER)
    );
    let rows: Vec<CandidateColumns> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(now.as_micros())
        .bind(limit as i64)
        .bind(column!(lanes, key => key.tenant.as_str()))
        .bind(column!(lanes, key => key.channel.as_str()))
        .bind(column!(lanes, key => &*key.lane))
        .bind(column!(lanes, key => &*key.strand))
        .fetch_all(tx)
        .await?;
    Ok(outside::candidates(rows))
}
