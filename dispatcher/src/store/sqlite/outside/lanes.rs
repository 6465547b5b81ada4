use std::collections::BTreeSet;

use carillon_domain::{ChannelKind, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::SqliteConnection;

use super::super::{SqliteStore, bulk::Bulk, keys::json_list};
use crate::store::outside::{self, DueLane, LaneKey, ParkedLane};

static LANES: Bulk = Bulk::new(
    "INSERT INTO lanes (tenant, channel, lane, strand, due_at) VALUES ",
    5,
    " ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = excluded.due_at",
);
static NEW_WORK: Bulk = Bulk::new(
    "INSERT INTO lanes (tenant, channel, lane, strand, due_at) VALUES ",
    5,
    " ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = MIN(lanes.due_at, excluded.due_at)",
);
static PARKED: Bulk = Bulk::new(
    "UPDATE lanes SET due_at = v.column5 FROM (VALUES ",
    5,
    ") AS v WHERE lanes.tenant = v.column1 AND lanes.channel = v.column2 AND lanes.lane = v.column3 \
     AND lanes.strand = v.column4",
);

impl SqliteStore {
    pub(super) async fn due_lanes(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError> {
        let mut read = self
            .sqlite
            .read_system("the deliverer serves all tenants")
            .await?;
        let mut lanes = Vec::new();
        // A statement per channel, so that each reads its index no further than it must.
        for channel in channels {
            let rows: Vec<outside::LaneColumns> = sqlx::query_as(
                "SELECT tenant, channel, lane, strand, due_at FROM lanes \
                 WHERE channel = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3",
            )
            .bind(channel.as_str())
            .bind(now.as_micros())
            .bind(limit as i64)
            .fetch_all(&mut *read)
            .await?;
            lanes.append(&mut outside::due_lanes(rows));
        }
        lanes.sort_by_key(|lane| lane.due_at);
        Ok(lanes)
    }

    pub(super) async fn due_lanes_in_turn(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        after: Option<&TenantId>,
        (tenants, lanes): (usize, usize),
    ) -> Result<(Vec<DueLane>, Option<TenantId>), StoreError> {
        let mut read = self
            .sqlite
            .read_system("the deliverer serves all tenants")
            .await?;
        // From tenant to tenant along the key, past all the lanes of each.
        let found: Vec<(String,)> = sqlx::query_as(
            "WITH RECURSIVE t(tenant) AS (SELECT MIN(tenant) FROM lanes WHERE tenant > $1 UNION ALL \
             SELECT (SELECT MIN(l.tenant) FROM lanes l WHERE l.tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL) \
             SELECT tenant FROM t WHERE tenant IS NOT NULL LIMIT $2",
        )
        .bind(after.map_or("", TenantId::as_str))
        .bind(tenants as i64)
        .fetch_all(&mut *read)
        .await?;
        let mut due = Vec::new();
        for (tenant,) in &found {
            for channel in channels {
                let rows: Vec<outside::LaneColumns> = sqlx::query_as(
                    "SELECT tenant, channel, lane, strand, due_at FROM lanes \
                     WHERE tenant = $1 AND channel = $2 AND +due_at <= $3 LIMIT $4",
                )
                .bind(tenant)
                .bind(channel.as_str())
                .bind(now.as_micros())
                .bind(lanes as i64)
                .fetch_all(&mut *read)
                .await?;
                due.append(&mut outside::due_lanes(rows));
            }
        }
        Ok((due, outside::next_turn(&found, tenants)))
    }

    pub(super) async fn next_lane_due(
        &self,
        channels: &[ChannelKind],
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self
            .sqlite
            .read_system("the deliverer serves all tenants")
            .await?;
        let mut next = None;
        for channel in channels {
            let (due,): (Option<i64>,) = sqlx::query_as("SELECT MIN(due_at) FROM lanes WHERE channel = $1")
                .bind(channel.as_str())
                .fetch_one(&mut *read)
                .await?;
            next = next.into_iter().chain(due).min();
        }
        Ok(next.map(Timestamp::from_micros))
    }

    pub(super) async fn open_lanes(
        &self,
        tenant: &TenantId,
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError> {
        let mut read = self.sqlite.read(TenantScope::new(tenant)).await?;
        let rows: Vec<outside::LaneColumns> = sqlx::query_as(
            "SELECT tenant, channel, lane, strand, due_at FROM lanes \
             WHERE tenant = $1 ORDER BY channel, lane, strand LIMIT $2",
        )
        .bind(tenant.as_str())
        .bind(limit as i64)
        .fetch_all(&mut *read)
        .await?;
        Ok(outside::due_lanes(rows))
    }

    pub(super) async fn park(&self, lanes: &[ParkedLane]) -> Result<(), StoreError> {
        let mut tx = self
            .sqlite
            .begin_system("the deliverer serves all tenants")
            .await?;
        PARKED
            .run(&mut tx, lanes, |columns, lane| {
                columns
                    .bind(lane.key.tenant.as_str())
                    .bind(lane.key.channel.as_str())
                    .bind(&*lane.key.lane)
                    .bind(&*lane.key.strand)
                    .bind(lane.until)
            })
            .await?;
        Ok(tx.commit().await?)
    }
}

/// New work makes its lanes due at the latest when it is.
pub(in crate::store::sqlite) async fn lanes_of_new_work(
    tx: &mut SqliteConnection,
    work: &[outside::WorkRow],
) -> Result<(), StoreError> {
    let lanes: Vec<_> = outside::by_lane(work).into_iter().collect();
    NEW_WORK
        .run(tx, &lanes, |columns, (key, due)| {
            columns
                .bind(key.tenant.as_str())
                .bind(key.channel.as_str())
                .bind(&*key.lane)
                .bind(&*key.strand)
                .bind(*due)
        })
        .await?;
    Ok(())
}

/// Says anew when the lanes are due, from the work that is left; those without any go. Answers which are due at `now`;
/// with `again` those are put off until then.
pub(in crate::store::sqlite) async fn refresh(
    tx: &mut SqliteConnection,
    now: Timestamp,
    lanes: &BTreeSet<LaneKey>,
    again: Option<Timestamp>,
) -> Result<Vec<LaneKey>, StoreError> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let keys = json_list(lanes.iter().map(|key| {
        (
            key.tenant.as_str(),
            key.channel.as_str(),
            &*key.lane,
            &*key.strand,
        )
    }))?;
    // A strand is due when its first one is.
    let found: Vec<(i64, Option<i64>)> = sqlx::query_as(
        "SELECT j.key, CASE WHEN j.value ->> 3 = '' THEN \
         (SELECT q.due_at FROM delivery_queue q WHERE q.tenant = j.value ->> 0 AND q.channel = j.value ->> 1 \
         AND q.lane = j.value ->> 2 AND q.strand = '' ORDER BY q.due_at LIMIT 1) ELSE \
         (SELECT q.due_at FROM delivery_queue q WHERE q.tenant = j.value ->> 0 AND q.channel = j.value ->> 1 \
         AND q.lane = j.value ->> 2 AND q.strand = j.value ->> 3 AND q.strand <> '' \
         ORDER BY q.ord, q.delivery LIMIT 1) END FROM json_each($1) j",
    )
    .bind(keys)
    .fetch_all(&mut *tx)
    .await?;
    let mut due_now = Vec::new();
    let mut standing = Vec::with_capacity(lanes.len());
    let mut empty = Vec::new();
    let mut dues = found.into_iter().collect::<std::collections::HashMap<_, _>>();
    for (index, key) in (0_i64..).zip(lanes) {
        match dues.remove(&index).flatten() {
            None => empty.push((
                key.tenant.as_str(),
                key.channel.as_str(),
                &*key.lane,
                &*key.strand,
            )),
            Some(due) => {
                let is_due = due <= now.as_micros();
                if is_due {
                    due_now.push(key.clone());
                }
                let put_off = again.filter(|_| is_due).map_or(due, Timestamp::as_micros);
                standing.push((key, put_off));
            }
        }
    }
    LANES
        .run(tx, &standing, |columns, (key, due)| {
            columns
                .bind(key.tenant.as_str())
                .bind(key.channel.as_str())
                .bind(&*key.lane)
                .bind(&*key.strand)
                .bind(*due)
        })
        .await?;
    if !empty.is_empty() {
        sqlx::query(
            "DELETE FROM lanes WHERE (tenant, channel, lane, strand) IN \
             (SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1))",
        )
        .bind(json_list(empty.into_iter())?)
        .execute(tx)
        .await?;
    }
    Ok(due_now)
}
