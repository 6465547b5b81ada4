use std::collections::BTreeSet;

use carillon_domain::{ChannelKind, TenantId, Timestamp};
use carillon_sql::{StoreError, TenantScope};
use sqlx::PgConnection;

use super::super::{PostgresStore, column::column};
use crate::store::outside::{self, DueLane, Effects, LaneKey, ParkedLane, QueueKey};

impl PostgresStore {
    pub(super) async fn due_lanes(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError> {
        let mut read = self
            .postgres
            .read_system("the deliverer serves all tenants")
            .await?;
        let rows: Vec<outside::LaneColumns> = sqlx::query_as(
            // Per channel, so that each reads its index no further than it must.
            "SELECT l.tenant, l.channel, l.lane, l.strand, l.due_at FROM UNNEST($1::text[]) AS c(channel) \
             CROSS JOIN LATERAL (SELECT * FROM lanes WHERE lanes.channel = c.channel AND lanes.due_at <= $2 \
             ORDER BY lanes.due_at LIMIT $3) l ORDER BY l.due_at",
        )
        .bind(column!(channels, channel => channel.as_str()))
        .bind(now.as_micros())
        .bind(limit as i64)
        .fetch_all(&mut *read)
        .await?;
        Ok(outside::due_lanes(rows))
    }

    pub(super) async fn due_lanes_in_turn(
        &self,
        now: Timestamp,
        channels: &[ChannelKind],
        after: Option<&TenantId>,
        (tenants, lanes): (usize, usize),
    ) -> Result<(Vec<DueLane>, Option<TenantId>), StoreError> {
        let mut read = self
            .postgres
            .read_system("the deliverer serves all tenants")
            .await?;
        // From tenant to tenant along the key, past all the lanes of each.
        let found: Vec<(String,)> = sqlx::query_as(
            "WITH RECURSIVE t(tenant) AS ((SELECT MIN(tenant) FROM lanes WHERE tenant > $1) UNION ALL \
             SELECT (SELECT MIN(l.tenant) FROM lanes l WHERE l.tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL) \
             SELECT tenant FROM t WHERE tenant IS NOT NULL LIMIT $2",
        )
        .bind(after.map_or("", TenantId::as_str))
        .bind(tenants as i64)
        .fetch_all(&mut *read)
        .await?;
        let rows: Vec<outside::LaneColumns> = sqlx::query_as(
            "SELECT l.tenant, l.channel, l.lane, l.strand, l.due_at FROM UNNEST($1::text[]) AS t(tenant) \
             CROSS JOIN UNNEST($2::text[]) AS c(channel) CROSS JOIN LATERAL (SELECT * FROM lanes \
             WHERE lanes.tenant = t.tenant AND lanes.channel = c.channel AND lanes.due_at <= $3 LIMIT $4) l",
        )
        .bind(column!(found, (tenant,) => tenant.as_str()))
        .bind(column!(channels, channel => channel.as_str()))
        .bind(now.as_micros())
        .bind(lanes as i64)
        .fetch_all(&mut *read)
        .await?;
        Ok((outside::due_lanes(rows), outside::next_turn(&found, tenants)))
    }

    pub(super) async fn next_lane_due(
        &self,
        channels: &[ChannelKind],
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut read = self
            .postgres
            .read_system("the deliverer serves all tenants")
            .await?;
        let (due,): (Option<i64>,) = sqlx::query_as(
            "SELECT MIN((SELECT MIN(l.due_at) FROM lanes l WHERE l.channel = c.channel)) \
             FROM UNNEST($1::text[]) AS c(channel)",
        )
        .bind(column!(channels, channel => channel.as_str()))
        .fetch_one(&mut *read)
        .await?;
        Ok(due.map(Timestamp::from_micros))
    }

    pub(super) async fn open_lanes(
        &self,
        tenant: &TenantId,
        limit: usize,
    ) -> Result<Vec<DueLane>, StoreError> {
        let mut read = self.postgres.read(TenantScope::new(tenant)).await?;
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
            .postgres
            .begin_system("the deliverer serves all tenants")
            .await?;
        let keys: BTreeSet<LaneKey> = lanes.iter().map(|lane| lane.key.clone()).collect();
        lock(&mut tx, &keys).await?;
        sqlx::query(
            "UPDATE lanes SET due_at = v.due_at FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], \
             $5::bigint[]) AS v(tenant, channel, lane, strand, due_at) WHERE lanes.tenant = v.tenant \
             AND lanes.channel = v.channel AND lanes.lane = v.lane AND lanes.strand = v.strand",
        )
        .bind(column!(lanes, lane => lane.key.tenant.as_str()))
        .bind(column!(lanes, lane => lane.key.channel.as_str()))
        .bind(column!(lanes, lane => &*lane.key.lane))
        .bind(column!(lanes, lane => &*lane.key.strand))
        .bind(column!(lanes, lane => lane.until.as_micros()))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}

/// Locks the lanes that are there, in the one order. Answers whether that are all.
pub(in crate::store::postgres) async fn lock(
    tx: &mut PgConnection,
    lanes: &BTreeSet<LaneKey>,
) -> Result<bool, StoreError> {
    if lanes.is_empty() {
        return Ok(true);
    }
    let locked = sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS j(tenant, channel, lane, strand) \
         JOIN lanes l ON l.tenant = j.tenant AND l.channel = j.channel AND l.lane = j.lane \
         AND l.strand = j.strand ORDER BY l.tenant, l.channel, l.lane, l.strand FOR UPDATE OF l",
    )
    .bind(column!(lanes, key => key.tenant.as_str()))
    .bind(column!(lanes, key => key.channel.as_str()))
    .bind(column!(lanes, key => &*key.lane))
    .bind(column!(lanes, key => &*key.strand))
    .fetch_all(tx)
    .await?;
    Ok(locked.len() == lanes.len())
}

/// New work makes its lanes due at the latest when it is. Holds their rows, so that nobody finds a lane empty that is
/// about to have work.
pub(in crate::store::postgres) async fn lanes_of_new_work(
    tx: &mut PgConnection,
    work: &[outside::WorkRow],
) -> Result<(), StoreError> {
    let lanes = outside::by_lane(work);
    if lanes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO lanes (tenant, channel, lane, strand, due_at) SELECT * FROM UNNEST($1::text[], $2::text[], \
         $3::text[], $4::text[], $5::bigint[]) AS v(tenant, channel, lane, strand, due_at) \
         ORDER BY v.tenant, v.channel, v.lane, v.strand \
         ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = LEAST(lanes.due_at, excluded.due_at)",
    )
    .bind(column!(lanes, (key, _) => key.tenant.as_str()))
    .bind(column!(lanes, (key, _) => key.channel.as_str()))
    .bind(column!(lanes, (key, _) => &*key.lane))
    .bind(column!(lanes, (key, _) => &*key.strand))
    .bind(column!(lanes, (_, due) => due.as_micros()))
    .execute(tx)
    .await?;
    Ok(())
}

/// Says anew when the lanes are due, from the work that is left; those without any go. Answers which are due at `now`;
/// with `again` those are put off until then. The lanes are locked.
pub(in crate::store::postgres) async fn refresh(
    tx: &mut PgConnection,
    now: Timestamp,
    lanes: &BTreeSet<LaneKey>,
    again: Option<Timestamp>,
) -> Result<Vec<LaneKey>, StoreError> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    // A strand is due when its first one is.
    let found: Vec<(i64, Option<i64>)> = sqlx::query_as(
        "SELECT j.place, CASE WHEN j.strand = '' THEN \
         (SELECT q.due_at FROM delivery_queue q WHERE q.tenant = j.tenant AND q.channel = j.channel \
         AND q.lane = j.lane AND q.strand = '' ORDER BY q.due_at LIMIT 1) ELSE \
         (SELECT q.due_at FROM delivery_queue q WHERE q.tenant = j.tenant AND q.channel = j.channel \
         AND q.lane = j.lane AND q.strand = j.strand AND q.strand <> '' ORDER BY q.ord, q.delivery LIMIT 1) END \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY \
         AS j(tenant, channel, lane, strand, place)",
    )
    .bind(column!(lanes, key => key.tenant.as_str()))
    .bind(column!(lanes, key => key.channel.as_str()))
    .bind(column!(lanes, key => &*key.lane))
    .bind(column!(lanes, key => &*key.strand))
    .fetch_all(&mut *tx)
    .await?;
    let mut due_now = Vec::new();
    let mut standing = Vec::with_capacity(lanes.len());
    let mut empty = Vec::new();
    let mut dues = found.into_iter().collect::<std::collections::HashMap<_, _>>();
    for (place, key) in (1_i64..).zip(lanes) {
        match dues.remove(&place).flatten() {
            None => empty.push(key),
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
    if !standing.is_empty() {
        sqlx::query(
            "INSERT INTO lanes (tenant, channel, lane, strand, due_at) SELECT * FROM UNNEST($1::text[], \
             $2::text[], $3::text[], $4::text[], $5::bigint[]) AS v(tenant, channel, lane, strand, due_at) \
             ORDER BY v.tenant, v.channel, v.lane, v.strand \
             ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = excluded.due_at",
        )
        .bind(column!(standing, (key, _) => key.tenant.as_str()))
        .bind(column!(standing, (key, _) => key.channel.as_str()))
        .bind(column!(standing, (key, _) => &*key.lane))
        .bind(column!(standing, (key, _) => &*key.strand))
        .bind(column!(standing, (_, due) => *due))
        .execute(&mut *tx)
        .await?;
    }
    if !empty.is_empty() {
        // Whoever is adding work to one that is not held is waited for here: the deletion itself would not see that work.
        lock(tx, &empty.iter().map(|key| (*key).clone()).collect()).await?;
        sqlx::query(
            "DELETE FROM lanes USING UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) \
             AS v(tenant, channel, lane, strand) WHERE lanes.tenant = v.tenant AND lanes.channel = v.channel \
             AND lanes.lane = v.lane AND lanes.strand = v.strand AND NOT EXISTS (SELECT 1 FROM delivery_queue q \
             WHERE q.tenant = v.tenant AND q.channel = v.channel AND q.lane = v.lane AND q.strand = v.strand)",
        )
        .bind(column!(empty, key => key.tenant.as_str()))
        .bind(column!(empty, key => key.channel.as_str()))
        .bind(column!(empty, key => &*key.lane))
        .bind(column!(empty, key => &*key.strand))
        .execute(tx)
        .await?;
    }
    Ok(due_now)
}

/// Makes lanes where they are new and locks all of them, in the one order. A lane without work goes when somebody looks
/// for it.
pub(in crate::store::postgres) async fn hold(
    tx: &mut PgConnection,
    now: Timestamp,
    lanes: &BTreeSet<LaneKey>,
) -> Result<(), StoreError> {
    if lanes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO lanes (tenant, channel, lane, strand, due_at) SELECT v.tenant, v.channel, v.lane, v.strand, $5 \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS v(tenant, channel, lane, strand) \
         ORDER BY v.tenant, v.channel, v.lane, v.strand \
         ON CONFLICT (tenant, channel, lane, strand) DO UPDATE SET due_at = lanes.due_at",
    )
    .bind(column!(lanes, key => key.tenant.as_str()))
    .bind(column!(lanes, key => key.channel.as_str()))
    .bind(column!(lanes, key => &*key.lane))
    .bind(column!(lanes, key => &*key.strand))
    .bind(now.as_micros())
    .execute(tx)
    .await?;
    Ok(())
}

/// Locks the deliveries that the effects change, in the one order; their lanes are held.
pub(super) async fn lock_changes(tx: &mut PgConnection, effects: &Effects) -> Result<(), StoreError> {
    let keys = column!(effects.changes, change => &change.key);
    // A single one has no order.
    if keys.len() < 2 {
        return Ok(());
    }
    lock_deliveries(tx, &keys).await
}

/// Locks deliveries outside the inbox, in the one order.
pub(super) async fn lock_deliveries(tx: &mut PgConnection, keys: &[&QueueKey]) -> Result<(), StoreError> {
    sqlx::query(
        "SELECT 1 FROM UNNEST($1::text[], $2::text[]) AS j(tenant, id) JOIN deliveries d ON d.tenant = j.tenant \
         AND d.id = j.id AND d.channel <> 'in_app' ORDER BY d.tenant, d.id FOR UPDATE OF d",
    )
    .bind(column!(keys, (tenant, _) => tenant.as_str()))
    .bind(column!(keys, (_, id) => id.to_string()))
    .fetch_all(tx)
    .await?;
    Ok(())
}

/// Lanes of those who are told, and of work that is elsewhere now, that are not held: known only when it is too late to
/// lock them in order.
pub(super) fn not_held(effects: &Effects, held: &BTreeSet<LaneKey>) -> BTreeSet<LaneKey> {
    let told = outside::by_lane(&effects.told.work).into_keys();
    let changed = told.chain(effects.lanes.iter().cloned());
    changed.filter(|key| !held.contains(key)).collect()
}

/// Holds lanes, and with them those of others that are told of something. Where nobody is told and all are there, without
/// writing. Answers false where one is not there, unless it is to `make` them: a lane that is not held may come to be
/// with new work in it, and whoever says when it is due must hold it.
pub(super) async fn hold_with(
    tx: &mut PgConnection,
    now: Timestamp,
    lanes: &BTreeSet<LaneKey>,
    told: &BTreeSet<LaneKey>,
    make: bool,
) -> Result<bool, StoreError> {
    if told.is_empty() && !make {
        return lock(tx, lanes).await;
    }
    hold(tx, now, &lanes.union(told).cloned().collect()).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use carillon_sql::Database;
    use carillon_testkit::TestDatabase;

    use super::*;
    use crate::store::MIGRATIONS;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_323_045);

    #[tokio::test]
    async fn a_lane_that_gets_work_meanwhile_stays() {
        let keep = TestDatabase::postgres("dispatcher").await;
        carillon_sql::migrate(&keep.database, MIGRATIONS)
            .await
            .expect("migrates");
        let Database::Postgres(postgres) = keep.database.clone() else {
            panic!("it is PostgreSQL");
        };
        let key = LaneKey {
            tenant: TenantId::default(),
            channel: ChannelKind::webhook(),
            lane: Arc::from("a.example:443"),
            strand: Arc::from(""),
        };
        let lanes = BTreeSet::from([key]);
        let begin = async || postgres.begin_system("a test").await.expect("begins");
        // It is there, and empty.
        let mut tx = begin().await;
        hold(&mut tx, NOW, &lanes).await.expect("holds");
        tx.commit().await.expect("commits");
        // Somebody adds work to it, and somebody else who does not hold it says anew when it is due.
        let mut adding = begin().await;
        hold(&mut adding, NOW, &lanes).await.expect("holds");
        sqlx::query(
            "INSERT INTO delivery_queue (tenant, delivery, channel, lane, strand, ord, operation, due_at, expires_at) \
             VALUES ('default', 'dlv_1', 'webhook', 'a.example:443', '', 1, 'deliver', 0, 0)",
        )
        .execute(&mut *adding)
        .await
        .expect("adds");
        let mut looking = begin().await;
        let (pid,): (i32,) = sqlx::query_as("SELECT pg_backend_pid()")
            .fetch_one(&mut *looking)
            .await
            .expect("reads");
        let refreshed = tokio::spawn(async move {
            refresh(&mut looking, NOW, &lanes, None).await.expect("refreshes");
            looking.commit().await.expect("commits");
        });
        let mut waits = async || {
            let (waits,): (i64,) =
                sqlx::query_as("SELECT COUNT(*) FROM pg_locks WHERE pid = $1 AND NOT granted")
                    .bind(pid)
                    .fetch_one(&mut *adding)
                    .await
                    .expect("reads");
            waits > 0
        };
        while !waits().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        adding.commit().await.expect("commits");
        refreshed.await.expect("no panic");
        let mut tx = begin().await;
        let (left,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM lanes")
            .fetch_one(&mut *tx)
            .await
            .expect("reads");
        assert_eq!(left, 1, "its work is led to");
    }
}
